// Floats as integers of three or four digits, each a signed byte: rows of a and columns of b are scaled by powers of
// two and rounded, which loses half a unit of the integer, whatever the number's size. Products of digits are exact, as
// are their sums; those of equal weight are summed together (Ootomo, Ozaki, Yokota, arXiv 2306.11975). Those below the
// fourth weight are left out. How far a row's largest number lies above the geometric mean decides how many digits it
// takes to lose less than a chain of FMAs, and the sum of both operands' whether four do: sums of k rounding errors of
// random signs grow with the root of k, those of a chain with k. The including file supplies the unit: what tiles.inl.h
// and bytes.inl.h demand.
#pragma once
#include "cpu/isa/split.inl.h"

namespace {

using Exponents = std::int32_t __attribute__((vector_size(64)));
constexpr int weights = 4;  // products of digits i and j (0 the highest) have weight i + j

/// What is known of 16 rows of a (columns of b): the bits of the largest magnitude; how many numbers are not 0, and the
/// sum of their logarithms, as the upper bits of a float are 128 times its logarithm, nearly.
struct Magnitudes {
  Words most = all(0), count = all(0), logarithms = all(0);

  MLPFAST_INLINE void see(Floats v) {
    const Words magnitude = bits(v) & 0x7fffffff;
    most = larger(most, magnitude);
    count += smaller(magnitude, all(1));
    logarithms += magnitude >> 16;
  }
  static MLPFAST_INLINE Magnitudes of_rows(const Magnitudes (&row)[16]) {
    Magnitudes rows;
    Words most[16], count[16], logarithms[16];
    for (int i = 0; i < 16; ++i) {
      most[i] = row[i].most;
      count[i] = row[i].count;
      logarithms[i] = row[i].logarithms;
    }
    transpose(most);
    transpose(count);
    transpose(logarithms);
    for (int i = 0; i < 16; ++i) {
      rows.most = larger(rows.most, most[i]);
      rows.count += count[i];
      rows.logarithms += logarithms[i];
    }
    return rows;
  }
};

constexpr int fraction_bits = 23, bias = 127, least_normal = 1 << fraction_bits;

/// e + 127 for the least e such that magnitudes are below 127/128 of 2^(e + 1): as integers below 2^(8 d - 1), their
/// highest digit is then 127 at most.
MLPFAST_INLINE Exponents biased_top(Words magnitude) {
  constexpr std::int32_t fraction = least_normal - 1, full = 0x7e0000, units = 149 << fraction_bits;
  const Floats subnormal = __builtin_convertvector(larger(magnitude, all(1)), Floats);  // times 2^149
  const Exponents number = magnitude < least_normal ? reinterpret_cast<Exponents>(subnormal) - units
                                                    : reinterpret_cast<Exponents>(magnitude);
  return (number >> fraction_bits) - ((number & fraction) >= full);  // true is -1
}

/// Of rows of k numbers: the digits they need, and how many octaves the largest lies above the geometric mean. Of two
/// sparse operands few small numbers may be all that meet: zeros count as octaves as well.
struct Need {
  Exponents digits;
  Floats octaves;
};

constexpr std::int32_t too_far = 2 * max_digits;  // no number of digits will do

MLPFAST_INLINE Floats logarithm_of(Floats x) {
  return (__builtin_convertvector(bits(x) >> 16, Floats) - bias * 128) * (1.0F / 128);
}

/// The rounding errors of three digits, 0.3 of 2^-22 each, are some half of a chain's where the largest of n numbers
/// lies 0.4 sqrt(n) above their mean. Of fewer numbers than k those of the other operand that they meet are fewer as
/// well, and n / sqrt(k) takes the place of sqrt(n). Four digits hold what lies seven octaves below as well as a float
/// does.
MLPFAST_INLINE Need need_of(const Magnitudes& row, int64_t k, bool bounded) {
  constexpr float three = 0.4F, four = 9, zeros = 1.5F;
  constexpr int64_t least_k = 512;  // for three digits: the other operand may be mostly zeros
  const Exponents yes = ~Exponents{}, no = {}, nothing = row.most == 0, finite = row.most < 0x7f800000;
  const float steps = static_cast<float>(k);
  const Floats count = __builtin_convertvector(larger(row.count, all(1)), Floats),
               mean = __builtin_convertvector(row.logarithms, Floats) / count * (1.0F / 128),
               top = __builtin_convertvector(biased_top(row.most), Floats), above = top - mean,
               limit = logarithm_of(count * (three / __builtin_sqrtf(steps)));
  const Exponents normal = row.most >= least_normal,  // four digits hold any subnormal numbers
      fits3 = nothing | ((above <= limit) & normal & (k >= least_k ? yes : no)),
                  fits4 = (above <= four) | (bounded ? no : yes);
  const Exponents digits = fits3 ? 3 - no : fits4 ? 4 - no : too_far - no;
  return {finite ? digits : too_far - no, nothing ? Floats{} : above + zeros * logarithm_of(steps / count)};
}

MLPFAST_INLINE void scale_integers(const Magnitudes (&half)[2], const SplitArgs& t, Strip& s) {
  constexpr std::int32_t highest = 6;  // 2^(e + 1) becomes 2^7 of the highest digit
  std::int32_t digits = 0;
  float octaves = 0;
  for (int h = 0; h < 2; ++h) {
    const Need need = need_of(half[h], t.k, t.bounded);
    for (int i = 0; i < 16; ++i) {
      digits = digits > need.digits[i] ? digits : need.digits[i];
      octaves = octaves > need.octaves[i] ? octaves : need.octaves[i];
    }
    store(highest + bias - biased_top(half[h].most), s.exponent + 16 * h);
  }
  s.parts = digits == 3 ? 3 : max_digits;
  s.low = digits > max_digits ? not_split : t.bounded ? -static_cast<std::int32_t>(octaves * low_per_octave) : 0;
}

/// d[digit] holds that byte, the lowest first, of v[0], v[1], v[2], v[3] in each lane.
MLPFAST_INLINE void digits_of(const Words (&v)[4], Words (&d)[max_digits]) {
  constexpr std::uint32_t even = 0x00ff00ff, odd = 0xff00ff00, low = 0xffff, high = 0xffff0000;
  const Words a = (v[0] & even) | ((v[1] & even) << 8), b = ((v[0] & odd) >> 8) | (v[1] & odd),
              c = (v[2] & even) | ((v[3] & even) << 8), e = ((v[2] & odd) >> 8) | (v[3] & odd);
  d[0] = (a & low) | (c << 16);
  d[1] = (b & low) | (e << 16);
  d[2] = (a >> 16) | (c & high);
  d[3] = (b >> 16) | (e & high);
}

/// Two's complement bytes of an integer become signed digits: those above the highest but one borrow, 0x80 being -128.
template <int Digits>
MLPFAST_INLINE Words signed_digits(Exponents integer) {
  constexpr std::uint32_t lower_digits = 0x808080U >> (8 * (max_digits - Digits));
  return (reinterpret_cast<Words>(integer) + lower_digits) ^ lower_digits;
}

/// Two factors that make 2^e, which may be no float32.
MLPFAST_INLINE void factors_of(Exponents e, Floats (&factor)[2]) {
  const Exponents half = e >> 1;
  factor[0] = power_of_two(reinterpret_cast<Words>(half));
  factor[1] = power_of_two(reinterpret_cast<Words>(e - half));
}

/// Those of each row.
struct Scale {
  alignas(64) float first[strip_size], second[strip_size];

  MLPFAST_INLINE void set(const Strip& s) {
    for (int h = 0; h < strip_size; h += 16) {
      Exponents e;
      __builtin_memcpy(&e, s.exponent + h, sizeof e);
      e += 8 * (s.parts - 1);
      Floats factor[2];
      factors_of(e, factor);
      store(factor[0], first + h);
      store(factor[1], second + h);
    }
  }
};

/// The image of a block of 32 rows, or columns, and 64 steps of k.
template <class Unit, int Digits, bool Along, bool Transpose>
void integer_block(Matrix<const float> x, const Scale& scale, std::uint8_t* image) {
  for (int h = 0; h < 2; ++h) {
    Words tile[Digits][16];
    const Floats first = load(scale.first + 16 * h), second = load(scale.second + 16 * h);
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) {
      Words v[4], bytes[max_digits], d[Digits];
      MLPFAST_UNROLL
      for (int g = 0; g < 4; ++g) {
        const int row = 16 * h + i;
        const Floats scaled = Along ? load(x.row(row) + 16 * g) * scale.first[row] * scale.second[row]
                                    : load(x.row(i + 16 * g) + 16 * h) * first * second;
        v[g] = signed_digits<Digits>(Unit::integer(scaled));
      }
      digits_of(v, bytes);
      MLPFAST_UNROLL
      for (int q = 0; q < Digits; ++q) d[q] = bytes[Digits - 1 - q];
      store_row<Digits, Transpose>(d, i, h, tile, image);
    }
    store_tile<Digits, Transpose>(h, tile, image);
  }
}

using IntegerBlock = void (*)(Matrix<const float> x, const Scale& scale, std::uint8_t* image);

template <class Unit, int Digits>
IntegerBlock integer_block_for(const SplitArgs& t) {
  if (t.along) return t.transpose ? integer_block<Unit, Digits, true, true> : integer_block<Unit, Digits, true, false>;
  return t.transpose ? integer_block<Unit, Digits, false, true> : integer_block<Unit, Digits, false, false>;
}

template <class Unit>
void split_integers(const SplitArgs& t) {
  alignas(64) float spare[strip_size * byte_k];
  Scale scale[most_strips];
  Magnitudes half[most_strips][2];
  survey(t, half);
  const IntegerBlock three = integer_block_for<Unit, 3>(t), four = integer_block_for<Unit, 4>(t);
  const int64_t blocks = (t.k + byte_k - 1) / byte_k;
  for (int64_t s = 0; s * strip_size < t.count; ++s) {
    scale_integers(half[s], t, t.strips[s]);
    scale[s].set(t.strips[s]);
  }
  for (int64_t p = 0; p < blocks; ++p) {
    for (int64_t s = 0; s * strip_size < t.count; ++s) {
      const Strip& of = t.strips[s];
      if (of.low < least_low) continue;  // not multiplied here
      const Matrix<const float> x =
          t.along ? block_of<strip_size, byte_k>(t.x, t.count, t.k, 0, p * byte_k, spare)
                  : block_of<byte_k, strip_size>(t.x, t.k, t.count, p * byte_k, s * strip_size, spare);
      (of.parts == 3 ? three : four)(x, scale[s], t.image + s * t.strip_bytes + p * of.parts * part_bytes);
    }
  }
}

/// Joins the sums of each weight of tiles i of a and j of b; Last: and scales them back.
template <class Unit, bool First, bool Last>
MLPFAST_INLINE void join_weights(const TileProduct& t, int i, int j, const std::int32_t (&sums)[weights][256]) {
  Exponents e;
  __builtin_memcpy(&e, t.b_strip.exponent + 16 * j, sizeof e);
  for (int r = 0; r < tile_rows; ++r) {
    Floats joined = {};
    MLPFAST_UNROLL
    for (int w = weights - 1; w >= 0; --w) {
      Exponents sum;
      __builtin_memcpy(&sum, sums[w] + 16 * r, sizeof sum);
      const Floats number = __builtin_convertvector(sum, Floats);
      joined = w < weights - 1 ? Unit::add_product(joined, 1.0F / 256, number) : number;
    }
    const int row = i * tile_rows + r;
    float* c = t.c + row * strip_size + 16 * j;
    if constexpr (!First) joined += load(c);
    if constexpr (Last) {
      store(Unit::scale(joined, -t.a_strip.exponent[row] - e), t.y.row(row) + 16 * j);
    } else {
      store(joined, c);
    }
  }
}

template <class Unit, int A, int B>
void multiply_integers(const TileProduct& t) {
  alignas(64) std::int32_t sums[weights][256];
  constexpr int order[][2] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}};
  for (const auto& [i, j] : order) {
    Unit::template multiply_digits<A, B>(t.blocks, t.a + i * tile_bytes, t.b + j * tile_bytes, sums[0]);
    if (t.y.data) {
      t.accumulate ? join_weights<Unit, false, true>(t, i, j, sums) : join_weights<Unit, true, true>(t, i, j, sums);
    } else {
      t.accumulate ? join_weights<Unit, false, false>(t, i, j, sums) : join_weights<Unit, true, false>(t, i, j, sums);
    }
  }
}

/// Of three or four digits each.
template <class Unit>
void multiply_integers(const TileProduct& t) {
  const bool four = t.b_strip.parts == 4;
  if (t.a_strip.parts == 3) return four ? multiply_integers<Unit, 3, 4>(t) : multiply_integers<Unit, 3, 3>(t);
  return four ? multiply_integers<Unit, 4, 4>(t) : multiply_integers<Unit, 4, 3>(t);
}

}  // namespace
