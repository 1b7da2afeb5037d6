// AVX-512 (F, BW, DQ, VL): 16 floats a register, 32 registers, a 6 x 64 gemm tile.
#include <immintrin.h>

#include "cpu/isa/kernels.inl.h"

namespace {

struct Vec {
  using T = float;
  static constexpr int lanes = 16, tile_vectors = 4;
  static constexpr int tile_rows[] = {14, 12, 8, 6, 5, 4, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1};
  __m512 v;

  static MLPFAST_INLINE __mmask16 first(int64_t n) { return static_cast<__mmask16>((1U << n) - 1); }
  static MLPFAST_INLINE Vec all(float x) { return {_mm512_set1_ps(x)}; }
  static MLPFAST_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static MLPFAST_INLINE Vec load(const float* p, int64_t n, float fill = 0) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(n), p)};
  }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t* p, int64_t n) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p)))};
  }
  MLPFAST_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
  MLPFAST_INLINE void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }

  static MLPFAST_INLINE void transpose(Vec (&r)[16]) {
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

MLPFAST_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
MLPFAST_INLINE __mmask16 less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
MLPFAST_INLINE __mmask16 equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
MLPFAST_INLINE Vec select(__mmask16 mask, Vec yes, Vec no) { return {_mm512_mask_blend_ps(mask, no.v, yes.v)}; }
MLPFAST_INLINE Vec maximum(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec absolute(Vec a) { return {_mm512_abs_ps(a.v)}; }
MLPFAST_INLINE Vec nearest(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
MLPFAST_INLINE Vec scale2(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

MLPFAST_INLINE Vec split2(Vec a, Vec& n) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i exponent = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
  n = {_mm512_cvtepi32_ps(exponent)};
  return {_mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(exponent, 23)))};
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_avx512;
constinit const Isa isa_avx512{"avx512", make_table<Vec>()};
}  // namespace mlpfast::cpu
