// gemm micro-kernel: c[MR, NV vectors] = (c +) sum over p of a[i, p] * b[p, j], one FMA chain per output in order of p.
// MR * NV accumulators stay in registers; each step loads NV vectors of b and broadcasts MR numbers of a. Wide, low
// tiles load least per FMA: 6 x 4 vectors beat 14 x 2 by 8 % on a busy core of an Emerald Rapids, and tied on an idle
// one. A few rows of a take tiles as wide as registers allow, so that b, which is then read but once, streams.
#pragma once
#include "cpu/isa/elementwise.inl.h"

namespace {

using namespace mlpfast;
using namespace mlpfast::cpu;

/// Rows of a in groups of three, so that base, base + ld and base + 2 ld are one addressing mode each.
template <class T, int MR>
struct RowPointers {
  static constexpr int unroll = 1, prefetch_rows = 4, groups = (MR + 2) / 3;
  const T* base[groups];
  int64_t ld;

  explicit MLPFAST_INLINE RowPointers(Matrix<const T> a) : ld(a.ld) {
    MLPFAST_UNROLL
    for (int g = 0; g < groups; ++g) base[g] = a.row(3 * g);
  }
  MLPFAST_INLINE T at(int i, int) const { return base[i / 3][(i % 3) * ld]; }
  MLPFAST_INLINE void advance(int steps) {
    MLPFAST_UNROLL
    for (int g = 0; g < groups; ++g) {
      base[g] += steps;
      asm volatile("" : "+r"(base[g]));  // keeps the compiler from one pointer per row, which would spill
    }
  }
};

/// Rows of a transposed operand stand side by side. The next ones of the other dimension may lie in another core's
/// cache, where the hardware does not look ahead.
template <class T>
struct RowsAdjacent {
  static constexpr int unroll = 1, prefetch_rows = 4;
  static constexpr int64_t ahead = 32;
  const T* base;
  int64_t ld;

  explicit MLPFAST_INLINE RowsAdjacent(Matrix<const T> a) : base(a.data), ld(a.ld) {}
  MLPFAST_INLINE T at(int i, int) const { return base[i]; }
  MLPFAST_INLINE void advance(int steps) {
    base += steps * ld;
    __builtin_prefetch(base + ahead * ld);
  }
};

/// Rows of a packed strip, at constant distances: 22 instructions a step of 6 x 2 vectors instead of 26, whose number
/// counts on a core that is shared.
template <class T, int MR>
struct RowsPacked {
  static constexpr int unroll = 4, prefetch_rows = 8;
  const T* base;

  explicit MLPFAST_INLINE RowsPacked(Matrix<const T> a) : base(a.data) {}
  MLPFAST_INLINE T at(int i, int step) const { return base[step * MR + i]; }
  MLPFAST_INLINE void advance(int steps) { base += steps * MR; }
};

template <class V>
constexpr int vectors_of_line = V::lanes * sizeof(typename V::T) < 64 ? 64 / (V::lanes * sizeof(typename V::T)) : 1;

/// Nothing to do while a tile is summed.
struct Idle {
  static constexpr int parts = 1;
  MLPFAST_INLINE void operator()(int) const {}
};

/// The sums, which stay in registers; meanwhile(i) comes before part i of the steps.
template <class V, class Rows, bool Partial, int NV, int MR, class Meanwhile>
MLPFAST_INLINE void sum_tile(const GemmTile<typename V::T>& t, V (&sum)[MR][NV], Meanwhile meanwhile) {
  using T = typename V::T;
  constexpr int line = vectors_of_line<V>;
  const int64_t rest = t.cols - (NV - 1) * V::lanes;  // columns of the last vector
  const auto load = [rest](const T* p, int j) {
    return Partial && j == NV - 1 ? V::load(p + j * V::lanes, rest) : V::load(p + j * V::lanes);
  };
  MLPFAST_UNROLL
  for (int i = 0; i < MR; ++i) {
    MLPFAST_UNROLL
    for (int j = 0; j < NV; ++j) sum[i][j] = t.accumulate ? load(t.c.row(i), j) : V::all(0);
  }
  Rows a(t.a);
  const T* b = t.b.data;
  const auto add = [&](const T* row, int step) MLPFAST_LAMBDA {
    MLPFAST_UNROLL
    for (int j = 0; j < NV; j += line) __builtin_prefetch(row + Rows::prefetch_rows * t.b.ld + j * V::lanes);
    if constexpr (MR < NV) {  // the fewer operands wait in registers
      V left[MR];
      MLPFAST_UNROLL
      for (int i = 0; i < MR; ++i) left[i] = V::all(a.at(i, step));
      MLPFAST_UNROLL
      for (int j = 0; j < NV; ++j) {
        const V right = load(row, j);
        MLPFAST_UNROLL
        for (int i = 0; i < MR; ++i) sum[i][j] = fma(left[i], right, sum[i][j]);
      }
    } else {
      V right[NV];
      MLPFAST_UNROLL
      for (int j = 0; j < NV; ++j) right[j] = load(row, j);
      MLPFAST_UNROLL
      for (int i = 0; i < MR; ++i) {
        const V left = V::all(a.at(i, step));
        MLPFAST_UNROLL
        for (int j = 0; j < NV; ++j) sum[i][j] = fma(left, right[j], sum[i][j]);
      }
    }
  };
  constexpr int steps = Rows::unroll;
  int64_t p = 0;
  for (int i = 0; i < Meanwhile::parts; ++i) {
    meanwhile(i);
    const int64_t end = t.k * (i + 1) / Meanwhile::parts;
    for (; p + steps <= end; p += steps, b += steps * t.b.ld, a.advance(steps)) {
      MLPFAST_UNROLL
      for (int step = 0; step < steps; ++step) add(b + step * t.b.ld, step);
    }
  }
  for (; p < t.k; ++p, b += t.b.ld, a.advance(1)) add(b, 0);
}

template <class V, class Rows, bool Partial, int NV, int MR>
void gemm_tile(const GemmTile<typename V::T>& t) {
  if constexpr (Rows::unroll > 1) {  // the next tile's place, which may lie far from any cache
    for (int i = 0; i < MR; ++i) __builtin_prefetch(t.c.row(i) + 2 * NV * V::lanes - 1, 1);
  }
  V sum[MR][NV];
  sum_tile<V, Rows, Partial, NV, MR>(t, sum, Idle{});
  MLPFAST_UNROLL
  for (int i = 0; i < MR; ++i) {
    MLPFAST_UNROLL
    for (int j = 0; j < NV; ++j) {
      typename V::T* c = t.c.row(i) + j * V::lanes;
      if (Partial && j == NV - 1) {
        sum[i][j].store(c, t.cols - j * V::lanes);
      } else {
        sum[i][j].store(c);
      }
    }
  }
}

/// For a single row of a, [k, 1], and a wide b, which a tile would read in short pieces far apart. Here N rows of b are
/// read from end to end; the sums lie in L1, and are loaded and stored once for these N.
template <class V, int N>
MLPFAST_INLINE void add_rows(const GemmTile<typename V::T>& t, int64_t p) {
  using T = typename V::T;
  V left[N];
  MLPFAST_UNROLL
  for (int i = 0; i < N; ++i) left[i] = V::all(*t.a.row(p + i));
  const T* const b = t.b.row(p);
  int64_t j = 0;
  for (; j + 2 * V::lanes <= t.cols; j += 2 * V::lanes) {
    V first = V::load(t.c.data + j), second = V::load(t.c.data + j + V::lanes);
    MLPFAST_UNROLL
    for (int i = 0; i < N; ++i) {
      first = fma(left[i], V::load(b + i * t.b.ld + j), first);
      second = fma(left[i], V::load(b + i * t.b.ld + j + V::lanes), second);
    }
    first.store(t.c.data + j);
    second.store(t.c.data + j + V::lanes);
  }
  for_vectors<V>(t.cols - j, [&](int64_t rest, auto part) MLPFAST_LAMBDA {
    V sum = part.load(t.c.data + j + rest);
    MLPFAST_UNROLL
    for (int i = 0; i < N; ++i) sum = fma(left[i], part.load(b + i * t.b.ld + j + rest), sum);
    part.store(sum, t.c.data + j + rest);
  });
}

template <class V>
void gemm_row(const GemmTile<typename V::T>& args) {
  const auto t = args;
  if (!t.accumulate)
    for_vectors<V>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA { part.store(V::all(0), t.c.data + j); });
  int64_t p = 0;
  for (; p + 4 <= t.k; p += 4) add_rows<V, 4>(t, p);
  for (; p < t.k; ++p) add_rows<V, 1>(t, p);
}

template <class V>
constexpr bool packs_strips(bool transposed) {
  if constexpr (requires { V::blocking; }) {
    return V::blocking.packs_from[transposed] != Blocking::never;
  } else {
    return false;
  }
}

template <class V, int NV, int MR>
constexpr void fill_tile(KernelTable<typename V::T>& table) {
  using T = typename V::T;
  auto& gemm = table.gemm;
  gemm[0][0][NV - 1][MR - 1] = gemm_tile<V, RowPointers<T, MR>, false, NV, MR>;
  gemm[0][1][NV - 1][MR - 1] = gemm_tile<V, RowPointers<T, MR>, true, NV, MR>;
  if constexpr (NV <= V::tile_vectors) {
    gemm[1][0][NV - 1][MR - 1] = gemm_tile<V, RowsAdjacent<T>, false, NV, MR>;
    gemm[1][1][NV - 1][MR - 1] = gemm_tile<V, RowsAdjacent<T>, true, NV, MR>;
  }
  if constexpr ((packs_strips<V>(false) || packs_strips<V>(true)) && NV <= V::tile_vectors &&
                MR <= V::tile_rows[V::tile_vectors - 1]) {
    table.gemm_strip[0][NV - 1][MR - 1] = gemm_tile<V, RowsPacked<T, MR>, false, NV, MR>;
    table.gemm_strip[1][NV - 1][MR - 1] = gemm_tile<V, RowsPacked<T, MR>, true, NV, MR>;
  }
}

template <class V, int NV = 1, int MR = 1>
constexpr void fill_gemm(KernelTable<typename V::T>& table) {
  constexpr int widest = sizeof(V::tile_rows) / sizeof(V::tile_rows[0]);
  table.tile_vectors = V::tile_vectors;
  table.widest_tile = widest;
  table.tile_rows[NV - 1] = V::tile_rows[NV - 1];
  fill_tile<V, NV, MR>(table);
  if constexpr (MR < V::tile_rows[NV - 1]) {
    fill_gemm<V, NV, MR + 1>(table);
  } else if constexpr (NV < widest) {
    fill_gemm<V, NV + 1>(table);
  }
}

/// Registers that a row of a packed strip takes. It is written in whole ones, whose rest the next rows overwrite: the
/// last rows need room.
template <class V>
constexpr int strip_registers = (V::tile_rows[V::tile_vectors - 1] + V::lanes - 1) / V::lanes;

/// n numbers, or a register where there are more.
template <class V>
MLPFAST_INLINE V load_first(const typename V::T* p, int64_t n) {
  return n < V::lanes ? V::load(p, n) : V::load(p);
}

/// strip[p][i] = a[p][i]
template <class V>
void pack_strip(int64_t k, int64_t rows, Matrix<const typename V::T> a, typename V::T* strip) {
  constexpr int64_t lanes = V::lanes, written = strip_registers<V> * lanes, ahead = 16;
  for (int64_t p = 0; p < k; ++p, strip += rows) {
    const typename V::T* row = a.row(p);
    __builtin_prefetch(row + ahead * a.ld);
    MLPFAST_UNROLL
    for (int64_t j = 0; j < written; j += lanes) {
      if (p + written < k) {  // each later row is at least one number further: what lies beyond this one is of a, too
        V::load(row + j).store(strip + j);
      } else if (j < rows) {
        load_first<V>(row + j, rows - j).store(strip + j);
      }
    }
  }
}

/// strip[p][i] = a[i][p]
template <class V>
void pack_strip_transposed(int64_t k, int64_t rows, Matrix<const typename V::T> a, typename V::T* strip) {
  constexpr int64_t lanes = V::lanes;
  constexpr int registers = strip_registers<V>;
  for (int64_t p = 0; p < k; p += lanes) {
    const int64_t depth = k - p < lanes ? k - p : lanes;
    V block[registers][lanes];
    MLPFAST_UNROLL
    for (int j = 0; j < registers; ++j) {
      MLPFAST_UNROLL
      for (int i = 0; i < lanes; ++i)
        block[j][i] = j * lanes + i < rows ? load_first<V>(a.row(j * lanes + i) + p, depth) : V::all(0);
      V::transpose(block[j]);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < lanes; ++i) {
      if (i >= depth) break;
      MLPFAST_UNROLL
      for (int j = 0; j < registers; ++j)
        if (j * lanes < rows) block[j][i].store(strip + j * lanes);
      strip += rows;
    }
  }
}

/// panel[p][j] = b[p][j]
template <class V>
void pack(int64_t k, int64_t cols, Matrix<const typename V::T> b, Matrix<typename V::T> panel) {
  constexpr int64_t ahead = 8;  // rows
  for (int64_t p = 0; p < k; ++p) {
    const typename V::T* row = b.row(p);
    for_vectors<V>(cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
      __builtin_prefetch(row + ahead * b.ld + j);
      part.store(part.load(row + j), panel.row(p) + j);
    });
  }
}

/// panel[p][j] = b[j][p] in blocks of lanes x lanes; columns of the panel beyond `cols` become 0.
template <class V>
void pack_transposed(int64_t k, int64_t cols, Matrix<const typename V::T> b, Matrix<typename V::T> panel) {
  constexpr int lanes = V::lanes;
  for (int64_t j = 0; j < cols; j += lanes) {
    for (int64_t p = 0; p < k; p += lanes) {
      const int64_t depth = k - p < lanes ? k - p : lanes;
      V block[lanes];
      MLPFAST_UNROLL
      for (int i = 0; i < lanes; ++i) {
        const typename V::T* source = b.row(j + i) + p;
        if (j + i >= cols) {
          block[i] = V::all(0);
        } else if (depth == lanes) {
          block[i] = V::load(source);
        } else {
          block[i] = V::load(source, depth);
        }
      }
      V::transpose(block);
      MLPFAST_UNROLL
      for (int i = 0; i < lanes; ++i) {
        if (i < depth) block[i].store(panel.row(p + i) + j);
      }
    }
  }
}

}  // namespace
