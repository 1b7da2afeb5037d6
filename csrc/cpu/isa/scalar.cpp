// One number at a time. fma comes from the C library, exact with or without hardware: the oracle of the other ISAs.
#include "cpu/isa/kernels.inl.h"

namespace {

struct Vec {
  using T = float;
  static constexpr int lanes = 1, tile_vectors = 4, tile_rows[] = {4, 4, 4, 4};
  float v;

  static MLPFAST_INLINE Vec all(float x) { return {x}; }
  static MLPFAST_INLINE Vec load(const float* p) { return {*p}; }
  static MLPFAST_INLINE Vec load(const float*, int64_t, float fill = 0) { return {fill}; }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t* p) { return {static_cast<float>(*p)}; }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t*, int64_t) { return {0}; }
  MLPFAST_INLINE void store(float* p) const { *p = v; }
  MLPFAST_INLINE void store(float*, int64_t) const {}
  static MLPFAST_INLINE void transpose(Vec (&)[1]) {}
};

MLPFAST_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
MLPFAST_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
MLPFAST_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
MLPFAST_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
MLPFAST_INLINE Vec fma(Vec a, Vec b, Vec c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
MLPFAST_INLINE bool less(Vec a, Vec b) { return a.v < b.v; }
MLPFAST_INLINE bool equal(Vec a, Vec b) { return a.v == b.v; }
MLPFAST_INLINE Vec select(bool mask, Vec yes, Vec no) { return mask ? yes : no; }
MLPFAST_INLINE Vec maximum(Vec a, Vec b) { return a.v > b.v ? a : b; }
MLPFAST_INLINE Vec absolute(Vec a) { return {__builtin_fabsf(a.v)}; }
MLPFAST_INLINE Vec nearest(Vec a) { return {__builtin_rintf(a.v)}; }

MLPFAST_INLINE float power_of_two(int n) { return __builtin_bit_cast(float, (n + 127) << 23); }

MLPFAST_INLINE Vec scale2(Vec a, Vec n) {
  const int whole = n.v == n.v ? static_cast<int>(n.v) : 0, half = whole >> 1;
  return {a.v * power_of_two(half) * power_of_two(whole - half)};
}

MLPFAST_INLINE Vec split2(Vec a, Vec& n) {
  const int bits = __builtin_bit_cast(int, a.v), exponent = (bits - 0x3f3504f3) >> 23;
  n = {static_cast<float>(exponent)};
  return {__builtin_bit_cast(float, bits - static_cast<int>(static_cast<unsigned>(exponent) << 23))};
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_scalar;
constinit const Isa isa_scalar{"scalar", make_table<Vec>()};
}  // namespace mlpfast::cpu
