// Activations, their gradients, bias_add and column sums on whole arrays.
#include "cpu/elementwise.h"

#include "bindings/checks.h"
#include "bindings/register.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {
namespace {

using cpu::work_per_number;

template <class T>
py::array activation(ops::Activation which, py::handle x_value, py::handle alpha_value, py::handle out_value,
                     const char* name) {
  const T alpha = alpha_argument<T>(which, alpha_value, name);
  const auto x = array_input<T>(x_value, name, "x", -1);
  py::array out = output<T>(out_value, shape_of(x.array), name, {}, {x.given});
  const int64_t n = x.size();
  const cpu::ForwardArgs<T> args{1, n, {x.data(), n}, nullptr, 1, alpha, {}, {pointer<T>(out), n}};
  without_gil(work_per_number * static_cast<double>(n), [&] { cpu::forward(which, args); });
  return out;
}

template <class T>
py::array activation_backward(ops::Activation which, py::handle dy_value, py::handle saved_value,
                              py::handle alpha_value, py::handle out_value, const char* name, const char* saved_name) {
  const T alpha = alpha_argument<T>(which, alpha_value, name);
  const auto dy = array_input<T>(dy_value, name, "dy", -1), saved = array_input<T>(saved_value, name, saved_name, -1);
  require_shape(saved.array, shape_of(dy.array), name, saved_name, "of dy");
  py::array out = output<T>(out_value, shape_of(dy.array), name, {}, {dy.given, saved.given});
  const int64_t n = dy.size();
  const cpu::BackwardArgs<T> args{1, n, {dy.data(), n}, {saved.data(), n}, alpha, {pointer<T>(out), n}};
  without_gil(work_per_number * static_cast<double>(n), [&] { cpu::backward(which, args); });
  return out;
}

template <class T>
py::array bias_add(py::handle x_value, py::handle b_value, py::handle out_value) {
  constexpr const char* name = "bias_add";
  const auto x = array_input<T>(x_value, name, "x", 2);
  const auto b = array_input<T>(b_value, name, "b", 1);
  require_shape(b.array, {x.cols()}, name, "b", "(one for each column of x)");
  py::array out = output<T>(out_value, shape_of(x.array), name, {b.given}, {x.given});
  if (x.cols() == 0) return out;  // however many rows
  const cpu::ForwardArgs<T> args{x.rows(), x.cols(), x.matrix(), b.data(), 1, 0, {}, {pointer<T>(out), x.cols()}};
  without_gil(work_per_number * static_cast<double>(x.size()), [&] { cpu::forward(ops::Activation::identity, args); });
  return out;
}

template <class T>
py::array bias_add_backward(py::handle dy_value, py::handle out_value) {
  constexpr const char* name = "bias_add_backward";
  const auto dy = array_input<T>(dy_value, name, "dy", 2);
  py::array out = output<T>(out_value, {dy.cols()}, name, {dy.given});
  if (dy.cols() == 0) return out;
  without_gil(static_cast<double>(dy.size()),
              [&] { cpu::column_sums(dy.rows(), dy.cols(), dy.matrix(), pointer<T>(out)); });
  return out;
}

}  // namespace

void register_elementwise(py::module_& m) {
  m.def("relu", [](py::handle x, py::handle out) {
    return activation<float>(ops::Activation::relu, x, py::none(), out, "relu");
  });
  m.def("relu_backward", [](py::handle dy, py::handle y, py::handle out) {
    return activation_backward<float>(ops::Activation::relu, dy, y, py::none(), out, "relu_backward", "y");
  });
  m.def("activation", [](py::handle which, py::handle x, py::handle alpha, py::handle out) {
    return activation<float>(activation_argument(which, "activation", "name"), x, alpha, out, "activation");
  });
  m.def("activation_backward", [](py::handle which, py::handle dy, py::handle saved, py::handle alpha, py::handle out) {
    const ops::Activation named = activation_argument(which, "activation_backward", "name");
    return activation_backward<float>(named, dy, saved, alpha, out, "activation_backward", "saved");
  });
  m.def("bias_add", bias_add<float>);
  m.def("bias_add_backward", bias_add_backward<float>);
}

}  // namespace mlpfast::bindings
