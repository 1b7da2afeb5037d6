// Optimizer updates: of an array or a gemm tile, and of weights whose gradient is summed on the way.
#pragma once
#include "cpu/isa/gemm.inl.h"

namespace {

/// A register of weights and their slots, from column j of row i on.
template <class V, class F, class Access>
struct Weights {
  const UpdateArgs<typename V::T>* t;
  Access part;
  int64_t at;
  V w, slot[ops::max_slots];

  MLPFAST_INLINE Weights(const UpdateArgs<typename V::T>& args, int64_t i, int64_t j, Access access)
      : t(&args), part(access), at(i * args.w.ld + j), w(part.load(args.w.data + at)) {
    for (int s = 0; s < F::slots; ++s) slot[s] = part.load(t->slots[s] + at);
  }
  MLPFAST_INLINE void step(V dw) { F::step(w, dw * V::all(t->scale), slot, t->scalars); }
  MLPFAST_INLINE void store() const {
    part.store(w, t->w.data + at);
    for (int s = 0; s < F::slots; ++s) part.store(slot[s], t->slots[s] + at);
  }
};

template <class V, class F>
void update(const UpdateArgs<typename V::T>& args) {
  const auto t = args;
  store_rows<V>(t.rows, t.cols, [&](int64_t i) MLPFAST_LAMBDA {
    return [&t, i](int64_t j, auto part) MLPFAST_LAMBDA {
      Weights<V, F, decltype(part)> weights(t, i, j, part);
      weights.step(part.load(t.dw.row(i) + j));
      return weights;
    };
  });
}

/// Fetches weights row by row: all at once they would keep the product's own operands waiting.
template <class V, int MR>
struct Fetch {
  static constexpr int parts = MR;
  Matrix<typename V::T> w;

  MLPFAST_INLINE void operator()(int row) const {
    MLPFAST_UNROLL
    for (int j = 0; j < V::tile_vectors; j += vectors_of_line<V>) __builtin_prefetch(w.row(row) + j * V::lanes, 1);
  }
};

template <class V, class F, class Rows, int MR>
void gemm_update(const UpdateTile<typename V::T>& args) {
  constexpr int NV = V::tile_vectors;
  V sum[MR][NV];
  sum_tile<V, Rows, false, NV, MR>(args.gradient, sum, Fetch<V, MR>{args.update.w});
  const UpdateTile<typename V::T>* later = &args;
  asm volatile("" : "+r"(later));  // keeps the compiler from loading this before, which would spill
  const UpdateArgs<typename V::T> update = later->update;
  MLPFAST_UNROLL
  for (int i = 0; i < MR; ++i) {
    MLPFAST_UNROLL
    for (int j = 0; j < NV; ++j) {
      Weights<V, F, Whole<V>> weights(update, i, j * V::lanes, {});
      weights.step(sum[i][j]);
      weights.store();
    }
  }
}

template <class V, class F, int MR = 1, class Kernels>
constexpr void fill_gemm_update(Kernels& kernels) {
  using T = typename V::T;
  kernels[0][MR - 1] = gemm_update<V, F, RowsAdjacent<T>, MR>;
  if constexpr (packs_strips<V>(true)) kernels[1][MR - 1] = gemm_update<V, F, RowsPacked<T, MR>, MR>;
  if constexpr (MR < V::tile_rows[V::tile_vectors - 1]) fill_gemm_update<V, F, MR + 1>(kernels);
}

/// For N examples, whose numbers for a row of w stay in registers.
template <class V, class F, int N>
void outer_update_of(const OuterUpdateArgs<typename V::T>& args) {
  const auto t = args;
  store_rows<V>(t.update.rows, t.update.cols, [&](int64_t i) MLPFAST_LAMBDA {
    V x[N];
    MLPFAST_UNROLL
    for (int b = 0; b < N; ++b) x[b] = V::all(t.x.row(b)[i]);
    return [&t, i, x](int64_t j, auto part) MLPFAST_LAMBDA {
      V dw = V::all(0);
      MLPFAST_UNROLL
      for (int b = 0; b < N; ++b) dw = fma(x[b], part.load(t.dy.row(b) + j), dw);
      Weights<V, F, decltype(part)> weights(t.update, i, j, part);
      weights.step(dw);
      return weights;
    };
  });
}

template <class V, class F, int N = most_outer_examples>
void outer_update(const OuterUpdateArgs<typename V::T>& t) {
  if (t.examples == N) return outer_update_of<V, F, N>(t);
  if constexpr (N > 1) outer_update<V, F, N - 1>(t);
}

/// N rows of w. With one at a time, sums are loaded and stored as often as weights.
template <class V, class F, int N>
MLPFAST_INLINE void outer_forward_rows(const OuterForwardArgs<typename V::T>& t, int64_t i) {
  V x[N], next[N];
  MLPFAST_UNROLL
  for (int r = 0; r < N; ++r) {
    x[r] = V::all(t.x[i + r]);
    next[r] = V::all(t.next[i + r]);
  }
  for_vectors<V>(t.update.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
    const V dy = part.load(t.dy + j);
    V sum = part.load(t.sums + j);
    MLPFAST_UNROLL
    for (int r = 0; r < N; ++r) {
      Weights<V, F, decltype(part)> weights(t.update, i + r, j, part);
      weights.step(fma(x[r], dy, V::all(0)));
      weights.store();
      sum = fma(next[r], weights.w, sum);
    }
    part.store(sum, t.sums + j);
  });
}

template <class V, class F>
void outer_forward(const OuterForwardArgs<typename V::T>& args) {
  const auto t = args;
  for_vectors<V>(t.update.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA { part.store(V::all(0), t.sums + j); });
  constexpr int at_once = V::tile_vectors > 2 ? 4 : 2;  // what more rows need does not fit into sixteen registers
  int64_t i = 0;
  for (; i + at_once <= t.update.rows; i += at_once) outer_forward_rows<V, F, at_once>(t, i);
  for (; i < t.update.rows; ++i) outer_forward_rows<V, F, 1>(t, i);
}

}  // namespace
