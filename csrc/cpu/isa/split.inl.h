// Operands of tiles: the images of strips, which take two passes over a strip, the first for its largest numbers. Here
// a float32 becomes a bf16, or the sum of two, the second the nearest to what the first left. Rows of a and columns of
// b are scaled by powers of two first; see tiles.inl.h.
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

/// What is known of 16 rows of a (columns of b): the largest and, less 1, the least bits but 0 of their absolute
/// values, and whether any has bits that a bf16 has not.
struct Survey {
  Words most = all(0), least = all(~0U), lower = all(0);

  MLPFAST_INLINE void see(Floats v) {
    const Words magnitude = bits(v) & 0x7fffffff;
    most = larger(most, magnitude);
    least = smaller(least, magnitude - 1);
    lower |= bits(v);
  }
  /// From one for each row, whose lanes are numbers along it.
  static MLPFAST_INLINE Survey of_rows(const Survey (&row)[16]) {
    Survey all;
    Words most[16], least[16];
    for (int i = 0; i < 16; ++i) {
      most[i] = row[i].most;
      least[i] = row[i].least;
      all.lower |= row[i].lower;
    }
    transpose(most);
    transpose(least);
    for (int i = 0; i < 16; ++i) {
      all.most = larger(all.most, most[i]);
      all.least = smaller(all.least, least[i]);
    }
    return all;
  }
};

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

/// Exponents that bring the largest number of each row to 2^scaled_top, as far as a float32 factor can.
MLPFAST_INLINE void scale_rows(const Survey (&half)[2], int parts, Strip& s) {
  constexpr std::int32_t infinite = 0x7f800000, bias = 127, subnormal = -149, most_exponent = 126;
  s.low = scaled_top;
  s.parts = 1;
  for (int64_t i = 0; i < strip_size; ++i) {
    const Survey& survey = half[i / 16];
    const std::uint32_t most = survey.most[i % 16], least = survey.least[i % 16];
    if ((survey.lower[i % 16] & 0xffff) != 0) s.parts = parts;
    s.exponent[i] = 0;
    if (most == 0) continue;
    const std::int32_t top = static_cast<std::int32_t>(most >> 23) - bias;
    s.exponent[i] = scaled_top - top < most_exponent ? scaled_top - top : most_exponent;
    const std::int32_t lowest = static_cast<std::int32_t>((least + 1) >> 23);
    std::int32_t low = (lowest > 0 ? lowest - bias : subnormal) + s.exponent[i];
    if (most >= infinite) low = 2 * least_low;
    if (low < s.low) s.low = low;
  }
}

MLPFAST_INLINE Floats power_of_two(Words exponent) { return reinterpret_cast<Floats>((exponent + 127) << 23); }

/// d[part] = pairs of halves, those of x below.
template <class Unit, int P>
MLPFAST_INLINE void split_pairs(Floats x, Floats y, Words (&d)[P]) {
  MLPFAST_UNROLL
  for (int q = 0; q < P; ++q) {
    d[q] = Unit::halves(x, y);
    x -= reinterpret_cast<Floats>(d[q] << 16);
    y -= reinterpret_cast<Floats>(d[q] & 0xffff0000);
  }
}

/// Tile[i] becomes row i of each part's tile `h` of a block.
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

/// The image of a block of 32 x 32 numbers.
template <class Unit, int P, bool Along, bool Transpose>
void split_block(Matrix<const float> x, const float* scale, std::uint8_t* image) {
  for (int h = 0; h < 2; ++h) {
    Words tile[P][16];
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) {
      Words d[P];
      if constexpr (Along) {
        const float* row = x.row(16 * h + i);
        split_pairs<Unit>(load(row) * scale[16 * h + i], load(row + 16) * scale[16 * h + i], d);
      } else {
        const Floats factor = load(scale + 16 * h);
        split_pairs<Unit>(load(x.row(i) + 16 * h) * factor, load(x.row(i + 16) + 16 * h) * factor, d);
      }
      store_row<P, Transpose>(d, i, h, tile, image);
    }
    store_tile<P, Transpose>(h, tile, image);
  }
}

using SplitBlock = void (*)(Matrix<const float> x, const float* scale, std::uint8_t* image);

template <class Unit, int P>
SplitBlock split_block_for(const SplitArgs& t) {
  if (t.along) return t.transpose ? split_block<Unit, P, true, true> : split_block<Unit, P, true, false>;
  return t.transpose ? split_block<Unit, P, false, true> : split_block<Unit, P, false, false>;
}

template <class Unit>
void split_halves(const SplitArgs& t) {
  alignas(64) float spare[strip_size * strip_size];
  alignas(64) float scale[most_strips][strip_size];
  Survey half[most_strips][2];
  survey(t, half);
  const SplitBlock exact = split_block_for<Unit, 1>(t), inexact = split_block_for<Unit, 2>(t);
  const int64_t blocks = (t.k + half_k - 1) / half_k;
  for (int64_t s = 0; s * strip_size < t.count; ++s) {
    scale_rows(half[s], t.parts, t.strips[s]);
    for (int64_t i = 0; i < strip_size; i += 16) {
      Words exponent;
      __builtin_memcpy(&exponent, t.strips[s].exponent + i, sizeof exponent);
      store(power_of_two(exponent), scale[s] + i);
    }
  }
  for (int64_t p = 0; p < blocks; ++p) {
    for (int64_t s = 0; s * strip_size < t.count; ++s) {
      const Strip& of = t.strips[s];
      if (of.low < least_low) continue;  // not multiplied here
      const Matrix<const float> x = t.along ? block_of(t.x, t.count, t.k, 0, p * half_k, spare)
                                            : block_of(t.x, t.k, t.count, p * half_k, s * strip_size, spare);
      (of.parts == 1 ? exact : inexact)(x, scale[s], t.image + (s * blocks * t.parts + p * of.parts) * part_bytes);
    }
  }
}

}  // namespace
