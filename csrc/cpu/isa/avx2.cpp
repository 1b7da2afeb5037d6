// AVX2 with FMA: 8 floats a register, 16 registers, a 6 x 16 gemm tile.
#include <immintrin.h>

#include "cpu/isa/kernels.inl.h"

namespace {

alignas(64) constexpr std::int32_t lane_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Vec {
  using T = float;
  static constexpr int lanes = 8, tile_vectors = 2, tile_rows[] = {12, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1};
  __m256 v;

  static MLPFAST_INLINE __m256i first(int64_t n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lane_masks + 8 - n));
  }
  static MLPFAST_INLINE Vec all(float x) { return {_mm256_set1_ps(x)}; }
  static MLPFAST_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static MLPFAST_INLINE Vec load(const float* p, int64_t n, float fill = 0) {
    const __m256i mask = first(n);
    return {_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask))};
  }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static MLPFAST_INLINE Vec load_uint8(const std::uint8_t* p, int64_t n) {
    std::uint64_t bytes = 0;
    for (int64_t i = n - 1; i >= 0; --i) bytes = bytes << 8 | p[i];
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes))))};
  }
  MLPFAST_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
  MLPFAST_INLINE void store(float* p, int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }

  static MLPFAST_INLINE void transpose(Vec (&r)[8]) {
    __m256 pair[8], quad[8];
    MLPFAST_UNROLL
    for (int i = 0; i < 8; i += 2) {
      pair[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
      pair[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 8; i += 4) {
      quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
      quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
      quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
      quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      r[i].v = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20);
      r[i + 4].v = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31);
    }
  }
};

MLPFAST_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
MLPFAST_INLINE __m256 less(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
MLPFAST_INLINE __m256 equal(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ); }
MLPFAST_INLINE Vec select(__m256 mask, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, mask)}; }
MLPFAST_INLINE Vec maximum(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
MLPFAST_INLINE Vec absolute(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0F), a.v)}; }
MLPFAST_INLINE Vec nearest(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

MLPFAST_INLINE __m256 power_of_two(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

MLPFAST_INLINE Vec scale2(Vec a, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1);
  const __m256 first = _mm256_mul_ps(a.v, power_of_two(half));
  return {_mm256_mul_ps(first, power_of_two(_mm256_sub_epi32(whole, half)))};
}

MLPFAST_INLINE Vec split2(Vec a, Vec& n) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i exponent = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
  n = {_mm256_cvtepi32_ps(exponent)};
  return {_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)))};
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_avx2;
constinit const Isa isa_avx2{"avx2", make_table<Vec>()};
}  // namespace mlpfast::cpu
