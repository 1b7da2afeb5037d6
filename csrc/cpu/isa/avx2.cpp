// AVX2 with FMA: 8 float32 or 4 float64 a register, 16 registers, a gemm tile of 6 rows of 2 registers.
#include <immintrin.h>

#include "cpu/isa/kernels.inl.h"

namespace {

alignas(64) constexpr std::int32_t lane_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

MLPFAST_INLINE __m256i lane_mask(int64_t zeros) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lane_masks + zeros));
}

MLPFAST_INLINE __m128i first_bytes(const std::uint8_t* p, int64_t n) {
  std::uint64_t bytes = 0;
  for (int64_t i = n - 1; i >= 0; --i) bytes = bytes << 8 | p[i];
  return _mm_cvtsi64_si128(static_cast<long long>(bytes));
}

struct VecF32 {
  using T = float;
  static constexpr int lanes = 8, tile_vectors = 2, tile_rows[] = {12, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1};
  static constexpr Blocking blocking{
      .k = 384, .panels_bytes = 256 << 10, .packs_from = {0, 0}, .strips_bytes = 64 << 10};
  __m256 v;

  static MLPFAST_INLINE __m256i first(int64_t n) { return lane_mask(8 - n); }
  static MLPFAST_INLINE VecF32 all(float x) { return {_mm256_set1_ps(x)}; }
  static MLPFAST_INLINE VecF32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static MLPFAST_INLINE VecF32 load(const float* p, int64_t n, float fill = 0) {
    const __m256i mask = first(n);
    return {_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask))};
  }
  static MLPFAST_INLINE VecF32 load_uint8(const std::uint8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static MLPFAST_INLINE VecF32 load_uint8(const std::uint8_t* p, int64_t n) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(first_bytes(p, n)))};
  }
  MLPFAST_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
  MLPFAST_INLINE void stream(float* p) const { _mm256_stream_ps(p, v); }
  static MLPFAST_INLINE void end_streams() { _mm_sfence(); }
  /// In pieces: a masked store is microcode on AMD's cores (cross-entropy of 10 classes: 15 % slower on a Zen 3).
  MLPFAST_INLINE void store(float* p, int64_t n) const {
    __m128 rest = _mm256_castps256_ps128(v);
    if (n & 4) {
      _mm_storeu_ps(p, rest);
      p += 4;
      rest = _mm256_extractf128_ps(v, 1);
    }
    if (n & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
      p += 2;
      rest = _mm_movehl_ps(rest, rest);
    }
    if (n & 1) _mm_store_ss(p, rest);
  }

  static MLPFAST_INLINE void transpose(VecF32 (&r)[8]) {
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

MLPFAST_INLINE VecF32 operator+(VecF32 a, VecF32 b) { return {_mm256_add_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 operator-(VecF32 a, VecF32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 operator*(VecF32 a, VecF32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 operator/(VecF32 a, VecF32 b) { return {_mm256_div_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
MLPFAST_INLINE __m256 less(VecF32 a, VecF32 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
MLPFAST_INLINE __m256 equal(VecF32 a, VecF32 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ); }
MLPFAST_INLINE VecF32 select(__m256 mask, VecF32 yes, VecF32 no) { return {_mm256_blendv_ps(no.v, yes.v, mask)}; }
MLPFAST_INLINE VecF32 maximum(VecF32 a, VecF32 b) { return {_mm256_max_ps(a.v, b.v)}; }
MLPFAST_INLINE VecF32 absolute(VecF32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0F), a.v)}; }
MLPFAST_INLINE VecF32 nearest(VecF32 a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

MLPFAST_INLINE __m256 power_of_two_f32(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

MLPFAST_INLINE VecF32 scale2(VecF32 a, VecF32 n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1);
  const __m256 first = _mm256_mul_ps(a.v, power_of_two_f32(half));
  return {_mm256_mul_ps(first, power_of_two_f32(_mm256_sub_epi32(whole, half)))};
}

MLPFAST_INLINE VecF32 split2(VecF32 a, VecF32& n) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i exponent = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
  n = {_mm256_cvtepi32_ps(exponent)};
  return {_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)))};
}

struct VecF64 {
  using T = double;
  static constexpr int lanes = 4, tile_vectors = 2, tile_rows[] = {12, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1};
  static constexpr Blocking blocking{
      .k = 384, .panels_bytes = 256 << 10, .packs_from = {0, 0}, .strips_bytes = 64 << 10};
  __m256d v;

  static MLPFAST_INLINE __m256i first(int64_t n) { return lane_mask(8 - 2 * n); }
  static MLPFAST_INLINE VecF64 all(double x) { return {_mm256_set1_pd(x)}; }
  static MLPFAST_INLINE VecF64 load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static MLPFAST_INLINE VecF64 load(const double* p, int64_t n, double fill = 0) {
    const __m256i mask = first(n);
    return {_mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask))};
  }
  static MLPFAST_INLINE VecF64 load_uint8(const std::uint8_t* p) {
    return {_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_loadu_si32(p)))};
  }
  static MLPFAST_INLINE VecF64 load_uint8(const std::uint8_t* p, int64_t n) {
    return {_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(first_bytes(p, n)))};
  }
  MLPFAST_INLINE void store(double* p) const { _mm256_storeu_pd(p, v); }
  MLPFAST_INLINE void stream(double* p) const { _mm256_stream_pd(p, v); }
  static MLPFAST_INLINE void end_streams() { _mm_sfence(); }
  MLPFAST_INLINE void store(double* p, int64_t n) const {
    __m128d rest = _mm256_castpd256_pd128(v);
    if (n & 2) {
      _mm_storeu_pd(p, rest);
      p += 2;
      rest = _mm256_extractf128_pd(v, 1);
    }
    if (n & 1) _mm_store_sd(p, rest);
  }

  static MLPFAST_INLINE void transpose(VecF64 (&r)[4]) {
    __m256d pair[4];
    MLPFAST_UNROLL
    for (int i = 0; i < 4; i += 2) {
      pair[i] = _mm256_unpacklo_pd(r[i].v, r[i + 1].v);
      pair[i + 1] = _mm256_unpackhi_pd(r[i].v, r[i + 1].v);
    }
    MLPFAST_UNROLL
    for (int i = 0; i < 2; ++i) {
      r[i].v = _mm256_permute2f128_pd(pair[i], pair[i + 2], 0x20);
      r[i + 2].v = _mm256_permute2f128_pd(pair[i], pair[i + 2], 0x31);
    }
  }
};

MLPFAST_INLINE VecF64 operator+(VecF64 a, VecF64 b) { return {_mm256_add_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 operator-(VecF64 a, VecF64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 operator*(VecF64 a, VecF64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 operator/(VecF64 a, VecF64 b) { return {_mm256_div_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
MLPFAST_INLINE __m256d less(VecF64 a, VecF64 b) { return _mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ); }
MLPFAST_INLINE __m256d equal(VecF64 a, VecF64 b) { return _mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ); }
MLPFAST_INLINE VecF64 select(__m256d mask, VecF64 yes, VecF64 no) { return {_mm256_blendv_pd(no.v, yes.v, mask)}; }
MLPFAST_INLINE VecF64 maximum(VecF64 a, VecF64 b) { return {_mm256_max_pd(a.v, b.v)}; }
MLPFAST_INLINE VecF64 absolute(VecF64 a) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v)}; }
MLPFAST_INLINE VecF64 nearest(VecF64 a) {
  return {_mm256_round_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

MLPFAST_INLINE __m256d power_of_two_f64(__m128i n) {
  const __m256i biased = _mm256_cvtepi32_epi64(_mm_add_epi32(n, _mm_set1_epi32(1023)));
  return _mm256_castsi256_pd(_mm256_slli_epi64(biased, 52));
}

MLPFAST_INLINE VecF64 scale2(VecF64 a, VecF64 n) {
  const __m128i whole = _mm256_cvtpd_epi32(n.v), half = _mm_srai_epi32(whole, 1);
  const __m256d first = _mm256_mul_pd(a.v, power_of_two_f64(half));
  return {_mm256_mul_pd(first, power_of_two_f64(_mm_sub_epi32(whole, half)))};
}

/// AVX2 neither shifts int64 arithmetically nor converts them: the exponent is kept positive, + 1024, and becomes a
/// double as the low bits of 2^52.
MLPFAST_INLINE VecF64 split2(VecF64 a, VecF64& n) {
  const __m256i bits = _mm256_castpd_si256(a.v);
  const __m256i shifted = _mm256_sub_epi64(bits, _mm256_set1_epi64x(0x3fe6a09e667f3bcd - (1024LL << 52)));
  const __m256i exponent = _mm256_srli_epi64(shifted, 52);
  const __m256d above = _mm256_castsi256_pd(_mm256_or_si256(exponent, _mm256_castpd_si256(_mm256_set1_pd(0x1p52))));
  n = {_mm256_sub_pd(above, _mm256_set1_pd(0x1p52 + 1024))};
  return {_mm256_castsi256_pd(
      _mm256_sub_epi64(bits, _mm256_slli_epi64(_mm256_sub_epi64(exponent, _mm256_set1_epi64x(1024)), 52)))};
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_avx2;
constinit const Isa isa_avx2{"avx2", make_table<VecF32>(), make_table<VecF64>()};
}  // namespace mlpfast::cpu
