// The AVX-512 intrinsics of csrc/cpu/isa/avx512.cpp, played by GCC's vectors and AVX2, for a test on processors without
// AVX-512. GCC's own headers are included up to AVX2, which leaves the names free.
#pragma once
#define _IMMINTRIN_H_INCLUDED
// clang-format off
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
// clang-format on

#define PLAYED inline __attribute__((always_inline))  // what gemm's tiles are made of; the rest would take minutes

typedef float __m512 __attribute__((vector_size(64)));
typedef double __m512d __attribute__((vector_size(64)));
typedef long long __m512i __attribute__((vector_size(64)));
typedef int Ints __attribute__((vector_size(64)));
typedef unsigned short __mmask16;
typedef unsigned char __mmask8;

namespace {

template <class V>
constexpr int lanes = sizeof(V) / sizeof(V{}[0]);
template <class V>
constexpr int quarter = lanes<V> / 4;

template <class V, class Lane>
__attribute__((noinline)) V each(const Lane& lane) {
  V v = {};
  for (int i = 0; i < lanes<V>; ++i) v[i] = lane(i);
  return v;
}

/// f(half of a, of b, of c)
template <class Half, class V, class F>
PLAYED V halves(V a, V b, V c, const F& f) {
  Half x[2], y[2], z[2];
  __builtin_memcpy(x, &a, sizeof x);
  __builtin_memcpy(y, &b, sizeof y);
  __builtin_memcpy(z, &c, sizeof z);
  for (int i = 0; i < 2; ++i) x[i] = f(x[i], y[i], z[i]);
  __builtin_memcpy(&a, x, sizeof x);
  return a;
}

template <class V>
V interleaved(V a, V b, int upper) {  // of each quarter, the lower or the upper half
  constexpr int q = quarter<V>;
  return each<V>([&](int i) { return (i % 2 ? b : a)[i / q * q + upper * q / 2 + i % q / 2]; });
}

template <class V>
V quarters(V a, V b, int order) {
  constexpr int q = quarter<V>;
  return each<V>([&](int i) { return (i < 2 * q ? a : b)[(order >> i / q * 2 & 3) * q + i % q]; });
}

template <class V>
V scaled(V a, V n) {
  return each<V>([&](int i) -> decltype(a[0] + 0) {
    return __builtin_ldexp(a[i], n[i] < -5000 ? -5000 : n[i] < 5000 ? static_cast<int>(n[i]) : 5000);
  });
}

#define PLAYED_FLOATS(V, T, Mask, Half, ps)                                                                           \
  PLAYED V _mm512_set1_##ps(T x) { return x - V{}; }                                                                  \
  PLAYED V _mm512_loadu_##ps(const void* p) {                                                                         \
    V v;                                                                                                              \
    __builtin_memcpy(&v, p, sizeof v);                                                                                \
    return v;                                                                                                         \
  }                                                                                                                   \
  PLAYED void _mm512_storeu_##ps(void* p, V v) { __builtin_memcpy(p, &v, sizeof v); }                                 \
  PLAYED void _mm512_stream_##ps(void* p, V v) { __builtin_memcpy(p, &v, sizeof v); }                                 \
  V _mm512_mask_loadu_##ps(V other, Mask mask, const T* p) {                                                          \
    return each<V>([&](int i) { return mask >> i & 1 ? p[i] : other[i]; });                                           \
  }                                                                                                                   \
  void _mm512_mask_storeu_##ps(T* p, Mask mask, V v) {                                                                \
    for (int i = 0; i < lanes<V>; ++i)                                                                                \
      if (mask >> i & 1) p[i] = v[i];                                                                                 \
  }                                                                                                                   \
  PLAYED V _mm512_add_##ps(V a, V b) { return a + b; }                                                                \
  PLAYED V _mm512_sub_##ps(V a, V b) { return a - b; }                                                                \
  PLAYED V _mm512_mul_##ps(V a, V b) { return a * b; }                                                                \
  PLAYED V _mm512_div_##ps(V a, V b) { return a / b; }                                                                \
  PLAYED V _mm512_fmadd_##ps(V a, V b, V c) {                                                                         \
    return halves<Half>(a, b, c, [](Half x, Half y, Half z) { return _mm256_fmadd_##ps(x, y, z); });                  \
  }                                                                                                                   \
  PLAYED V _mm512_max_##ps(V a, V b) { return a > b ? a : b; }                                                        \
  PLAYED V _mm512_roundscale_##ps(V a, int) {                                                                         \
    return halves<Half>(a, a, a, [](Half x, Half, Half) { return _mm256_round_##ps(x, _MM_FROUND_TO_NEAREST_INT); }); \
  }                                                                                                                   \
  V _mm512_abs_##ps(V a) { return a < 0 || a == 0 ? 0 - a : a; }                                                      \
  Mask _mm512_cmp_##ps##_mask(V a, V b, int how) {                                                                    \
    Mask mask = 0;                                                                                                    \
    for (int i = 0; i < lanes<V>; ++i)                                                                                \
      mask = static_cast<Mask>(mask | (how == _CMP_LT_OQ ? a[i] < b[i] : a[i] == b[i]) << i);                         \
    return mask;                                                                                                      \
  }                                                                                                                   \
  V _mm512_mask_blend_##ps(Mask mask, V no, V yes) {                                                                  \
    return each<V>([&](int i) { return mask >> i & 1 ? yes[i] : no[i]; });                                            \
  }                                                                                                                   \
  V _mm512_scalef_##ps(V a, V n) { return scaled(a, n); }                                                             \
  V _mm512_unpacklo_##ps(V a, V b) { return interleaved(a, b, 0); }                                                   \
  V _mm512_unpackhi_##ps(V a, V b) { return interleaved(a, b, 1); }                                                   \
  PLAYED __m512i _mm512_cast##ps##_si512(V a) { return reinterpret_cast<__m512i>(a); }                                \
  PLAYED V _mm512_castsi512_##ps(__m512i a) { return reinterpret_cast<V>(a); }

PLAYED_FLOATS(__m512, float, __mmask16, __m256, ps)
PLAYED_FLOATS(__m512d, double, __mmask8, __m256d, pd)

__m512 _mm512_shuffle_ps(__m512 a, __m512 b, int order) {
  return each<__m512>([&](int i) { return (i % 4 < 2 ? a : b)[i / 4 * 4 + (order >> i % 4 * 2 & 3)]; });
}
__m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int order) { return quarters(a, b, order); }
__m512d _mm512_shuffle_f64x2(__m512d a, __m512d b, int order) { return quarters(a, b, order); }

Ints ints(__m512i a) { return reinterpret_cast<Ints>(a); }
__m512i whole(Ints a) { return reinterpret_cast<__m512i>(a); }
__m512i _mm512_set1_epi32(int x) { return whole(x - Ints{}); }
__m512i _mm512_set1_epi64(long long x) { return x - __m512i{}; }
__m512i _mm512_sub_epi32(__m512i a, __m512i b) { return whole(ints(a) - ints(b)); }
__m512i _mm512_sub_epi64(__m512i a, __m512i b) { return a - b; }
__m512i _mm512_srai_epi32(__m512i a, int n) { return whole(ints(a) >> n); }
__m512i _mm512_srai_epi64(__m512i a, int n) { return a >> n; }
__m512i _mm512_slli_epi32(__m512i a, int n) { return whole(ints(a) << n); }
__m512i _mm512_slli_epi64(__m512i a, int n) { return a << n; }
__m512 _mm512_cvtepi32_ps(__m512i a) { return __builtin_convertvector(ints(a), __m512); }
__m512d _mm512_cvtepi64_pd(__m512i a) { return __builtin_convertvector(a, __m512d); }
__m512d _mm512_cvtepi32_pd(__m256i a) {
  return each<__m512d>([&](int i) { return reinterpret_cast<const int __attribute__((may_alias))*>(&a)[i]; });
}
__m128i _mm_maskz_loadu_epi8(__mmask16 mask, const unsigned char* p) {
  unsigned char bytes[16] = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) bytes[i] = p[i];
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}
__m512i _mm512_cvtepu8_epi32(__m128i a) {
  return whole(each<Ints>([&](int i) { return reinterpret_cast<const unsigned char*>(&a)[i]; }));
}

}  // namespace
