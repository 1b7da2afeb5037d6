// AVX-512 (F, BW, DQ, VL): 16 float32 or 8 float64 a register, 32 registers, a gemm tile of 6 rows of 4 registers.
#include <immintrin.h>

#include "cpu/isa/kernels.inl.h"

namespace {

struct VecF32 {
  using T = float;
  static constexpr int lanes = 16, tile_vectors = 4;
  static constexpr int tile_rows[] = {14, 12, 8, 6, 5, 4, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1};
  static constexpr Blocking blocking{.panels_bytes = 1 << 20, .packs_from = {Blocking::never, 512}, .strips_cols = 384};
  static constexpr Blocking small_l2_blocking{.panels_bytes = 1 << 20, .crowds = 4096};
  __m512 v;

  static MLPFAST_INLINE __mmask16 first(int64_t n) { return static_cast<__mmask16>((1U << n) - 1); }
  static MLPFAST_INLINE VecF32 all(float x) { return {_mm512_set1_ps(x)}; }
  static MLPFAST_INLINE VecF32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static MLPFAST_INLINE VecF32 load(const float* p, int64_t n, float fill = 0) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(n), p)};
  }
  static MLPFAST_INLINE VecF32 load_uint8(const std::uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static MLPFAST_INLINE VecF32 load_uint8(const std::uint8_t* p, int64_t n) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p)))};
  }
  MLPFAST_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
  MLPFAST_INLINE void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  MLPFAST_INLINE void stream(float* p) const { _mm512_stream_ps(p, v); }
  static MLPFAST_INLINE void end_streams() { _mm_sfence(); }

  static MLPFAST_INLINE void transpose(VecF32 (&r)[16]) {
    __m512 t[16];
    MLPFAST_UNROLL
    for (int i = 0; i < 16; i += 2) {  // pairs of rows
      t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
      t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 16; i += 4) {  // 4 x 4 blocks within 128 bits
      r[i].v = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
      r[i + 1].v = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
      r[i + 2].v = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      r[i + 3].v = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 16; ++i) {  // quarters of rows i and i + 4
      if (i % 8 >= 4) continue;
      t[i] = _mm512_shuffle_f32x4(r[i].v, r[i + 4].v, 0x88);
      t[i + 4] = _mm512_shuffle_f32x4(r[i].v, r[i + 4].v, 0xdd);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 8; ++i) {  // quarters of rows i and i + 8
      r[i].v = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
      r[i + 8].v = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
  }
};

MLPFAST_INLINE VecF32 operator+(VecF32 a, VecF32 b) { return {_mm512_add_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 operator-(VecF32 a, VecF32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 operator*(VecF32 a, VecF32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 operator/(VecF32 a, VecF32 b) { return {_mm512_div_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
MLPFAST_INLINE __mmask16 less(VecF32 a, VecF32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
MLPFAST_INLINE __mmask16 equal(VecF32 a, VecF32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
MLPFAST_INLINE VecF32 select(__mmask16 mask, VecF32 yes, VecF32 no) {
  return {_mm512_mask_blend_ps(mask, no.v, yes.v)};
}
MLPFAST_INLINE VecF32 maximum(VecF32 a, VecF32 b) { return {_mm512_max_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 absolute(VecF32 a) { return {_mm512_abs_ps(a.v)}; }
MLPFAST_INLINE VecF32 nearest(VecF32 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
MLPFAST_INLINE VecF32 scale2(VecF32 a, VecF32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }

MLPFAST_INLINE VecF32 split2(VecF32 a, VecF32& n) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i exponent = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
  n = {_mm512_cvtepi32_ps(exponent)};
  return {_mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(exponent, 23)))};
}

struct VecF64 {
  using T = double;
  static constexpr int lanes = 8, tile_vectors = 4;
  static constexpr int tile_rows[] = {14, 12, 8, 6, 5, 4, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1};
  static constexpr Blocking blocking{.panels_bytes = 1 << 20, .packs_from = {Blocking::never, 512}, .strips_cols = 384};
  static constexpr Blocking small_l2_blocking{.panels_bytes = 1 << 20, .crowds = 4096};
  __m512d v;

  static MLPFAST_INLINE __mmask8 first(int64_t n) { return static_cast<__mmask8>((1U << n) - 1); }
  static MLPFAST_INLINE VecF64 all(double x) { return {_mm512_set1_pd(x)}; }
  static MLPFAST_INLINE VecF64 load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static MLPFAST_INLINE VecF64 load(const double* p, int64_t n, double fill = 0) {
    return {_mm512_mask_loadu_pd(_mm512_set1_pd(fill), first(n), p)};
  }
  static MLPFAST_INLINE VecF64 load_uint8(const std::uint8_t* p) {
    return {_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static MLPFAST_INLINE VecF64 load_uint8(const std::uint8_t* p, int64_t n) {
    return {_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p)))};
  }
  MLPFAST_INLINE void store(double* p) const { _mm512_storeu_pd(p, v); }
  MLPFAST_INLINE void store(double* p, int64_t n) const { _mm512_mask_storeu_pd(p, first(n), v); }
  MLPFAST_INLINE void stream(double* p) const { _mm512_stream_pd(p, v); }
  static MLPFAST_INLINE void end_streams() { _mm_sfence(); }

  static MLPFAST_INLINE void transpose(VecF64 (&r)[8]) {
    __m512d t[8];
    MLPFAST_UNROLL
    for (int i = 0; i < 8; i += 2) {  // pairs of rows
      t[i] = _mm512_unpacklo_pd(r[i].v, r[i + 1].v);
      t[i + 1] = _mm512_unpackhi_pd(r[i].v, r[i + 1].v);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 8; ++i) {  // quarters of rows i and i + 2
      if (i % 4 >= 2) continue;
      r[i].v = _mm512_shuffle_f64x2(t[i], t[i + 2], 0x88);
      r[i + 2].v = _mm512_shuffle_f64x2(t[i], t[i + 2], 0xdd);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 4; ++i) {  // quarters of rows i and i + 4
      const __m512d upper = r[i].v;
      r[i].v = _mm512_shuffle_f64x2(upper, r[i + 4].v, 0x88);
      r[i + 4].v = _mm512_shuffle_f64x2(upper, r[i + 4].v, 0xdd);
    }
  }
};

MLPFAST_INLINE VecF64 operator+(VecF64 a, VecF64 b) { return {_mm512_add_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 operator-(VecF64 a, VecF64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 operator*(VecF64 a, VecF64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 operator/(VecF64 a, VecF64 b) { return {_mm512_div_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
MLPFAST_INLINE __mmask8 less(VecF64 a, VecF64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ); }
MLPFAST_INLINE __mmask8 equal(VecF64 a, VecF64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ); }
MLPFAST_INLINE VecF64 select(__mmask8 mask, VecF64 yes, VecF64 no) { return {_mm512_mask_blend_pd(mask, no.v, yes.v)}; }
MLPFAST_INLINE VecF64 maximum(VecF64 a, VecF64 b) { return {_mm512_max_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 absolute(VecF64 a) { return {_mm512_abs_pd(a.v)}; }
MLPFAST_INLINE VecF64 nearest(VecF64 a) {
  return {_mm512_roundscale_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
MLPFAST_INLINE VecF64 scale2(VecF64 a, VecF64 n) { return {_mm512_scalef_pd(a.v, n.v)}; }

MLPFAST_INLINE VecF64 split2(VecF64 a, VecF64& n) {
  const __m512i bits = _mm512_castpd_si512(a.v);
  const __m512i exponent = _mm512_srai_epi64(_mm512_sub_epi64(bits, _mm512_set1_epi64(0x3fe6a09e667f3bcd)), 52);
  n = {_mm512_cvtepi64_pd(exponent)};
  return {_mm512_castsi512_pd(_mm512_sub_epi64(bits, _mm512_slli_epi64(exponent, 52)))};
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_avx512;
constinit const Isa isa_avx512{"avx512", make_table<VecF32>(), make_table<VecF64>()};
}  // namespace mlpfast::cpu
