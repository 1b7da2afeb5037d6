// Activations, their gradients, bias_add and column sums on whole arrays.
#include "cpu/elementwise.h"

#include "bindings/checks.h"
#include "bindings/register.h"

namespace mlpfast::bindings {
namespace {

using cpu::work_per_number;

template <class T>
py::array act(const std::string& activation_name, py::handle x_value, py::handle alpha_value, py::handle out_value,
              const char* name) {
  const ops::Activation which = activation_named(activation_name, name);
  const T alpha = static_cast<T>(alpha_or_default(which, alpha_value, name));
  const auto x = array_input<T>(x_value, name, "x", -1);
  py::array out = output<T>(out_value, shape_of(x.array), name, {&x.array}, &x.array);
  const int64_t n = x.size();
  const cpu::ForwardArgs<T> args{1, n, {x.data(), n}, nullptr, 1, alpha, {}, {pointer<T>(out), n}};
  without_gil(work_per_number * static_cast<double>(n), [&] { cpu::forward(which, args); });
  return out;
}

template <class T>
py::array act_backward(const std::string& activation_name, py::handle dy_value, py::handle saved_value,
                       py::handle alpha_value, py::handle out_value, const char* name, const char* saved_name) {
  const ops::Activation which = activation_named(activation_name, name);
  const T alpha = static_cast<T>(alpha_or_default(which, alpha_value, name));
  const auto dy = array_input<T>(dy_value, name, "dy", -1), saved = array_input<T>(saved_value, name, saved_name, -1);
  require_shape(saved.array, shape_of(dy.array), name, saved_name, "of dy");
  const bool into_dy = !out_value.is_none() && py::isinstance<py::array>(out_value) &&
                       py::reinterpret_borrow<py::array>(out_value).data() == dy.array.data();
  py::array out =
      output<T>(out_value, shape_of(dy.array), name, {&dy.array, &saved.array}, into_dy ? &dy.array : &saved.array);
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
  py::array out = output<T>(out_value, shape_of(x.array), name, {&x.array, &b.array}, &x.array);
  const cpu::ForwardArgs<T> args{x.rows(), x.cols(), x.matrix(), b.data(), 1, 0, {}, {pointer<T>(out), x.cols()}};
  without_gil(work_per_number * static_cast<double>(x.size()), [&] { cpu::forward(ops::Activation::identity, args); });
  return out;
}

template <class T>
py::array bias_add_backward(py::handle dy_value, py::handle out_value) {
  constexpr const char* name = "bias_add_backward";
  const auto dy = array_input<T>(dy_value, name, "dy", 2);
  py::array out = output<T>(out_value, {dy.cols()}, name, {&dy.array});
  without_gil(static_cast<double>(dy.size()),
              [&] { cpu::column_sums(dy.rows(), dy.cols(), dy.matrix(), pointer<T>(out)); });
  return out;
}

template <class T>
py::array activation(const std::string& which, py::handle x, py::handle alpha, py::handle out) {
  return act<T>(which, x, alpha, out, "activation");
}

template <class T>
py::array activation_backward(const std::string& which, py::handle dy, py::handle saved, py::handle alpha,
                              py::handle out) {
  return act_backward<T>(which, dy, saved, alpha, out, "activation_backward", "saved");
}

template <class T>
py::array relu(py::handle x, py::handle out) {
  return act<T>("relu", x, py::none(), out, "relu");
}

template <class T>
py::array relu_backward(py::handle dy, py::handle y, py::handle out) {
  return act_backward<T>("relu", dy, y, py::none(), out, "relu_backward", "y");
}

}  // namespace

void register_elementwise(py::module_& m) {
  m.def("activation", by_any_array(activation<float>, activation<double>));
  m.def("activation_backward", by_any_array(activation_backward<float>, activation_backward<double>));
  m.def("relu", by_any_array(relu<float>, relu<double>));
  m.def("relu_backward", by_any_array(relu_backward<float>, relu_backward<double>));
  m.def("bias_add", by_any_array(bias_add<float>, bias_add<double>));
  m.def("bias_add_backward", by_any_array(bias_add_backward<float>, bias_add_backward<double>));
}

}  // namespace mlpfast::bindings
