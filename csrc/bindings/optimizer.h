// Optimizer steps in place, as Python calls them: what arguments must be, whatever the device. K has the device's
// arrays, as Host has NumPy's, and updates.
#pragma once
#include "bindings/checks.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {

template <class K>
void sgd_step(const K& kernels, py::handle w_value, py::handle dw_value, py::handle lr, py::handle momentum,
              py::handle velocity_value, py::handle nesterov, py::handle weight_decay) {
  using T = typename K::Number;
  constexpr const char* name = "sgd_step";
  const ops::StepScalars<T> scalars = sgd_scalars<T>(lr, momentum, nesterov, weight_decay, name);
  const auto dw = kernels.array(dw_value, name, "dw");  // first: it may run code of the user's, which may change w
  py::array w = kernels.in_place(w_value, name, "w"), velocity;
  require_shape(dw.array, shape_of(w), name, "dw", "of w");
  const bool moving = !velocity_value.is_none();
  if (scalars.momentum != 0 && !moving)
    throw value_error(name, "momentum is not 0, so velocity must be given: an array of zeros before the first step");
  if (moving) {
    velocity = kernels.in_place(velocity_value, name, "velocity");
    require_shape(velocity, shape_of(w), name, "velocity", "of w");
  }
  const auto apart = [](const Extent& a, const Extent& b, const char* text) {
    if (a.overlaps(b)) throw value_error(name, std::string(text) + " in memory; pass separate arrays");
  };
  apart(Extent(w), dw.given, "w overlaps dw");
  apart(Extent(w), Extent(velocity), "w overlaps velocity");
  apart(Extent(velocity), dw.given, "velocity overlaps dw");
  const ops::UpdateRule<T> rule{
      moving ? ops::Optimizer::momentum : ops::Optimizer::sgd, scalars, {moving ? pointer<T>(velocity) : nullptr}};
  kernels.update(rule, w.size(), dw.data(), pointer<T>(w));
}

}  // namespace mlpfast::bindings
