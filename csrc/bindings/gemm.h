// gemm, linear and the two backward products, as Python calls them: what arguments must be, whatever the device.
// K has the device's arrays, as Host has NumPy's, and multiplies.
#pragma once
#include "bindings/checks.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {

/// c[m, n] = a b, either operand stored transposed.
template <class T>
struct Product {
  int64_t m, n, k;
  Matrix<const T> a, b;
  bool transpose_a, transpose_b;
  Matrix<T> c;
};

template <class T>
Matrix<T> rows_of(py::array& array) {
  return {pointer<T>(array), array.shape(1)};
}

template <class K>
py::object gemm(const K& kernels, py::handle a_value, py::handle b_value, py::handle transpose_a_value,
                py::handle transpose_b_value, py::handle alpha_value, py::handle beta_value, py::handle out_value,
                py::handle precision_name) {
  using T = typename K::Number;
  constexpr const char* name = "gemm";
  const network::Precision precision = precision_argument(precision_name, name);
  const bool transpose_a = flag_argument(transpose_a_value, name, "transpose_a");
  const bool transpose_b = flag_argument(transpose_b_value, name, "transpose_b");
  const T alpha = real_argument<T>(alpha_value, name, "alpha"), beta = real_argument<T>(beta_value, name, "beta");
  const auto a = kernels.matrix(a_value, name, "a"), b = kernels.matrix(b_value, name, "b");
  const int64_t m = transpose_a ? a.cols() : a.rows(), k = transpose_a ? a.rows() : a.cols();
  const int64_t n = transpose_b ? b.rows() : b.cols(), inner = transpose_b ? b.cols() : b.rows();
  if (k != inner)
    throw value_error(name, "inner dimensions differ: a" + std::string(transpose_a ? " transposed" : "") + " is " +
                                shape_text({m, k}) + ", b" + (transpose_b ? " transposed" : "") + " is " +
                                shape_text({inner, n}));
  if (beta != 0 && out_value.is_none()) throw value_error(name, "beta is not 0, so out must be given: it is read");
  py::array out = kernels.output(out_value, {m, n}, name, {a.given, b.given});
  kernels.gemm(Product<T>{m, n, k, a.matrix(), b.matrix(), transpose_a != a.transposed, transpose_b != b.transposed,
                          rows_of<T>(out)},
               precision, alpha, beta);
  return kernels.result(out, out_value);
}

template <class K>
py::object linear(const K& kernels, py::handle x_value, py::handle w_value, py::handle b_value,
                  py::handle activation_name, py::handle alpha_value, py::handle scale_value, py::handle out_value,
                  py::handle precision_name) {
  using T = typename K::Number;
  constexpr const char* name = "linear";
  const network::Precision precision = precision_argument(precision_name, name);
  const ops::Activation activation = activation_argument(activation_name, name);
  const T alpha = alpha_argument<T>(activation, alpha_value, name),
          scale = real_argument<T>(scale_value, name, "scale");
  const auto x = kernels.matrix(x_value, name, "x"), w = kernels.matrix(w_value, name, "w");
  if (x.cols() != w.rows())
    throw value_error(name, "x has shape " + shape_text(shape_of(x.array)) + " and w " + shape_text(shape_of(w.array)) +
                                "; the columns of x must be the rows of w");
  Input<T> b;
  if (!b_value.is_none()) {
    b = kernels.array(b_value, name, "b", 1);
    require_shape(b.array, {w.cols()}, name, "b", "(one for each column of w)");
  }
  py::array out = kernels.output(out_value, {x.rows(), w.cols()}, name, {x.given, w.given, b.given});
  kernels.linear(
      Product<T>{x.rows(), w.cols(), x.cols(), x.matrix(), w.matrix(), x.transposed, w.transposed, rows_of<T>(out)},
      precision, b_value.is_none() ? nullptr : b.data(), scale, activation, alpha);
  return kernels.result(out, out_value);
}

template <class K>
py::object linear_backward_input(const K& kernels, py::handle dy_value, py::handle w_value, py::handle saved_value,
                                 py::handle activation_name, py::handle alpha_value, py::handle out_value,
                                 py::handle precision_name) {
  using T = typename K::Number;
  constexpr const char* name = "linear_backward_input";
  const network::Precision precision = precision_argument(precision_name, name);
  const ops::Activation activation = activation_argument(activation_name, name);
  const T alpha = alpha_argument<T>(activation, alpha_value, name);
  const auto dy = kernels.matrix(dy_value, name, "dy"), w = kernels.matrix(w_value, name, "w");
  if (dy.cols() != w.cols())
    throw value_error(name, "dy has shape " + shape_text(shape_of(dy.array)) + " and w " +
                                shape_text(shape_of(w.array)) + "; they must have as many columns");
  const Shape shape{dy.rows(), w.rows()};
  Input<T> saved;
  if (!saved_value.is_none()) {
    saved = kernels.array(saved_value, name, "saved", 2);
    require_shape(saved.array, shape, name, "saved", "of dx");
  } else if (activation != ops::Activation::identity) {
    const ops::ActivationInfo& info = ops::activations[static_cast<int>(activation)];
    throw value_error(name, std::string("activation '") + info.name + "' needs saved, its " +
                                (info.saves == ops::Saves::input ? "input" : "output"));
  }
  py::array out = kernels.output(out_value, shape, name, {dy.given, w.given, saved.given});
  const Matrix<const T> read = activation == ops::Activation::identity ? Matrix<const T>{} : saved.matrix();
  kernels.backward_input(Product<T>{dy.rows(), w.rows(), dy.cols(), dy.matrix(), w.matrix(), dy.transposed,
                                    !w.transposed, rows_of<T>(out)},
                         precision, read, activation, alpha);
  return kernels.result(out, out_value);
}

template <class K>
py::object linear_backward_weights(const K& kernels, py::handle x_value, py::handle dy_value, py::handle out_value,
                                   py::handle precision_name) {
  using T = typename K::Number;
  constexpr const char* name = "linear_backward_weights";
  const network::Precision precision = precision_argument(precision_name, name);
  const auto x = kernels.matrix(x_value, name, "x"), dy = kernels.matrix(dy_value, name, "dy");
  if (x.rows() != dy.rows())
    throw value_error(name, "x has shape " + shape_text(shape_of(x.array)) + " and dy " +
                                shape_text(shape_of(dy.array)) + "; they must have as many rows");
  py::array out = kernels.output(out_value, {x.cols(), dy.cols()}, name, {x.given, dy.given});
  kernels.gemm(
      Product<T>{x.cols(), dy.cols(), x.rows(), x.matrix(), dy.matrix(), !x.transposed, dy.transposed, rows_of<T>(out)},
      precision, 1, 0);
  return kernels.result(out, out_value);
}

}  // namespace mlpfast::bindings
