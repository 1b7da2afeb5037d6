// Products of float32 matrices on a unit that multiplies tiles of bf16: what surrounds the unit, in vectors of the
// compiler, which become those of the including file's machine. A float32 is the sum of three bf16 numbers, each the
// nearest to what the ones before left; of the nine products of parts the six largest are summed, smallest first
// (Henry, Tang, Heinecke, arXiv 1904.06376). The including file supplies the unit: begin, end,
// multiply, and scale(v, e), v * 2^e.
#pragma once
#include "cpu/dispatch.h"

namespace {

using namespace mlpfast::cpu;

#define MLPFAST_UNROLL _Pragma("GCC unroll 32")

using Floats = float __attribute__((vector_size(64)));
using Words = std::uint32_t __attribute__((vector_size(64)));
constexpr int tile_rows = 16, row_halves = 32, tile_halves = tile_rows * row_halves;  // halves: 16-bit numbers

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

/// 32 x 32 numbers of x from (i, j); copied to `spare` where x ends before.
MLPFAST_INLINE Matrix<const float> block_of(Matrix<const float> x, int64_t rows, int64_t cols, int64_t i, int64_t j,
                                            float* spare) {
  if (i + strip <= rows && j + strip <= cols) return x.at(i, j);
  __builtin_memset(spare, 0, strip * strip * sizeof(float));
  const int64_t height = rows - i < strip ? rows - i : strip, width = cols - j < strip ? cols - j : strip;
  for (int64_t r = 0; r < height; ++r)
    __builtin_memcpy(spare + r * strip, x.row(i + r) + j, static_cast<std::size_t>(width) * sizeof(float));
  return {spare, strip};
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
};

/// Exponents that bring the largest number of each row to 2^scaled_top, as far as a float32 factor can.
MLPFAST_INLINE void scale_rows(const std::uint32_t (&most)[strip], const std::uint32_t (&least)[strip], Strip& s) {
  constexpr std::int32_t infinite = 0x7f800000, bias = 127, subnormal = -149, most_exponent = 126;
  s.low = scaled_top;
  for (int64_t i = 0; i < strip; ++i) {
    s.exponent[i] = 0;
    if (most[i] == 0) continue;
    const std::int32_t top = static_cast<std::int32_t>(most[i] >> 23) - bias;
    s.exponent[i] = scaled_top - top < most_exponent ? scaled_top - top : most_exponent;
    const std::int32_t lowest = static_cast<std::int32_t>((least[i] + 1) >> 23);
    std::int32_t low = (lowest > 0 ? lowest - bias : subnormal) + s.exponent[i];
    if (most[i] >= infinite) low = 2 * least_low;
    if (low < s.low) s.low = low;
  }
}

MLPFAST_INLINE void survey(const SplitArgs& t) {
  std::uint32_t most[strip], least[strip];
  Words lower = all(0);
  alignas(64) float spare[strip * strip];
  if (t.along) {
    for (int64_t i = 0; i < strip; ++i) {
      most[i] = 0, least[i] = ~0U;
      if (i >= t.count) continue;
      Survey row;
      const float* x = t.x.row(i);
      int64_t p = 0;
      for (; p + 16 <= t.k; p += 16) row.see(load(x + p));
      for (int64_t c = 0; c < 16; ++c) spare[c] = p + c < t.k ? x[p + c] : 0;
      row.see(load(spare));
      for (int j = 0; j < 16; ++j) {
        most[i] = most[i] > row.most[j] ? most[i] : row.most[j];
        least[i] = least[i] < row.least[j] ? least[i] : row.least[j];
      }
      lower |= row.lower;
    }
  } else {
    Survey half[2];
    for (int64_t p = 0; p < t.k; p += tile_k) {
      const Matrix<const float> x = block_of(t.x, t.k, t.count, p, 0, spare);
      for (int64_t r = 0; r < tile_k; ++r) {
        __builtin_prefetch(x.row(r + tile_k));
        __builtin_prefetch(x.row(r + tile_k) + 16);
        half[0].see(load(x.row(r)));
        half[1].see(load(x.row(r) + 16));
      }
    }
    for (int h = 0; h < 2; ++h) {
      store(half[h].most, most + 16 * h);
      store(half[h].least, least + 16 * h);
      lower |= half[h].lower;
    }
  }
  scale_rows(most, least, *t.strip);
  bool exact = true;
  for (int j = 0; j < 16; ++j) exact &= (lower[j] & 0xffff) == 0;
  t.strip->parts = exact ? 1 : t.parts;
}

MLPFAST_INLINE Floats power_of_two(Words exponent) { return reinterpret_cast<Floats>((exponent + 127) << 23); }

/// The bf16 nearest to each number, in the upper half of its bits.
MLPFAST_INLINE Words nearest_half(Floats x) {
  const Words u = bits(x);
  return (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000;
}

/// d[part] = pairs of halves, the even ones' below.
template <int P>
MLPFAST_INLINE void split_pairs(Floats even, Floats odd, Words (&d)[P]) {
  MLPFAST_UNROLL
  for (int q = 0; q < P; ++q) {
    const Words e = nearest_half(even), o = nearest_half(odd);
    d[q] = (e >> 16) | o;
    even -= reinterpret_cast<Floats>(e);
    odd -= reinterpret_cast<Floats>(o);
  }
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

template <int P, bool Along, bool Transpose>
void split_strip(const SplitArgs& t) {
  alignas(64) float spare[strip * strip];
  alignas(64) float scale[strip];
  for (int64_t i = 0; i < strip; i += 16) {
    Words exponent;
    __builtin_memcpy(&exponent, t.strip->exponent + i, sizeof exponent);
    store(power_of_two(exponent), scale + i);
  }
  std::uint16_t* image = t.image;
  for (int64_t p = 0; p < t.k; p += tile_k, image += 2 * P * tile_halves) {
    const Matrix<const float> x =
        Along ? block_of(t.x, t.count, t.k, 0, p, spare) : block_of(t.x, t.k, t.count, p, 0, spare);
    for (int h = 0; h < 2; ++h) {  // tiles
      Words tile[P][16];
      MLPFAST_UNROLL
      for (int i = 0; i < 16; ++i) {
        Floats even, odd;
        if constexpr (Along) {
          const float* row = x.row(16 * h + i);
          const Floats first = load(row), second = load(row + 16);
          even = __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
          odd = __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
          even *= scale[16 * h + i];
          odd *= scale[16 * h + i];
        } else {
          const Floats factor = load(scale + 16 * h);
          even = load(x.row(2 * i) + 16 * h) * factor;
          odd = load(x.row(2 * i + 1) + 16 * h) * factor;
        }
        Words d[P];
        split_pairs<P>(even, odd, d);
        MLPFAST_UNROLL
        for (int q = 0; q < P; ++q) {
          if constexpr (Transpose) {
            tile[q][i] = d[q];
          } else {
            store(d[q], image + (2 * q + h) * tile_halves + i * row_halves);
          }
        }
      }
      if constexpr (Transpose) {
        for (int q = 0; q < P; ++q) {
          transpose(tile[q]);
          MLPFAST_UNROLL
          for (int i = 0; i < 16; ++i) store(tile[q][i], image + (2 * q + h) * tile_halves + i * row_halves);
        }
      }
    }
  }
}

template <int P>
void split_parts(const SplitArgs& t) {
  if (t.along) return t.transpose ? split_strip<P, true, true>(t) : split_strip<P, true, false>(t);
  return t.transpose ? split_strip<P, false, true>(t) : split_strip<P, false, false>(t);
}

void split(const SplitArgs& t) {
  survey(t);
  if (t.strip->low < least_low) return;  // not multiplied here
  if (t.strip->parts == 1) return split_parts<1>(t);
  return t.parts == 2 ? split_parts<2>(t) : split_parts<3>(t);
}

using Exponents = std::int32_t __attribute__((vector_size(64)));

template <class Unit>
void unscale(const Strip& a, const Strip& b, const float* c, Matrix<float> y) {
  for (int64_t i = 0; i < strip; ++i) {
    for (int64_t j = 0; j < strip; j += 16) {
      Exponents e;
      __builtin_memcpy(&e, b.exponent + j, sizeof e);
      store(Unit::scale(load(c + i * strip + j), -a.exponent[i] - e), y.row(i) + j);
    }
  }
}

/// Calls pair(i, j) for the products of part i of a and part j of b, in the order in which they are summed.
template <int AParts, int BParts, int Parts, class F>
MLPFAST_INLINE constexpr void for_products(F&& pair) {
  constexpr int order[][2] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};
  MLPFAST_UNROLL
  for (const auto& [i, j] : order)
    if (i < AParts && j < BParts && i + j < Parts) pair(i, j);
}

template <int AParts, int BParts, int Parts>
constexpr int count_products() {
  int count = 0;
  for_products<AParts, BParts, Parts>([&](int, int) { ++count; });
  return count;
}

/// multiply<Unit, a's parts, b's parts, parts> by numbers known at run time.
template <class Unit, int Parts>
void multiply_parts(const TileProduct& t) {
  if (t.a_parts == 1) {
    return t.b_parts == 1 ? Unit::template multiply<1, 1, Parts>(t) : Unit::template multiply<1, Parts, Parts>(t);
  }
  return t.b_parts == 1 ? Unit::template multiply<Parts, 1, Parts>(t) : Unit::template multiply<Parts, Parts, Parts>(t);
}

template <class Unit>
void multiply(const TileProduct& t) {
  if (t.parts == 1) return multiply_parts<Unit, 1>(t);
  return t.parts == 2 ? multiply_parts<Unit, 2>(t) : multiply_parts<Unit, 3>(t);
}

}  // namespace
