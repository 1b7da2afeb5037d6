// gemm, linear and the two backward products.
#include "cpu/tiles.h"

#include "bindings/checks.h"
#include "bindings/register.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {
namespace {

using cpu::Epilogue;
using cpu::Gemm;
using cpu::Tile;

double work_of(int64_t m, int64_t n, int64_t k) {
  return static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

template <class T>
void run(Gemm<T> problem, network::Precision precision, Epilogue<T> epilogue = {}) {
  if (problem.m == 0 || problem.n == 0) return;
  if (sizeof(T) == sizeof(float)) problem.parts = cpu::tile_parts(problem.m, problem.n, problem.k, precision);
  without_gil(work_of(problem.m, problem.n, problem.k), [&] { cpu::gemm(problem, epilogue); });
}

template <class T>
Matrix<T> rows_of(py::array& array) {
  return {pointer<T>(array), array.shape(1)};
}

template <class T>
py::array gemm(py::handle a_value, py::handle b_value, py::handle transpose_a_value, py::handle transpose_b_value,
               py::handle alpha, py::handle beta, py::handle out_value, py::handle precision_name) {
  constexpr const char* name = "gemm";
  const network::Precision precision = precision_argument(precision_name, name);
  const bool transpose_a = flag_argument(transpose_a_value, name, "transpose_a");
  const bool transpose_b = flag_argument(transpose_b_value, name, "transpose_b");
  const T scale = real_argument<T>(alpha, name, "alpha"), keep = real_argument<T>(beta, name, "beta");
  const auto a = matrix_input<T>(a_value, name, "a"), b = matrix_input<T>(b_value, name, "b");
  const int64_t m = transpose_a ? a.cols() : a.rows(), k = transpose_a ? a.rows() : a.cols();
  const int64_t n = transpose_b ? b.rows() : b.cols(), inner = transpose_b ? b.cols() : b.rows();
  if (k != inner)
    throw value_error(name, "inner dimensions differ: a" + std::string(transpose_a ? " transposed" : "") + " is " +
                                shape_text({m, k}) + ", b" + (transpose_b ? " transposed" : "") + " is " +
                                shape_text({inner, n}));
  if (keep != 0 && out_value.is_none()) throw value_error(name, "beta is not 0, so out must be given: it is read");
  py::array out = output<T>(out_value, {m, n}, name, {a.given, b.given});
  const Matrix<T> c = rows_of<T>(out);
  Gemm<T> problem{m, n, k, a.matrix(), b.matrix(), transpose_a != a.transposed, transpose_b != b.transposed, c};
  py::array sums;  // partial sums over k must not overwrite the c that beta reads
  if (keep != 0) {
    problem.c = {};
    if (k > cpu::max_block_k) {
      sums = py::array_t<T>(Shape{m, n});
      problem.c = rows_of<T>(sums);
    }
  }
  const auto kernel = cpu::active_table<T>().combine;
  const auto combine = [&](const Tile<T>& t) {
    kernel({t.rows, t.cols, {t.sum.data, t.sum.ld}, scale, keep, c.at(t.i, t.j)});
  };
  run(problem, precision, scale == 1 && keep == 0 ? Epilogue<T>() : Epilogue<T>(combine));
  return out;
}

template <class T>
py::array linear(py::handle x_value, py::handle w_value, py::handle b_value, py::handle activation_name,
                 py::handle alpha_value, py::handle scale_value, py::handle out_value, py::handle precision_name) {
  constexpr const char* name = "linear";
  const network::Precision precision = precision_argument(precision_name, name);
  const ops::Activation activation = activation_argument(activation_name, name);
  const T alpha = alpha_argument<T>(activation, alpha_value, name),
          scale = real_argument<T>(scale_value, name, "scale");
  const auto x = matrix_input<T>(x_value, name, "x"), w = matrix_input<T>(w_value, name, "w");
  if (x.cols() != w.rows())
    throw value_error(name, "x has shape " + shape_text(shape_of(x.array)) + " and w " + shape_text(shape_of(w.array)) +
                                "; the columns of x must be the rows of w");
  Input<T> b;
  if (!b_value.is_none()) {
    b = array_input<T>(b_value, name, "b", 1);
    require_shape(b.array, {w.cols()}, name, "b", "(one for each column of w)");
  }
  py::array out = output<T>(out_value, {x.rows(), w.cols()}, name, {x.given, w.given, b.given});
  const Matrix<T> y = rows_of<T>(out);
  const T* bias = b_value.is_none() ? nullptr : b.data();
  const auto kernel = cpu::active_table<T>().forward[static_cast<int>(activation)];
  const auto finish = [&](const Tile<T>& t) {
    kernel({t.rows, t.cols, {t.sum.data, t.sum.ld}, bias ? bias + t.j : nullptr, scale, alpha, {}, y.at(t.i, t.j)});
  };
  run<T>({x.rows(), w.cols(), x.cols(), x.matrix(), w.matrix(), x.transposed, w.transposed, y}, precision,
         Epilogue<T>(finish));
  return out;
}

template <class T>
py::array linear_backward_input(py::handle dy_value, py::handle w_value, py::handle saved_value,
                                py::handle activation_name, py::handle alpha_value, py::handle out_value,
                                py::handle precision_name) {
  constexpr const char* name = "linear_backward_input";
  const network::Precision precision = precision_argument(precision_name, name);
  const ops::Activation activation = activation_argument(activation_name, name);
  const T alpha = alpha_argument<T>(activation, alpha_value, name);
  const auto dy = matrix_input<T>(dy_value, name, "dy"), w = matrix_input<T>(w_value, name, "w");
  if (dy.cols() != w.cols())
    throw value_error(name, "dy has shape " + shape_text(shape_of(dy.array)) + " and w " +
                                shape_text(shape_of(w.array)) + "; they must have as many columns");
  const Shape shape{dy.rows(), w.rows()};
  Input<T> saved;
  if (!saved_value.is_none()) {
    saved = array_input<T>(saved_value, name, "saved", 2);
    require_shape(saved.array, shape, name, "saved", "of dx");
  } else if (activation != ops::Activation::identity) {
    const ops::ActivationInfo& info = ops::activations[static_cast<int>(activation)];
    throw value_error(name, std::string("activation '") + info.name + "' needs saved, its " +
                                (info.saves == ops::Saves::input ? "input" : "output"));
  }
  py::array out = output<T>(out_value, shape, name, {dy.given, w.given, saved.given});
  const Matrix<T> dx = rows_of<T>(out);
  const auto kernel = cpu::active_table<T>().backward[static_cast<int>(activation)];
  const auto finish = [&](const Tile<T>& t) {
    kernel({t.rows, t.cols, {t.sum.data, t.sum.ld}, saved.matrix().at(t.i, t.j), alpha, dx.at(t.i, t.j)});
  };
  const bool plain = activation == ops::Activation::identity;
  run<T>({dy.rows(), w.rows(), dy.cols(), dy.matrix(), w.matrix(), dy.transposed, !w.transposed, dx}, precision,
         plain ? Epilogue<T>() : Epilogue<T>(finish));
  return out;
}

template <class T>
py::array linear_backward_weights(py::handle x_value, py::handle dy_value, py::handle out_value,
                                  py::handle precision_name) {
  constexpr const char* name = "linear_backward_weights";
  const network::Precision precision = precision_argument(precision_name, name);
  const auto x = matrix_input<T>(x_value, name, "x"), dy = matrix_input<T>(dy_value, name, "dy");
  if (x.rows() != dy.rows())
    throw value_error(name, "x has shape " + shape_text(shape_of(x.array)) + " and dy " +
                                shape_text(shape_of(dy.array)) + "; they must have as many rows");
  py::array out = output<T>(out_value, {x.cols(), dy.cols()}, name, {x.given, dy.given});
  run<T>({x.cols(), dy.cols(), x.rows(), x.matrix(), dy.matrix(), !x.transposed, dy.transposed, rows_of<T>(out)},
         precision);
  return out;
}

}  // namespace

void register_gemm(py::module_& m) {
  m.def("gemm", by_any_array(gemm<float>, gemm<double>));
  m.def("linear", by_any_array(linear<float>, linear<double>));
  m.def("linear_backward_input", by_any_array(linear_backward_input<float>, linear_backward_input<double>));
  m.def("linear_backward_weights", by_any_array(linear_backward_weights<float>, linear_backward_weights<double>));
}

}  // namespace mlpfast::bindings
