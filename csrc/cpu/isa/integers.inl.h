// Floats as integers of four digits, each a signed byte: rows of a and columns of b are scaled by powers of two and
// rounded, which loses half a unit of the integer, whatever the number's size. Products of digits are exact, as are
// their sums; those of equal weight are summed together (Ootomo, Ozaki, Yokota, arXiv 2306.11975). Those below the
// fourth weight are left out. What all this loses is a part of the largest numbers' product: less than a chain of FMAs
// does, unless the sums are far smaller. They are where a row's largest numbers meet zeros or small ones, or cancel
// out; so the sums of each row and column of a block are looked at. The including file supplies the unit: what
// tiles.inl.h and bytes.inl.h demand.
#pragma once
#include "cpu/isa/split.inl.h"

namespace {

using Exponents = std::int32_t __attribute__((vector_size(64)));
constexpr int weights = 4;  // products of digits i and j (0 the highest) have weight i + j

/// The bits of the largest magnitudes of 16 rows of a (columns of b).
struct Largest {
  Words most = all(0);

  MLPFAST_INLINE void see(Floats v) { most = larger(most, bits(v) & 0x7fffffff); }
  static MLPFAST_INLINE Largest of_rows(const Largest (&row)[16]) {
    Words most[16];
    for (int i = 0; i < 16; ++i) most[i] = row[i].most;
    return {largest_of_rows(most)};
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

MLPFAST_INLINE void scale_integers(const Largest (&half)[2], bool checked, Strip& s) {
  constexpr std::int32_t highest = 6;  // 2^(e + 1) becomes 2^7 of the highest digit
  constexpr std::uint32_t infinite = 0x7f800000;
  s.parts = max_digits;
  s.low = 0;
  s.checked = 0;
  for (int h = 0; h < 2; ++h) {
    store(highest + bias - biased_top(half[h].most), s.exponent + 16 * h);
    for (int i = 0; i < 16; ++i) {
      if (half[h].most[i] >= infinite) s.low = not_split;
      if (checked && half[h].most[i] != 0) s.checked |= 1U << (16 * h + i);
    }
  }
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
      e += 8 * (max_digits - 1);
      Floats factor[2];
      factors_of(e, factor);
      store(factor[0], first + h);
      store(factor[1], second + h);
    }
  }
};

/// The image of a block of 32 rows, or columns, and 64 steps of k.
template <class Unit, bool Along, bool Transpose>
void integer_block(Matrix<const float> x, const Scale& scale, std::uint8_t* image) {
  for (int h = 0; h < 2; ++h) {
    Words tile[max_digits][16];
    const Floats first = load(scale.first + 16 * h), second = load(scale.second + 16 * h);
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) {
      Words v[4], bytes[max_digits], d[max_digits];
      MLPFAST_UNROLL
      for (int g = 0; g < 4; ++g) {
        const int row = 16 * h + i;
        const Floats scaled = Along ? load(x.row(row) + 16 * g) * scale.first[row] * scale.second[row]
                                    : load(x.row(i + 16 * g) + 16 * h) * first * second;
        v[g] = signed_digits<max_digits>(Unit::integer(scaled));
      }
      digits_of(v, bytes);
      MLPFAST_UNROLL
      for (int q = 0; q < max_digits; ++q) d[q] = bytes[max_digits - 1 - q];
      store_row<max_digits, Transpose>(d, i, h, tile, image);
    }
    store_tile<max_digits, Transpose>(h, tile, image);
  }
}

using IntegerBlock = void (*)(Matrix<const float> x, const Scale& scale, std::uint8_t* image);

template <class Unit>
IntegerBlock integer_block_for(const SplitArgs& t) {
  if (t.along) return t.transpose ? integer_block<Unit, true, true> : integer_block<Unit, true, false>;
  return t.transpose ? integer_block<Unit, false, true> : integer_block<Unit, false, false>;
}

template <class Unit>
void split_integers(const SplitArgs& t) {
  alignas(64) float spare[strip_size * byte_k];
  Scale scale[most_strips];
  Largest half[most_strips][2];
  survey(t, half);
  const IntegerBlock block = integer_block_for<Unit>(t);
  const int64_t blocks = (t.k + byte_k - 1) / byte_k;
  for (int64_t s = 0; s * strip_size < t.count; ++s) {
    scale_integers(half[s], t.checked, t.strips[s]);
    scale[s].set(t.strips[s]);
  }
  for (int64_t p = 0; p < blocks; ++p) {
    for (int64_t s = 0; s * strip_size < t.count; ++s) {
      if (t.strips[s].low < least_low) continue;  // not multiplied here
      const Matrix<const float> x =
          t.along ? block_of<strip_size, byte_k>(t.x, t.count, t.k, 0, p * byte_k, spare)
                  : block_of<byte_k, strip_size>(t.x, t.k, t.count, p * byte_k, s * strip_size, spare);
      block(x, scale[s], t.image + s * t.strip_bytes + p * max_digits * part_bytes);
    }
  }
}

/// Sums of the squares of a block's joined sums, by row and by column.
class Squares {
 public:
  /// Row r of tile (i, j).
  MLPFAST_INLINE void add(int i, int j, int r, Floats joined) {
    rows_[i][r] += joined * joined;
    columns_[j] += joined * joined;
  }
  /// Whether each row and column whose numbers are not all 0 has a large enough root mean square. That of few sums may
  /// be small by chance, and says nothing.
  bool suffice(std::uint32_t rows, std::uint32_t columns) {
    // The highest digits of two largest numbers have a product of 2^12 to 2^14. Of that, what is lost is a part which
    // is as large as what a chain of FMAs loses of sums of 2^8, whatever k.
    constexpr float least = 1 << 8;
    constexpr int few = 8;
    const auto least_of = [](std::uint32_t others) {
      const int count = __builtin_popcount(others);
      return count < few ? 0 : least * least * static_cast<float>(count);
    };
    const float least_of_row = least_of(columns), least_of_column = least_of(rows);
    for (int half = 0; half < 2; ++half) {
      const Floats sums = sums_of_rows(rows_[half]);
      for (int i = 0; i < 16; ++i) {
        const std::uint32_t bit = 1U << (16 * half + i);
        if ((rows & bit) != 0 && sums[i] < least_of_row) return false;
        if ((columns & bit) != 0 && columns_[half][i] < least_of_column) return false;
      }
    }
    return true;
  }

 private:
  Floats rows_[2][16] = {}, columns_[2] = {};  // of a row 16 sums yet to be added
};

/// Joins the sums of each weight of tiles i of a and j of b; Last: and scales them back.
template <class Unit, bool First, bool Last>
MLPFAST_INLINE void join_weights(const TileProduct& t, int i, int j, const std::int32_t (&sums)[weights][256],
                                 Squares& squares) {
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
      squares.add(i, j, r, joined);
      store(Unit::scale(joined, -t.a_strip.exponent[row] - e), t.y.row(row) + 16 * j);
    } else {
      store(joined, c);
    }
  }
}

template <class Unit>
bool multiply_integers(const TileProduct& t) {
  alignas(64) std::int32_t sums[weights][256];
  Squares squares;
  constexpr int order[][2] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}};
  for (const auto& [i, j] : order) {
    Unit::multiply_digits(t.blocks, t.a + i * tile_bytes, t.b + j * tile_bytes, sums[0]);
    if (t.y.data) {
      t.accumulate ? join_weights<Unit, false, true>(t, i, j, sums, squares)
                   : join_weights<Unit, true, true>(t, i, j, sums, squares);
    } else {
      t.accumulate ? join_weights<Unit, false, false>(t, i, j, sums, squares)
                   : join_weights<Unit, true, false>(t, i, j, sums, squares);
    }
  }
  const std::uint32_t rows = t.a_strip.checked, columns = t.b_strip.checked;
  return !t.y.data || rows == 0 || columns == 0 || squares.suffice(rows, columns);
}

}  // namespace
