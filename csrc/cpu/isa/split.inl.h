// Images of the strips of operands, which tiles multiply: what integers.inl.h and halves.inl.h share. Two passes over a
// strip: a survey of its numbers, whose type says what it wants to know; then the image.
#pragma once
#include "cpu/dispatch.h"

namespace {

using namespace mlpfast::cpu;

using Floats = float __attribute__((vector_size(64)));
using Words = std::uint32_t __attribute__((vector_size(64)));
constexpr int tile_rows = 16, row_bytes = 64, tile_bytes = tile_rows * row_bytes;

MLPFAST_INLINE Floats load(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
MLPFAST_INLINE void store(V v, T* p) {
  __builtin_memcpy(p, &v, sizeof v);
}
MLPFAST_INLINE Words all(std::uint32_t x) { return x - Words{}; }
MLPFAST_INLINE Words bits(Floats v) { return reinterpret_cast<Words>(v); }
MLPFAST_INLINE Words larger(Words a, Words b) { return a > b ? a : b; }
MLPFAST_INLINE Words smaller(Words a, Words b) { return a < b ? a : b; }

/// Rows x Cols numbers of x from (i, j); copied to `spare` where x ends before.
template <int64_t Rows = strip_size, int64_t Cols = strip_size>
MLPFAST_INLINE Matrix<const float> block_of(Matrix<const float> x, int64_t rows, int64_t cols, int64_t i, int64_t j,
                                            float* spare) {
  if (i + Rows <= rows && j + Cols <= cols) return x.at(i, j);
  __builtin_memset(spare, 0, Rows * Cols * sizeof(float));
  const int64_t height = rows - i < Rows ? rows - i : Rows, width = cols - j < Cols ? cols - j : Cols;
  for (int64_t r = 0; r < height; ++r)
    __builtin_memcpy(spare + r * Cols, x.row(i + r) + j, static_cast<std::size_t>(width) * sizeof(float));
  return {spare, Cols};
}

MLPFAST_INLINE void transpose(Words (&r)[16]) {
  MLPFAST_UNROLL
  for (int stage = 0; stage < 4; ++stage) {  // each moves the rows' numbers by one bit of their position
    Words t[16];
    MLPFAST_UNROLL
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = __builtin_shufflevector(r[i], r[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      t[2 * i + 1] =
          __builtin_shufflevector(r[i], r[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) r[i] = t[i];
  }
}

/// Lane i: the lanes of row i, joined. The rows are lost.
template <class V, class Join>
MLPFAST_INLINE V join_lanes(V (&r)[16], const Join& join) {
  MLPFAST_UNROLL
  for (int n = 8; n > 0; n /= 2) {  // as transpose(), whose rows are joined as soon as they are there
    MLPFAST_UNROLL
    for (int i = 0; i < n; ++i) {
      const V a = r[i], b = r[i + n];
      r[i] = join(__builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
                  __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
    }
  }
  return r[0];
}
MLPFAST_INLINE Words largest_of_rows(Words (&r)[16]) {
  return join_lanes(r, [](Words a, Words b) __attribute__((always_inline)) { return larger(a, b); });
}
MLPFAST_INLINE Floats sums_of_rows(Floats (&r)[16]) {
  return join_lanes(r, [](Floats a, Floats b) __attribute__((always_inline)) { return a + b; });
}

/// Of several rows at once, for their chains of dependent operations.
template <int Rows, class S>
MLPFAST_INLINE void survey_some(Matrix<const float> x, int64_t k, S* row) {
  S seen[Rows];
  int64_t p = 0;
  for (; p + 16 <= k; p += 16) {
    MLPFAST_UNROLL
    for (int i = 0; i < Rows; ++i) seen[i].see(load(x.row(i) + p));
  }
  MLPFAST_UNROLL
  for (int i = 0; i < Rows; ++i) {
    Floats last = {};
    __builtin_memcpy(&last, x.row(i) + p, static_cast<std::size_t>(k - p) * sizeof(float));
    if (p < k) seen[i].see(last);
    row[i] = seen[i];
  }
}

/// Of a strip whose rows run along k.
template <class S>
MLPFAST_INLINE void survey_rows(const SplitArgs& t, S (&half)[2]) {
  constexpr int at_once = 4;
  for (int64_t h = 0; h < 2; ++h) {
    S row[16];
    int64_t i = 0;
    for (; i < 16 && 16 * h + i + at_once <= t.count; i += at_once)
      survey_some<at_once>(t.x.at(16 * h + i, 0), t.k, row + i);
    for (; i < 16 && 16 * h + i < t.count; ++i) survey_some<1>(t.x.at(16 * h + i, 0), t.k, row + i);
    half[h] = S::of_rows(row);
  }
}

/// Of strips whose columns run along k.
template <class S>
MLPFAST_INLINE void survey_columns(const SplitArgs& t, S (*half)[2]) {
  alignas(64) float spare[strip_size * strip_size];
  for (int64_t p = 0; p < t.k; p += strip_size) {
    for (int64_t s = 0; s * strip_size < t.count; ++s) {
      const Matrix<const float> x = block_of(t.x, t.k, t.count, p, s * strip_size, spare);
      for (int64_t r = 0; r < strip_size; ++r) {
        half[s][0].see(load(x.row(r)));
        half[s][1].see(load(x.row(r) + 16));
      }
    }
  }
}

template <class S>
MLPFAST_INLINE void survey(const SplitArgs& t, S (*half)[2]) {
  if (t.along) {
    survey_rows(t, half[0]);
  } else {
    survey_columns(t, half);
  }
}

MLPFAST_INLINE Floats power_of_two(Words exponent) { return reinterpret_cast<Floats>((exponent + 127) << 23); }

/// Row i of each part's tile `h` of a block; or column i, once the whole tile is there.
template <int P, bool Transpose>
MLPFAST_INLINE void store_row(const Words (&d)[P], int i, int h, Words (&tile)[P][16], std::uint8_t* image) {
  MLPFAST_UNROLL
  for (int q = 0; q < P; ++q) {
    if constexpr (Transpose) {
      tile[q][i] = d[q];
    } else {
      store(d[q], image + q * part_bytes + h * tile_bytes + i * row_bytes);
    }
  }
}
template <int P, bool Transpose>
MLPFAST_INLINE void store_tile(int h, Words (&tile)[P][16], std::uint8_t* image) {
  for (int q = 0; Transpose && q < P; ++q) {
    transpose(tile[q]);
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) store(tile[q][i], image + q * part_bytes + h * tile_bytes + i * row_bytes);
  }
}

}  // namespace
