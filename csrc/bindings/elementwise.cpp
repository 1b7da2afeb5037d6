// Activations, their gradients, bias_add and column sums of NumPy's arrays on the CPU.
#include "bindings/elementwise.h"

#include "bindings/register.h"
#include "cpu/elementwise.h"

namespace mlpfast::bindings {
namespace {

template <class T>
struct HostElementwise : Host<T> {
  void forward(ops::Activation which, int64_t rows, int64_t cols, const T* x, const T* bias, T alpha, T* y) const {
    const cpu::ForwardArgs<T> args{rows, cols, {x, cols}, bias, 1, alpha, {}, {y, cols}};
    without_gil(work(rows, cols), [&] { cpu::forward(which, args); });
  }
  void backward(ops::Activation which, int64_t n, const T* dy, const T* saved, T alpha, T* dx) const {
    const cpu::BackwardArgs<T> args{1, n, {dy, n}, {saved, n}, alpha, {dx, n}};
    without_gil(work(1, n), [&] { cpu::backward(which, args); });
  }
  void column_sums(int64_t rows, int64_t cols, const T* dy, T* db) const {
    without_gil(work(rows, cols) / cpu::work_per_number, [&] { cpu::column_sums<T>(rows, cols, {dy, cols}, db); });
  }

 private:
  static double work(int64_t rows, int64_t cols) {
    return cpu::work_per_number * static_cast<double>(rows) * static_cast<double>(cols);
  }
};

}  // namespace

void register_elementwise(py::module_& m) {
  m.def("activation", by_any_array(activation<HostElementwise<float>>, activation<HostElementwise<double>>));
  m.def("activation_backward",
        by_any_array(activation_backward<HostElementwise<float>>, activation_backward<HostElementwise<double>>));
  m.def("relu", by_any_array(relu<HostElementwise<float>>, relu<HostElementwise<double>>));
  m.def("relu_backward", by_any_array(relu_backward<HostElementwise<float>>, relu_backward<HostElementwise<double>>));
  m.def("bias_add", by_any_array(bias_add<HostElementwise<float>>, bias_add<HostElementwise<double>>));
  m.def("bias_add_backward",
        by_any_array(bias_add_backward<HostElementwise<float>>, bias_add_backward<HostElementwise<double>>));
}

}  // namespace mlpfast::bindings
