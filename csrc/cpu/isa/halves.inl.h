// Floats as bf16 numbers, or as sums of two, the second the nearest to what the first left. Rows of a and columns of b
// are scaled by powers of two first, so that no product underflows; a single part of moderate numbers needs no scale,
// and one pass, in which a block of rows may be written for two products.
#pragma once
#include "cpu/isa/split.inl.h"

namespace {

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
    Survey rows;
    Words most[16], least[16];
    for (int i = 0; i < 16; ++i) {
      most[i] = row[i].most;
      least[i] = row[i].least;
      rows.lower |= row[i].lower;
    }
    transpose(most);
    transpose(least);
    for (int i = 0; i < 16; ++i) {
      rows.most = larger(rows.most, most[i]);
      rows.least = smaller(rows.least, least[i]);
    }
    return rows;
  }
};

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
    if (most >= infinite) low = not_split;
    if (low < s.low) s.low = low;
  }
}

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

/// 32 x 32 numbers and what becomes of them: an image of numbers times their rows' scale; or as they are, and the bits
/// of each row's largest magnitude.
struct HalvesBlock {
  Matrix<const float> x;
  const float* scale;
  std::uint8_t* most;
  std::uint8_t* image;
};

enum class Numbers { scaled, cold, hot };  // cold: those of the next block are to be fetched

template <class Unit, int P, bool Along, bool Transpose, Numbers Are>
void split_block(const HalvesBlock& t) {
  constexpr bool Scaled = Are == Numbers::scaled;
  for (int h = 0; h < 2; ++h) {
    Words tile[P][16], most[16];
    const Floats factor = Scaled ? load(t.scale + 16 * h) : Floats{};
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) {
      const int row = 16 * h + i;
      Floats x = Along ? load(t.x.row(row)) : load(t.x.row(i) + 16 * h),
             y = Along ? load(t.x.row(row) + 16) : load(t.x.row(i + 16) + 16 * h);
      if constexpr (Scaled) {
        x *= Along ? t.scale[row] - Floats{} : factor;
        y *= Along ? t.scale[row] - Floats{} : factor;
      } else {
        if constexpr (Are == Numbers::cold) {
          __builtin_prefetch(Along ? t.x.row(row) + 32 : t.x.row(i + 32) + 16 * h);
          __builtin_prefetch(Along ? t.x.row(row) + 48 : t.x.row(i + 48) + 16 * h);
        }
        most[i] = larger(bits(x) & 0x7fffffff, bits(y) & 0x7fffffff);
        if (!Along && i > 0) most[0] = larger(most[0], most[i]);
      }
      Words d[P];
      split_pairs<Unit>(x, y, d);
      store_row<P, Transpose>(d, i, h, tile, t.image);
    }
    if constexpr (!Scaled) store(Along ? largest_of_rows(most) : most[0], t.most + row_bytes * h);
    store_tile<P, Transpose>(h, tile, t.image);
  }
}

using SplitBlock = void (*)(const HalvesBlock&);

template <class Unit, int P, Numbers Are>
SplitBlock split_block_for(bool along, bool transpose) {
  if (along) return transpose ? split_block<Unit, P, true, true, Are> : split_block<Unit, P, true, false, Are>;
  return transpose ? split_block<Unit, P, false, true, Are> : split_block<Unit, P, false, false, Are>;
}

/// Block p of strip s.
MLPFAST_INLINE Matrix<const float> halves_of(const SplitArgs& t, int64_t p, int64_t s, float* spare) {
  return t.along ? block_of(t.x, t.count, t.k, 0, p * half_k, spare)
                 : block_of(t.x, t.k, t.count, p * half_k, s * strip_size, spare);
}

template <class Unit>
void split_scaled(const SplitArgs& t) {
  alignas(64) float spare[strip_size * strip_size];
  alignas(64) float scale[most_strips][strip_size];
  Survey half[most_strips][2];
  survey(t, half);
  const SplitBlock exact = split_block_for<Unit, 1, Numbers::scaled>(t.along, t.transpose),
                   inexact = split_block_for<Unit, 2, Numbers::scaled>(t.along, t.transpose);
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
      std::uint8_t* const image = t.image + s * t.strip_bytes + p * of.parts * part_bytes;
      (of.parts == 1 ? exact : inexact)({halves_of(t, p, s, spare), scale[s], nullptr, image});
    }
  }
}

/// Whether products need no scale: each row's largest number is 0, or far from where they over- or underflow.
MLPFAST_INLINE bool moderate(const std::uint8_t* most, int64_t blocks) {
  constexpr std::uint32_t least = (127U - 40) << 23, greatest = (127U + 40) << 23;
  for (int h = 0; h < 2; ++h) {
    Words rows = all(0);
    for (int64_t p = 0; p < blocks; ++p) {
      Words block;
      __builtin_memcpy(&block, most + p * largest_bytes + row_bytes * h, sizeof block);
      rows = larger(rows, block);
    }
    for (int i = 0; i < 16; ++i)
      if (rows[i] != 0 && (rows[i] < least || rows[i] > greatest)) return false;
  }
  return true;
}

template <class Unit>
void write_block(const BlockArgs& t) {
  alignas(64) float spare[strip_size * strip_size];
  const SplitBlock block = t.cold ? split_block_for<Unit, 1, Numbers::cold>(t.along, t.transpose)
                                  : split_block_for<Unit, 1, Numbers::hot>(t.along, t.transpose);
  block({block_of(t.x, t.rows, t.cols, 0, 0, spare), nullptr, t.most, t.image});
}

/// A single part of moderate numbers takes one pass.
template <class Unit>
void split_halves(const SplitArgs& t) {
  if (t.parts > 1) return split_scaled<Unit>(t);
  alignas(64) float spare[strip_size * strip_size];
  const SplitBlock block = split_block_for<Unit, 1, Numbers::cold>(t.along, t.transpose);
  const int64_t blocks = (t.k + half_k - 1) / half_k;
  for (int64_t p = 0; p < blocks && !t.written; ++p) {
    for (int64_t s = 0; s * strip_size < t.count; ++s) {
      std::uint8_t *const image = t.image + s * t.strip_bytes, *const most = image + blocks * part_bytes;
      block({halves_of(t, p, s, spare), nullptr, most + p * largest_bytes, image + p * part_bytes});
    }
  }
  for (int64_t s = 0; s * strip_size < t.count; ++s) {
    t.strips[s] = {.exponent = {}, .low = 0, .parts = 1, .checked = 0};
    std::uint8_t* const image = t.image + s * t.strip_bytes;
    if (moderate(image + blocks * part_bytes, blocks)) continue;
    SplitArgs strip = t;
    strip.count = t.count - s * strip_size < strip_size ? t.count - s * strip_size : strip_size;
    if (!t.along) strip.x = t.x.at(0, s * strip_size);
    strip.strips = t.strips + s;
    strip.image = image;
    split_scaled<Unit>(strip);
  }
}

}  // namespace
