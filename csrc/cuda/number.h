// One number on a GPU, as the vector type of the formulas in ops/. Its operations round once, as those of a CPU with
// FMA do: sources here are compiled without contraction and with IEEE division, so that both give the same bits.
#pragma once
#include <cuda_runtime.h>

#include "ops/portable.h"

namespace mlpfast::cuda {

struct Number {
  using T = float;
  static constexpr int lanes = 1;
  float v;

  static MLPFAST_INLINE Number all(float x) { return {x}; }
  friend MLPFAST_INLINE Number operator+(Number a, Number b) { return {a.v + b.v}; }
  friend MLPFAST_INLINE Number operator-(Number a, Number b) { return {a.v - b.v}; }
  friend MLPFAST_INLINE Number operator*(Number a, Number b) { return {a.v * b.v}; }
  friend MLPFAST_INLINE Number operator/(Number a, Number b) { return {a.v / b.v}; }
  friend MLPFAST_INLINE Number fma(Number a, Number b, Number c) { return {fmaf(a.v, b.v, c.v)}; }
  friend MLPFAST_INLINE bool less(Number a, Number b) { return a.v < b.v; }
  friend MLPFAST_INLINE bool equal(Number a, Number b) { return a.v == b.v; }
  friend MLPFAST_INLINE Number select(bool mask, Number yes, Number no) { return mask ? yes : no; }
  friend MLPFAST_INLINE Number maximum(Number a, Number b) { return a.v > b.v ? a : b; }
  friend MLPFAST_INLINE Number absolute(Number a) { return {fabsf(a.v)}; }
  friend MLPFAST_INLINE Number nearest(Number a) { return {rintf(a.v)}; }
};

MLPFAST_INLINE float power_of_two(int n) { return __builtin_bit_cast(float, (n + 127) << 23); }

MLPFAST_INLINE Number scale2(Number a, Number n) {
  const int whole = n.v == n.v ? static_cast<int>(n.v) : 0, half = whole >> 1;
  return {a.v * power_of_two(half) * power_of_two(whole - half)};
}

MLPFAST_INLINE Number split2(Number a, Number& n) {
  constexpr int sqrt_half = 0x3f3504f3;
  const int bits = __builtin_bit_cast(int, a.v), exponent = (bits - sqrt_half) >> 23;
  n = {static_cast<float>(exponent)};
  return {__builtin_bit_cast(float, bits - exponent * (1 << 23))};
}

}  // namespace mlpfast::cuda
