// A register of 128 bits, 4 float32 or 2 float64, in GCC's vector extensions. The including file adds what they lack:
// fma and nearest. Numbers pass between integer and float as the low bits of 2^23 or 2^52, for SSE2 has neither
// conversions nor arithmetic shifts of int64.
#pragma once
#include "cpu/isa/kernels.inl.h"

namespace {

template <class T>
struct Format;

template <>
struct Format<float> {
  using Word = std::uint32_t;
  static constexpr int mantissa_bits = 23, bias = 127;
  static constexpr float whole = 0x1p23F;  // from here on there are no fractions
  static constexpr Word sqrt_half = 0x3f3504f3;
};

template <>
struct Format<double> {
  using Word = std::uint64_t;
  static constexpr int mantissa_bits = 52, bias = 1023;
  static constexpr double whole = 0x1p52;
  static constexpr Word sqrt_half = 0x3fe6a09e667f3bcd;
};

template <class Number>
struct Vec128 {
  using T = Number;
  using Word = typename Format<T>::Word;
  typedef T Register __attribute__((vector_size(16)));
  typedef T Unaligned __attribute__((vector_size(16), aligned(alignof(T)), may_alias));
  typedef Word Words __attribute__((vector_size(16)));
  static constexpr int lanes = 16 / sizeof(T), tile_vectors = isa_tile_vectors;
  static constexpr auto& tile_rows = isa_tile_rows;
  Register v;

  static MLPFAST_INLINE Vec128 all(T x) { return {x - Register{}}; }  // minus 0 keeps the sign of -0
  static MLPFAST_INLINE Vec128 load(const T* p) { return {*reinterpret_cast<const Unaligned*>(p)}; }
  static MLPFAST_INLINE Vec128 load(const T* p, int64_t n, T fill = 0) {
    Vec128 r = all(fill);
    MLPFAST_UNROLL
    for (int i = 0; i < lanes - 1; ++i)
      if (i < n) r.v[i] = p[i];
    return r;
  }
  static MLPFAST_INLINE Vec128 load_uint8(const std::uint8_t* p) { return load_uint8(p, lanes); }
  static MLPFAST_INLINE Vec128 load_uint8(const std::uint8_t* p, int64_t n) {
    Vec128 r = all(0);
    MLPFAST_UNROLL
    for (int i = 0; i < lanes; ++i)
      if (i < n) r.v[i] = static_cast<T>(p[i]);
    return r;
  }
  MLPFAST_INLINE void store(T* p) const { *reinterpret_cast<Unaligned*>(p) = v; }
  MLPFAST_INLINE void store(T* p, int64_t n) const {
    MLPFAST_UNROLL
    for (int i = 0; i < lanes - 1; ++i)
      if (i < n) p[i] = v[i];
  }

  static MLPFAST_INLINE Register low(Register a, Register b) {
    if constexpr (lanes == 4)
      return __builtin_shufflevector(a, b, 0, 4, 1, 5);
    else
      return __builtin_shufflevector(a, b, 0, 2);
  }
  static MLPFAST_INLINE Register high(Register a, Register b) {
    if constexpr (lanes == 4)
      return __builtin_shufflevector(a, b, 2, 6, 3, 7);
    else
      return __builtin_shufflevector(a, b, 1, 3);
  }
  /// Each round interleaves the first half of the rows with the second.
  static MLPFAST_INLINE void transpose(Vec128 (&r)[lanes]) {
    MLPFAST_UNROLL
    for (int round = 1; round < lanes; round *= 2) {
      Register t[lanes];
      MLPFAST_UNROLL
      for (int i = 0; i < lanes; ++i) t[i] = r[i].v;
      MLPFAST_UNROLL
      for (int i = 0; i < lanes / 2; ++i) {
        r[2 * i].v = low(t[i], t[i + lanes / 2]);
        r[2 * i + 1].v = high(t[i], t[i + lanes / 2]);
      }
    }
  }
};

using VecF32 = Vec128<float>;
using VecF64 = Vec128<double>;

template <class T>
MLPFAST_INLINE Vec128<T> operator+(Vec128<T> a, Vec128<T> b) {
  return {a.v + b.v};
}
template <class T>
MLPFAST_INLINE Vec128<T> operator-(Vec128<T> a, Vec128<T> b) {
  return {a.v - b.v};
}
template <class T>
MLPFAST_INLINE Vec128<T> operator*(Vec128<T> a, Vec128<T> b) {
  return {a.v * b.v};
}
template <class T>
MLPFAST_INLINE Vec128<T> operator/(Vec128<T> a, Vec128<T> b) {
  return {a.v / b.v};
}
template <class T>
MLPFAST_INLINE auto less(Vec128<T> a, Vec128<T> b) {
  return a.v < b.v;
}
template <class T>
MLPFAST_INLINE auto equal(Vec128<T> a, Vec128<T> b) {
  return a.v == b.v;
}
template <class Mask, class T>
MLPFAST_INLINE Vec128<T> select(Mask mask, Vec128<T> yes, Vec128<T> no) {
  return {mask ? yes.v : no.v};
}
template <class T>
MLPFAST_INLINE Vec128<T> maximum(Vec128<T> a, Vec128<T> b) {
  return {a.v > b.v ? a.v : b.v};
}

template <class T>
MLPFAST_INLINE Vec128<T> from_bits(typename Vec128<T>::Words bits) {
  return {reinterpret_cast<typename Vec128<T>::Register>(bits)};
}
template <class T>
MLPFAST_INLINE auto bits_of(Vec128<T> a) {
  return reinterpret_cast<typename Vec128<T>::Words>(a.v);
}

template <class T>
MLPFAST_INLINE Vec128<T> absolute(Vec128<T> a) {
  return from_bits<T>(bits_of(a) << 1 >> 1);
}

/// Low bits of n + 1.5 * 2^23, biased and moved to the exponent's place; what lies above them falls out.
template <class T>
MLPFAST_INLINE Vec128<T> power_of_two(Vec128<T> n) {
  using F = Format<T>;
  return from_bits<T>(bits_of(n + Vec128<T>::all(F::whole * T(1.5) + F::bias)) << F::mantissa_bits);
}

template <class T>
MLPFAST_INLINE Vec128<T> scale2(Vec128<T> a, Vec128<T> n) {
  const Vec128<T> half = nearest(n * Vec128<T>::all(T(0.5)));
  return a * power_of_two(half) * power_of_two(n - half);
}

template <class T>
MLPFAST_INLINE Vec128<T> split2(Vec128<T> a, Vec128<T>& n) {
  using F = Format<T>;
  using Word = typename F::Word;
  constexpr Word above = F::bias + 1;  // keeps the exponent from being negative
  const auto bits = bits_of(a);
  const auto exponent = (bits - (F::sqrt_half - (above << F::mantissa_bits))) >> F::mantissa_bits;
  n = from_bits<T>(exponent | bits_of(Vec128<T>::all(F::whole))) - Vec128<T>::all(F::whole + T(above));
  return from_bits<T>(bits - ((exponent - above) << F::mantissa_bits));
}

}  // namespace
