// The border between mathematics and machines. Every formula in ops/ is a template over a vector type V:
// a CPU register of V::lanes numbers, or one number on a GPU. A V supplies
//   V::T  V::lanes  V::all(T)                         element type, how many, broadcast
//   a + b  a - b  a * b  a / b  fma(a, b, c)          each rounded once; fma twice where there is no FMA
//   less(a, b)  equal(a, b)  select(mask, yes, no)    false where an operand is NaN
//   maximum(a, b)  absolute(a)                        maximum: b where either is NaN
//   nearest(a)                                        to an integer, ties to even
//   scale2(a, n)                                      a * 2^n, n integral, |n| <= 2040 in float64, 250 in float32
//   split2(a, n)                                      a = m * 2^n, m in [sqrt(1/2), sqrt(2)); a positive and normal
#pragma once

#if defined(__CUDACC__)
#define MLPFAST_INLINE __host__ __device__ __forceinline__
#define MLPFAST_UNROLL _Pragma("unroll")
#else
#define MLPFAST_INLINE inline __attribute__((always_inline))
#define MLPFAST_UNROLL _Pragma("GCC unroll 32")
#endif
