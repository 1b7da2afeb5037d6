// Products of NumPy's arrays on the CPU.
#include "bindings/gemm.h"

#include "bindings/register.h"
#include "cpu/tiles.h"

namespace mlpfast::bindings {
namespace {

using cpu::Epilogue;
using cpu::Gemm;
using cpu::Tile;

template <class T>
struct HostGemm : Host<T> {
  void gemm(const Product<T>& p, network::Precision precision, T alpha, T beta) const {
    Gemm<T> problem = gemm_of(p);
    if (alpha == 1 && beta == 0) return run(problem, precision);
    py::array sums;  // partial sums over k must not overwrite the c that beta reads
    if (beta != 0) {
      problem.c = {};
      if (p.k > cpu::max_block_k) {
        sums = py::array_t<T>(Shape{p.m, p.n});
        problem.c = rows_of<T>(sums);
      }
    }
    const auto kernel = cpu::active_table<T>().combine;
    const auto combine = [&](const Tile<T>& t) {
      kernel({t.rows, t.cols, {t.sum.data, t.sum.ld}, alpha, beta, p.c.at(t.i, t.j)});
    };
    run(problem, precision, Epilogue<T>(combine));
  }

  void linear(const Product<T>& p, network::Precision precision, const T* bias, T scale, ops::Activation activation,
              T alpha) const {
    const auto kernel = cpu::active_table<T>().forward[static_cast<int>(activation)];
    const auto finish = [&](const Tile<T>& t) {
      kernel({t.rows, t.cols, {t.sum.data, t.sum.ld}, bias ? bias + t.j : nullptr, scale, alpha, {}, p.c.at(t.i, t.j)});
    };
    run(gemm_of(p), precision, Epilogue<T>(finish));
  }

  void backward_input(const Product<T>& p, network::Precision precision, Matrix<const T> saved,
                      ops::Activation activation, T alpha) const {
    if (!saved.data) return run(gemm_of(p), precision);
    const auto kernel = cpu::active_table<T>().backward[static_cast<int>(activation)];
    const auto finish = [&](const Tile<T>& t) {
      kernel({t.rows, t.cols, {t.sum.data, t.sum.ld}, saved.at(t.i, t.j), alpha, p.c.at(t.i, t.j)});
    };
    run(gemm_of(p), precision, Epilogue<T>(finish));
  }

 private:
  static Gemm<T> gemm_of(const Product<T>& p) {
    return {.m = p.m,
            .n = p.n,
            .k = p.k,
            .a = p.a,
            .b = p.b,
            .transpose_a = p.transpose_a,
            .transpose_b = p.transpose_b,
            .c = p.c};
  }
  static void run(Gemm<T> problem, network::Precision precision, Epilogue<T> epilogue = {}) {
    const double m = static_cast<double>(problem.m), n = static_cast<double>(problem.n);
    if (m == 0 || n == 0) return;
    if (sizeof(T) == sizeof(float)) problem.parts = cpu::tile_parts(problem.m, problem.n, problem.k, precision);
    without_gil(m * n * static_cast<double>(problem.k), [&] { cpu::gemm(problem, epilogue); });
  }
};

}  // namespace

void register_gemm(py::module_& m) {
  m.def("gemm", by_any_array(gemm<HostGemm<float>>, gemm<HostGemm<double>>));
  m.def("linear", by_any_array(linear<HostGemm<float>>, linear<HostGemm<double>>));
  m.def("linear_backward_input",
        by_any_array(linear_backward_input<HostGemm<float>>, linear_backward_input<HostGemm<double>>));
  m.def("linear_backward_weights",
        by_any_array(linear_backward_weights<HostGemm<float>>, linear_backward_weights<HostGemm<double>>));
}

}  // namespace mlpfast::bindings
