// One number at a time. fma comes from the C library, exact with or without hardware: the oracle of the other ISAs.
#include "cpu/isa/kernels.inl.h"

namespace {

template <class Number>
struct Vec {
  using T = Number;
  static constexpr int lanes = 1, tile_vectors = 4, tile_rows[] = {4, 4, 4, 4};
  T v;

  static MLPFAST_INLINE Vec all(T x) { return {x}; }
  static MLPFAST_INLINE Vec load(const T* p) { return {*p}; }
  static MLPFAST_INLINE Vec load(const T*, int64_t, T fill = 0) { return {fill}; }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t* p) { return {static_cast<T>(*p)}; }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t*, int64_t) { return {0}; }
  MLPFAST_INLINE void store(T* p) const { *p = v; }
  MLPFAST_INLINE void store(T*, int64_t) const {}
  static MLPFAST_INLINE void transpose(Vec (&)[1]) {}

  friend MLPFAST_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend MLPFAST_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend MLPFAST_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend MLPFAST_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  friend MLPFAST_INLINE bool less(Vec a, Vec b) { return a.v < b.v; }
  friend MLPFAST_INLINE bool equal(Vec a, Vec b) { return a.v == b.v; }
  friend MLPFAST_INLINE Vec select(bool mask, Vec yes, Vec no) { return mask ? yes : no; }
  friend MLPFAST_INLINE Vec maximum(Vec a, Vec b) { return a.v > b.v ? a : b; }
};

using VecF32 = Vec<float>;
using VecF64 = Vec<double>;

MLPFAST_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
MLPFAST_INLINE VecF32 absolute(VecF32 a) { return {__builtin_fabsf(a.v)}; }
MLPFAST_INLINE VecF32 nearest(VecF32 a) { return {__builtin_rintf(a.v)}; }
MLPFAST_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return {__builtin_fma(a.v, b.v, c.v)}; }
MLPFAST_INLINE VecF64 absolute(VecF64 a) { return {__builtin_fabs(a.v)}; }
MLPFAST_INLINE VecF64 nearest(VecF64 a) { return {__builtin_rint(a.v)}; }

template <class T>
struct Bits;  // of a number: an integer as wide, where the exponent begins, its bias, and sqrt(1/2)
template <>
struct Bits<float> {
  using Int = std::int32_t;
  static constexpr int exponent = 23, bias = 127;
  static constexpr Int sqrt_half = 0x3f3504f3;
};
template <>
struct Bits<double> {
  using Int = std::int64_t;
  static constexpr int exponent = 52, bias = 1023;
  static constexpr Int sqrt_half = 0x3fe6a09e667f3bcd;
};

template <class T>
MLPFAST_INLINE T power_of_two(int n) {
  using B = Bits<T>;
  return __builtin_bit_cast(T, static_cast<typename B::Int>(n + B::bias) << B::exponent);
}

template <class T>
MLPFAST_INLINE Vec<T> scale2(Vec<T> a, Vec<T> n) {
  const int whole = n.v == n.v ? static_cast<int>(n.v) : 0, half = whole >> 1;
  return {a.v * power_of_two<T>(half) * power_of_two<T>(whole - half)};
}

template <class T>
MLPFAST_INLINE Vec<T> split2(Vec<T> a, Vec<T>& n) {
  using B = Bits<T>;
  using Int = typename B::Int;
  const Int bits = __builtin_bit_cast(Int, a.v), exponent = (bits - B::sqrt_half) >> B::exponent;
  n = {static_cast<T>(exponent)};
  return {__builtin_bit_cast(T, bits - exponent * (Int{1} << B::exponent))};
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_scalar;
constinit const Isa isa_scalar{"scalar", make_table<VecF32>(), make_table<VecF64>()};
}  // namespace mlpfast::cpu
