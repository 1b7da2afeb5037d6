// Optimizer steps on NumPy's arrays, on the CPU.
#include "bindings/optimizer.h"

#include <algorithm>

#include "bindings/register.h"
#include "cpu/optimizer.h"

namespace mlpfast::bindings {
namespace {

template <class T>
struct HostOptimizer : Host<T> {
  void update(const ops::UpdateRule<T>& rule, int64_t n, const T* dw, T* w) const {
    cpu::UpdateArgs<T> args{1, n, {dw, n}, 1, {w, n}, {}, rule.scalars};
    std::copy(std::begin(rule.slots), std::end(rule.slots), args.slots);
    without_gil(cpu::work_per_parameter * static_cast<double>(n), [&] { cpu::update(rule.optimizer, args); });
  }
};

}  // namespace

void register_optimizer(py::module_& m) {
  m.def("sgd_step", by_written_array(sgd_step<HostOptimizer<float>>, sgd_step<HostOptimizer<double>>));
}

}  // namespace mlpfast::bindings
