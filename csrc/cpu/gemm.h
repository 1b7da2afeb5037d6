// gemm: c[m, n] = a[m, k] * b[k, n], row-major, either operand stored transposed. Loops, packing and threads; the
// micro-kernels are in isa/. An epilogue finishes each tile while it lies in L1.
#pragma once
#include "cpu/scratch.h"
#include "cpu/team.h"

namespace mlpfast::cpu {

/// Weights, of which a product is the gradient.
template <class T>
struct WeightsUpdate {
  ops::Optimizer optimizer;
  UpdateArgs<T> args;  // without dw
};

template <class T>
struct Gemm {
  int64_t m, n, k;
  Matrix<const T> a, b;
  bool transpose_a = false, transpose_b = false;
  Matrix<T> c = {};       // may be null where k <= max_block_k and the epilogue stores the result
  int parts = 0;          // of tile_parts(): the whole product is computed by tiles, where this is not 0
  bool laid_out = false;  // b is a copy by lay_out()
  const WeightsUpdate<T>* update = nullptr;  // which whole tiles make from registers, the epilogue of the others
};

/// Numbers from row to row of an array of ours: rows start on a cache line, and not at multiples of 1 KiB, which would
/// crowd them into a few cache sets.
template <class T>
constexpr int64_t pitch(int64_t cols) {
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t ld = round_up(cols, line);
  return ld % (1024 / sizeof(T)) == 0 ? ld + line : ld;
}

/// Whether b is worth a copy that many rows of a will read: its rows crowd in the caches, or lie off their lines
/// where that costs.
template <class T>
bool lies_badly(const KernelTable<T>& table, std::uintptr_t address, int64_t ld, bool transpose_a);

/// This member's share of copy[k, n] = b, or its transpose, of rows of pitch() numbers. A barrier must follow.
template <class T>
void lay_out(const Team& team, const KernelTable<T>& table, const Gemm<T>& problem, Matrix<T> copy);

/// A finished tile: sums of rows i .. i + rows, columns j .. j + cols. They lie in c, or in memory of the thread.
template <class T>
struct Tile {
  int64_t i, j, rows, cols;
  Matrix<T> sum;
};

/// Reference to a callable that finishes tiles, or none.
template <class T>
class Epilogue {
 public:
  Epilogue() = default;
  template <class F>
  explicit Epilogue(const F& f)
      : call_([](const void* c, const Tile<T>& tile) { (*static_cast<const F*>(c))(tile); }), callable_(&f) {}
  template <class F>
  explicit Epilogue(const F&&) = delete;  // it would outlive what it refers to

  explicit operator bool() const { return call_ != nullptr; }
  void operator()(const Tile<T>& tile) const { call_(callable_, tile); }

 private:
  void (*call_)(const void*, const Tile<T>&) = nullptr;
  const void* callable_ = nullptr;
};

/// The part rows x cols of a product, by the calling thread alone.
template <class T>
void gemm_part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols, Epilogue<T> epilogue = {});

/// The whole product by a team whose size follows from the shape. An epilogue that reads the output it writes (beta)
/// needs the sums apart from it: problem.c null, or an array of its own.
template <class T>
void gemm(const Gemm<T>& problem, Epilogue<T> epilogue = {});

/// Some rows by the members of a team, who take units of them until none are left. Not until a barrier are all
/// finished.
template <class T>
void gemm_by_team(Team& team, const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Epilogue<T> epilogue);

int gemm_threads(int64_t m, int64_t n, int64_t k);

extern template void gemm_part<float>(const KernelTable<float>&, const Gemm<float>&, Range, Range, Epilogue<float>);
extern template bool lies_badly<float>(const KernelTable<float>&, std::uintptr_t, int64_t, bool);
extern template bool lies_badly<double>(const KernelTable<double>&, std::uintptr_t, int64_t, bool);
extern template void lay_out<float>(const Team&, const KernelTable<float>&, const Gemm<float>&, Matrix<float>);
extern template void lay_out<double>(const Team&, const KernelTable<double>&, const Gemm<double>&, Matrix<double>);
extern template void gemm_by_team<float>(Team&, const KernelTable<float>&, const Gemm<float>&, Range, Epilogue<float>);
extern template void gemm<float>(const Gemm<float>&, Epilogue<float>);
extern template void gemm_part<double>(const KernelTable<double>&, const Gemm<double>&, Range, Range, Epilogue<double>);
extern template void gemm_by_team<double>(Team&, const KernelTable<double>&, const Gemm<double>&, Range,
                                          Epilogue<double>);
extern template void gemm<double>(const Gemm<double>&, Epilogue<double>);

}  // namespace mlpfast::cpu
