// Optimizer steps on arrays, in place.
#include "cpu/optimizer.h"

#include "bindings/checks.h"
#include "bindings/register.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {
namespace {

template <class T>
void sgd_step(py::handle w_value, py::handle dw_value, double lr, double momentum, py::handle velocity_value,
              bool nesterov, double weight_decay) {
  constexpr const char* name = "sgd_step";
  py::array w = in_place<T>(w_value, name, "w"), velocity;
  const auto dw = array_input<T>(dw_value, name, "dw", -1);
  require_shape(dw.array, shape_of(w), name, "dw", "of w");
  const bool moving = !velocity_value.is_none();
  if (momentum != 0 && !moving)
    throw value_error(name, "momentum is not 0, so velocity must be given: an array of zeros before the first step");
  if (moving) {
    velocity = in_place<T>(velocity_value, name, "velocity");
    require_shape(velocity, shape_of(w), name, "velocity", "of w");
  }
  const auto apart = [](const py::array& a, const py::array& b, const char* text) {
    if (overlap(a, b)) throw value_error(name, std::string(text) + " in memory; pass separate arrays");
  };
  apart(w, dw.array, "w overlaps dw");
  apart(w, velocity, "w overlaps velocity");
  apart(velocity, dw.array, "velocity overlaps dw");
  cpu::UpdateArgs<T> args{1, w.size(), {dw.data(), w.size()}, 1, {pointer<T>(w), w.size()}, {}, {}};
  if (moving) args.slots[0] = pointer<T>(velocity);
  args.scalars = sgd_scalars<T>(lr, momentum, nesterov, weight_decay, name);
  const auto which = moving ? ops::Optimizer::momentum : ops::Optimizer::sgd;
  without_gil(cpu::work_per_parameter * static_cast<double>(w.size()), [&] { cpu::update(which, args); });
}

}  // namespace

void register_optimizer(py::module_& m) { m.def("sgd_step", by_first_array(sgd_step<float>, sgd_step<double>)); }

}  // namespace mlpfast::bindings
