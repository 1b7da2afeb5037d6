// Activations, their gradients, bias_add and column sums, as Python calls them: what arguments must be, whatever the
// device. K has the device's arrays, as Host has NumPy's, and computes.
#pragma once
#include "bindings/checks.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {

template <class K>
py::object act(const K& kernels, ops::Activation which, py::handle x_value, py::handle alpha_value,
               py::handle out_value, const char* name) {
  using T = typename K::Number;
  const T alpha = alpha_argument<T>(which, alpha_value, name);
  const auto x = kernels.array(x_value, name, "x");
  py::array out = kernels.output(out_value, shape_of(x.array), name, {}, {x.given});
  kernels.forward(which, 1, x.size(), x.data(), nullptr, alpha, pointer<T>(out));
  return kernels.result(out, out_value);
}

template <class K>
py::object act_backward(const K& kernels, ops::Activation which, py::handle dy_value, py::handle saved_value,
                        py::handle alpha_value, py::handle out_value, const char* name, const char* saved_name) {
  using T = typename K::Number;
  const T alpha = alpha_argument<T>(which, alpha_value, name);
  const auto dy = kernels.array(dy_value, name, "dy"), saved = kernels.array(saved_value, name, saved_name);
  require_shape(saved.array, shape_of(dy.array), name, saved_name, "of dy");
  py::array out = kernels.output(out_value, shape_of(dy.array), name, {}, {dy.given, saved.given});
  kernels.backward(which, dy.size(), dy.data(), saved.data(), alpha, pointer<T>(out));
  return kernels.result(out, out_value);
}

template <class K>
py::object bias_add(const K& kernels, py::handle x_value, py::handle b_value, py::handle out_value) {
  using T = typename K::Number;
  constexpr const char* name = "bias_add";
  const auto x = kernels.array(x_value, name, "x", 2), b = kernels.array(b_value, name, "b", 1);
  require_shape(b.array, {x.cols()}, name, "b", "(one for each column of x)");
  py::array out = kernels.output(out_value, shape_of(x.array), name, {b.given}, {x.given});
  if (x.size() > 0)
    kernels.forward(ops::Activation::identity, x.rows(), x.cols(), x.data(), b.data(), T(0), pointer<T>(out));
  return kernels.result(out, out_value);
}

template <class K>
py::object bias_add_backward(const K& kernels, py::handle dy_value, py::handle out_value) {
  using T = typename K::Number;
  constexpr const char* name = "bias_add_backward";
  const auto dy = kernels.array(dy_value, name, "dy", 2);
  py::array out = kernels.output(out_value, {dy.cols()}, name, {dy.given});
  if (dy.cols() > 0) kernels.column_sums(dy.rows(), dy.cols(), dy.data(), pointer<T>(out));
  return kernels.result(out, out_value);
}

template <class K>
py::object activation(const K& kernels, py::handle which, py::handle x, py::handle alpha, py::handle out) {
  return act(kernels, activation_argument(which, "activation", "name"), x, alpha, out, "activation");
}

template <class K>
py::object activation_backward(const K& kernels, py::handle which, py::handle dy, py::handle saved, py::handle alpha,
                               py::handle out) {
  const ops::Activation named = activation_argument(which, "activation_backward", "name");
  return act_backward(kernels, named, dy, saved, alpha, out, "activation_backward", "saved");
}

template <class K>
py::object relu(const K& kernels, py::handle x, py::handle out) {
  return act(kernels, ops::Activation::relu, x, py::none(), out, "relu");
}

template <class K>
py::object relu_backward(const K& kernels, py::handle dy, py::handle y, py::handle out) {
  return act_backward(kernels, ops::Activation::relu, dy, y, py::none(), out, "relu_backward", "y");
}

}  // namespace mlpfast::bindings
