// Products of bytes by float32 numbers on a unit that multiplies tiles of bytes. The columns of b become integers of
// two to four digits, each a signed byte; products with each are exact, and joined in one rounding or three. What is
// lost is half a unit of each integer, which is a fraction of the column's largest number: how much larger that may be
// than the others decides how many digits there are. The including file supplies the unit: multiply_bytes; 16 bytes
// as integers, widen(p); integer(v), the nearest, ties to even; add_product(a, b, c), c + a b; tiles.inl.h's demands.
#pragma once
#include "cpu/isa/tiles.inl.h"

namespace {

using Doubles = double __attribute__((vector_size(128)));

/// Digits that hold a column whose largest number is so many times the mean magnitude; 0 where there are not enough.
MLPFAST_INLINE std::int32_t digits_for(float ratio, std::int32_t digits, float spread) {
  for (; digits <= max_digits; ++digits, spread *= 256)
    if (ratio <= spread) return digits;
  return 0;
}

MLPFAST_INLINE void survey_columns(const DigitArgs& t) {
  Words most[2] = {}, count[2] = {};
  Floats sum[2] = {};
  alignas(64) float spare[strip_size * strip_size];
  for (int64_t p = 0; p < t.k; p += strip_size) {
    const Matrix<const float> x = block_of(t.x, t.k, t.count, p, 0, spare);
    for (int64_t r = 0; r < strip_size; ++r) {
      for (int h = 0; h < 2; ++h) {
        __builtin_prefetch(x.row(r + strip_size) + 16 * h);
        const Words magnitude = bits(load(x.row(r) + 16 * h)) & 0x7fffffff;
        most[h] = larger(most[h], magnitude);
        count[h] += smaller(magnitude, all(1));
        sum[h] += reinterpret_cast<Floats>(magnitude);
      }
    }
  }
  DigitStrip& s = *t.strip;
  const Exponents tops[] = {biased_top(most[0]), biased_top(most[1])};
  std::int32_t top[strip_size];
  s.digits = t.digits;
  for (int j = 0; j < strip_size; ++j) {
    constexpr std::uint32_t infinite = 0x7f800000;
    const std::uint32_t largest = most[j / 16][j % 16];
    top[j] = 0;
    if (largest == 0) continue;
    float number;
    __builtin_memcpy(&number, &largest, sizeof number);
    const float total = sum[j / 16][j % 16];
    const auto numbers = static_cast<float>(count[j / 16][j % 16]);
    const float others = t.bounded ? (total - number) / (numbers - 1) : total / numbers;
    const bool finite = largest < infinite && total <= __FLT_MAX__;
    std::int32_t digits = numbers == 1 ? t.digits : digits_for(number / others, t.digits, t.spread);
    if (digits == 0 && !t.bounded) digits = max_digits;
    if (!finite) digits = 0;
    if (digits == 0) {
      s.digits = 0;
      return;
    }
    s.digits = s.digits > digits ? s.digits : digits;
    top[j] = tops[j / 16][j % 16] - bias;
  }
  for (int j = 0; j < strip_size; ++j) s.exponent[j] = 8 * s.digits - 2 - top[j];
}

/// The integers of a strip, and their sums where Sums.
template <class Unit, int Digits, bool Sums>
void write_digits(const DigitArgs& t) {
  DigitStrip& s = *t.strip;
  const int64_t blocks = (t.k + byte_k - 1) / byte_k;
  alignas(64) float spare[strip_size * strip_size];
  Exponents lower[2] = {}, upper[2] = {};  // sums of the integers' halves
  for (int64_t p = 0; p < blocks * byte_k; p += strip_size) {
    std::uint8_t* image = t.image + p / byte_k * part_bytes + p % byte_k * 16;
    const Matrix<const float> x = block_of(t.x, t.k, t.count, p, 0, spare);
    for (int h = 0; h < 2; ++h) {
      Exponents exponent;
      __builtin_memcpy(&exponent, s.exponent + 16 * h, sizeof exponent);
      Floats scale[2];
      factors_of(exponent, scale);
      for (int64_t r = 0; r < strip_size; r += 4) {
        Words v[4], d[max_digits];
        MLPFAST_UNROLL
        for (int i = 0; i < 4; ++i) {
          const Exponents nearest = Unit::integer(load(x.row(r + i) + 16 * h) * scale[0] * scale[1]);
          if constexpr (Sums) {
            lower[h] += nearest & 0xffff;
            upper[h] += nearest >> 16;
          }
          v[i] = signed_digits<Digits>(nearest);
        }
        digits_of(v, d);
        MLPFAST_UNROLL
        for (int q = 0; q < Digits; ++q) store(d[q], image + q * blocks * part_bytes + h * tile_bytes + r * 16);
      }
    }
  }
  for (int j = 0; Sums && j < strip_size; ++j)
    s.sum[j] = static_cast<double>(upper[j / 16][j % 16]) * 65536 + lower[j / 16][j % 16];
}

template <class Unit, int Digits>
void write_digits(const DigitArgs& t) {
  return t.sums ? write_digits<Unit, Digits, true>(t) : write_digits<Unit, Digits, false>(t);
}

template <class Unit>
void split_digits(const DigitArgs& t) {
  survey_columns(t);
  if (t.strip->digits == 2) return write_digits<Unit, 2>(t);
  if (t.strip->digits == 3) return write_digits<Unit, 3>(t);
  if (t.strip->digits == 4) return write_digits<Unit, 4>(t);
}

template <class Unit, int Digits, bool Shift>
void join(const DigitStrip& b, double shift, const std::int32_t* c, Matrix<float> y) {
  for (int64_t j = 0; j < strip_size; j += 16) {
    Exponents e;
    __builtin_memcpy(&e, b.exponent + j, sizeof e);
    Doubles columns;
    __builtin_memcpy(&columns, b.sum + j, sizeof columns);
    for (int64_t i = 0; i < strip_size; ++i) {
      Exponents digit[Digits];
      MLPFAST_UNROLL
      for (int q = 0; q < Digits; ++q) __builtin_memcpy(&digit[q], c + (q * strip_size + i) * strip_size + j, sizeof e);
      Floats sum;
      if constexpr (Shift) {
        Doubles exact = __builtin_convertvector(digit[0], Doubles);
        MLPFAST_UNROLL
        for (int q = 1; q < Digits; ++q)
          exact += __builtin_convertvector(digit[q], Doubles) * static_cast<double>(1 << 8 * q);
        sum = __builtin_convertvector(exact - shift * columns, Floats);
      } else {
        sum = __builtin_convertvector(digit[0], Floats);
        MLPFAST_UNROLL
        for (int q = 1; q < Digits; ++q)
          sum = Unit::add_product(__builtin_convertvector(digit[q], Floats), 1 << 8 * q, sum);
      }
      store(Unit::scale(sum, -e), y.row(i) + j);
    }
  }
}

template <class Unit, int Digits>
void join(const DigitStrip& b, double shift, const std::int32_t* c, Matrix<float> y) {
  return shift == 0 ? join<Unit, Digits, false>(b, shift, c, y) : join<Unit, Digits, true>(b, shift, c, y);
}

template <class Unit>
void join_digits(const DigitStrip& b, double shift, const std::int32_t* c, Matrix<float> y) {
  if (b.digits == 2) return join<Unit, 2>(b, shift, c, y);
  return b.digits == 3 ? join<Unit, 3>(b, shift, c, y) : join<Unit, 4>(b, shift, c, y);
}

template <class Unit>
void turn_bytes(Matrix<const std::uint8_t> x, Matrix<std::uint8_t> turned) {
  Words r[16];  // four rows of 16 columns each, the first columns' before the others'
  MLPFAST_UNROLL
  for (int g = 0; g < 16; ++g) {
    Words four = {};
    MLPFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      four |= Unit::widen(x.row(g % 8 * 4 + i) + g / 8 * 16) << (8 * i);
    }
    r[g] = four;
  }
  transpose(r);
  MLPFAST_UNROLL
  for (int j = 0; j < 16; ++j) {
    std::uint8_t both[64];
    store(r[j], both);
    __builtin_memcpy(turned.row(j), both, 32);
    __builtin_memcpy(turned.row(j + 16), both + 32, 32);
  }
}

template <class Unit>
constexpr TileTable tile_table{Unit::begin,          Unit::end,         split<Unit>,
                               write_block<Unit>,    multiply<Unit>,    split_digits<Unit>,
                               Unit::multiply_bytes, join_digits<Unit>, turn_bytes<Unit>};

}  // namespace
