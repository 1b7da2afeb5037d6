// Row-wise kernels: activations forward and backward, alpha-beta combination, column sums, uint8 features. Each takes
// rows x cols, so that gemm uses it on a tile just finished and the elementwise API on an array.
#pragma once
#include "cpu/dispatch.h"

namespace {

using namespace mlpfast;
using namespace mlpfast::cpu;

#define MLPFAST_LAMBDA __attribute__((always_inline))

/// Access to a whole register of a row.
template <class V>
struct Whole {
  using T = typename V::T;
  MLPFAST_INLINE V load(const T* p, T = 0) const { return V::load(p); }
  MLPFAST_INLINE V load_uint8(const std::uint8_t* p) const { return V::load_uint8(p); }
  MLPFAST_INLINE void store(V v, T* p) const { v.store(p); }
};

/// Access to n < lanes numbers, the last or first of a row; the other lanes read as `fill`.
template <class V>
struct Part {
  using T = typename V::T;
  int64_t n;

  MLPFAST_INLINE V load(const T* p, T fill = 0) const { return V::load(p, n, fill); }
  MLPFAST_INLINE V load_uint8(const std::uint8_t* p) const { return V::load_uint8(p, n); }
  MLPFAST_INLINE void store(V v, T* p) const { v.store(p, n); }
};

/// The same, stored in pieces: the row that follows in memory would wait for a masked store to reach the cache, as
/// do all loads of what lies within 64 bytes of it (softmax of 100 classes in place on Zen 5: 1.5 times as fast).
template <class V>
struct Pieces : Part<V> {
  MLPFAST_INLINE void store(V v, typename V::T* p) const {
    typename V::T lane[V::lanes];
    v.store(lane);
    int64_t done = 0;
    MLPFAST_UNROLL
    for (int64_t width = V::lanes / 2; width > 0; width /= 2) {
      if ((this->n & width) == 0) continue;
      __builtin_memcpy(p + done, lane + done, static_cast<std::size_t>(width) * sizeof *p);
      done += width;
    }
  }
};

/// Access to a whole register, stored past the caches (non-temporally) where the machine can, to an aligned place.
template <class V>
struct Streamed : Whole<V> {
  MLPFAST_INLINE void store(V v, typename V::T* p) const {
    if constexpr (requires { v.stream(p); }) {
      v.stream(p);
    } else {
      v.store(p);
    }
  }
};

/// What was streamed is seen by other threads before what is stored after this.
template <class V>
MLPFAST_INLINE void end_streams() {
  if constexpr (requires { V::end_streams(); }) V::end_streams();
}

/// f(column, access) over a row of n numbers, a register at a time.
template <class V, template <class> class Last = Part, class F>
MLPFAST_INLINE void for_vectors(int64_t n, F&& f) {
  int64_t j = 0;
  for (; j + V::lanes <= n; j += V::lanes) f(j, Whole<V>{});
  if (j < n) f(j, Last<V>{n - j});
}

/// Stores what f(row)(column, access) makes of every register of an array, which it may read: after all loads that
/// reach into it, since those would wait until the store is in the cache (10 columns on Zen 5: 6 ns a row instead of
/// 0.4), though masks keep them apart. So the last columns of a row of some registers are a whole one, and a row of
/// less than one is stored when the next has been loaded.
template <class V, class F>
MLPFAST_INLINE void store_rows(int64_t rows, int64_t cols, F&& f) {
  if (rows == 0 || cols == 0) return;
  const int64_t last = cols - V::lanes;
  if (last < 0) {
    const Part<V> part{cols};
    auto made = f(0)(0, part);
    for (int64_t i = 1; i < rows; ++i) {
      const auto next = f(i)(0, part);
      made.store();
      made = next;
    }
    return made.store();
  }
  const bool overlaps = cols % V::lanes > 0;
  for (int64_t i = 0; i < rows; ++i) {
    const auto row = f(i);
    if (overlaps) {
      const auto made = row(last, Whole<V>{});
      for (int64_t j = 0; j <= last; j += V::lanes) row(j, Whole<V>{}).store();
      made.store();
    } else {
      for (int64_t j = 0; j < cols; j += V::lanes) row(j, Whole<V>{}).store();
    }
  }
}

/// A register on its way to its place.
template <class V, class Access>
struct Made {
  Access part;
  V v;
  typename V::T* place;

  MLPFAST_INLINE void store() const { part.store(v, place); }
};

/// Numbers from p on before a place where whole registers can be streamed to.
template <class V>
MLPFAST_INLINE int64_t until_aligned(const typename V::T* p) {
  constexpr std::uintptr_t size = V::lanes * sizeof(typename V::T);
  return static_cast<int64_t>((size - reinterpret_cast<std::uintptr_t>(p) % size) % size / sizeof(typename V::T));
}

// Kernels copy their arguments: a store might alias these, and the compiler would load them again after each (an update
// took 23 instructions a register instead of 8); a local copy cannot be aliased.

/// The argument of an activation, which may be kept, and its value.
template <class V, class Access>
struct Activated {
  Made<V, Access> z, y;

  MLPFAST_INLINE void store() const {
    if (z.place) z.store();
    y.store();
  }
};

template <class V, class F>
void forward(const ForwardArgs<typename V::T>& args) {
  const auto t = args;
  using T = typename V::T;
  const V scale = V::all(t.scale), alpha = V::all(t.alpha);
  const bool save = F::saves == ops::Saves::input && t.saved.data;
  store_rows<V>(t.rows, t.cols, [&](int64_t i) MLPFAST_LAMBDA {
    const T* const x = t.x.row(i);
    T *const y = t.y.row(i), *const saved = save ? t.saved.row(i) : nullptr;
    return [&, x, y, saved](int64_t j, auto part) MLPFAST_LAMBDA {
      V z = part.load(x + j) * scale;
      if (t.bias) z = z + part.load(t.bias + j);
      using Access = decltype(part);
      return Activated<V, Access>{{part, z, save ? saved + j : nullptr}, {part, F::forward(z, alpha), y + j}};
    };
  });
}

template <class V, class F>
void backward(const BackwardArgs<typename V::T>& args) {
  const auto t = args;
  const V alpha = V::all(t.alpha);
  store_rows<V>(t.rows, t.cols, [&](int64_t i) MLPFAST_LAMBDA {
    return [&, i](int64_t j, auto part) MLPFAST_LAMBDA {
      const V dx = F::backward(part.load(t.saved.row(i) + j), part.load(t.dy.row(i) + j), alpha);
      return Made<V, decltype(part)>{part, dx, t.dx.row(i) + j};
    };
  });
}

template <class V>
void combine(const CombineArgs<typename V::T>& args) {
  const auto t = args;
  const V alpha = V::all(t.alpha), beta = V::all(t.beta);
  store_rows<V>(t.rows, t.cols, [&](int64_t i) MLPFAST_LAMBDA {
    return [&, i](int64_t j, auto part) MLPFAST_LAMBDA {
      V y = alpha * part.load(t.x.row(i) + j);
      if (t.beta != 0) y = fma(beta, part.load(t.c.row(i) + j), y);
      return Made<V, decltype(part)>{part, y, t.c.row(i) + j};
    };
  });
}

/// Rows are added in order within blocks of 128 and then block by block: the error grows with 128 + rows / 128.
template <class V, int N, class Access>
MLPFAST_INLINE void sum_columns(int64_t rows, Matrix<const typename V::T> x, typename V::T* sums, Access part) {
  constexpr int64_t block = 128;
  V total[N];
  MLPFAST_UNROLL
  for (int n = 0; n < N; ++n) total[n] = V::all(0);
  for (int64_t start = 0; start < rows; start += block) {
    const int64_t end = start + block < rows ? start + block : rows;
    V sum[N];
    MLPFAST_UNROLL
    for (int n = 0; n < N; ++n) sum[n] = V::all(0);
    for (int64_t i = start; i < end; ++i) {
      MLPFAST_UNROLL
      for (int n = 0; n < N; ++n) sum[n] = sum[n] + part.load(x.row(i) + n * V::lanes);
    }
    MLPFAST_UNROLL
    for (int n = 0; n < N; ++n) total[n] = total[n] + sum[n];
  }
  MLPFAST_UNROLL
  for (int n = 0; n < N; ++n) part.store(total[n], sums + n * V::lanes);
}

/// Several registers at a time: a sum alone would wait for itself at each row.
template <class V>
void column_sums(int64_t rows, int64_t cols, Matrix<const typename V::T> x, typename V::T* sums) {
  constexpr int at_once = 4;
  int64_t j = 0;
  for (; j + at_once * V::lanes <= cols; j += at_once * V::lanes)
    sum_columns<V, at_once>(rows, x.at(0, j), sums + j, Whole<V>{});
  for_vectors<V>(cols - j, [&](int64_t rest, auto part)
                               MLPFAST_LAMBDA { sum_columns<V, 1>(rows, x.at(0, j + rest), sums + j + rest, part); });
}

template <class V>
void load_uint8(int64_t n, const std::uint8_t* x, typename V::T shift, typename V::T* y) {
  const V offset = V::all(shift);
  for_vectors<V>(n, [&](int64_t j, auto part) MLPFAST_LAMBDA { part.store(part.load_uint8(x + j) - offset, y + j); });
}

}  // namespace
