// AMX: eight tiles of 16 rows of 64 bytes; one instruction adds to a tile the product of two tiles of bf16, or
// of bytes. Four hold 32 x 32 sums, two each the parts of a and of b at hand; or 16 x 16 sums of each weight, three
// digits of a and one of b.
#include <immintrin.h>

#include "cpu/isa/bytes.inl.h"

namespace {

struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr Configuration configuration;

// gcc's own intrinsics do not say that they read or write memory.
template <int Tile>
MLPFAST_INLINE void tile_load(const void* p, int64_t pitch) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(Tile), "r"(p), "r"(pitch) : "memory");
}
template <int Tile>
MLPFAST_INLINE void tile_store(void* p, int64_t pitch) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(Tile), "r"(p), "r"(pitch) : "memory");
}
template <int Tile>
MLPFAST_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
}
template <int Sum, int A, int B>
MLPFAST_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
}
/// Of bytes, those of b signed.
template <int Sum, int A, int B>
MLPFAST_INLINE void tile_multiply_bytes() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
}
/// Of signed bytes.
template <int Sum, int A, int B>
MLPFAST_INLINE void tile_multiply_digits() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
}

struct Amx {
  static void begin() { asm volatile("ldtilecfg %0" ::"m"(configuration) : "memory"); }
  static void end() { asm volatile("tilerelease" ::: "memory"); }
  static MLPFAST_INLINE Words halves(Floats x, Floats y) {
    constexpr Words interleaved = {0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
                                   0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f};
    return reinterpret_cast<Words>(_mm512_permutexvar_epi16(reinterpret_cast<__m512i>(interleaved),
                                                            reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x))));
  }
  static MLPFAST_INLINE Words widen(const std::uint8_t* p) {
    return reinterpret_cast<Words>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static MLPFAST_INLINE Exponents integer(Floats v) {
    return reinterpret_cast<Exponents>(_mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static MLPFAST_INLINE Floats add_product(Floats a, float b, Floats c) {
    return _mm512_fmadd_ps(a, _mm512_set1_ps(b), c);
  }
  static MLPFAST_INLINE Floats scale(Floats v, Exponents e) {
    return _mm512_scalef_ps(v, __builtin_convertvector(e, Floats));
  }

  template <int AParts, int BParts, int Parts>
  static void multiply(const TileProduct& t) {
    float* c = t.c;
    if (t.accumulate) {
      tile_load<0>(c, sum_bytes);
      tile_load<1>(c + 16, sum_bytes);
      tile_load<2>(c + 16 * strip_size, sum_bytes);
      tile_load<3>(c + 16 * strip_size + 16, sum_bytes);
    } else {
      zero_sums();
    }
    const std::uint8_t *a = t.a, *b = t.b;
    for (int64_t p = 0; p < t.blocks; ++p) {
      const std::uint8_t *next_a = a + AParts * part_bytes, *next_b = b + BParts * part_bytes;
      int a_part = -1, b_part = -1;  // those in tiles 4 and 5, and in 6 and 7
      int fetched = 0;
      const auto prefetch_more = [&]() __attribute__((always_inline)) {
        constexpr int products = count_products<AParts, BParts, Parts>();
        constexpr int a_lines = 32 * AParts, lines = a_lines + 32 * BParts, gaps = 4 * products;
        MLPFAST_UNROLL
        for (int n = 0; n < (lines + gaps - 1) / gaps; ++n, ++fetched) {
          __builtin_prefetch(fetched < a_lines ? next_a + fetched * row_bytes
                                               : next_b + (fetched - a_lines) * row_bytes);
        }
      };
      for_products<AParts, BParts, Parts>([&](int i, int j) __attribute__((always_inline)) {
        if (i != a_part) {
          tile_load<4>(a + i * part_bytes, 64);
          tile_load<5>(a + i * part_bytes + tile_bytes, 64);
          a_part = i;
        }
        if (j != b_part) {
          tile_load<6>(b + j * part_bytes, 64);
          tile_load<7>(b + j * part_bytes + tile_bytes, 64);
          b_part = j;
        }
        tile_multiply<0, 4, 6>();
        prefetch_more();
        tile_multiply<1, 4, 7>();
        prefetch_more();
        tile_multiply<2, 5, 6>();
        prefetch_more();
        tile_multiply<3, 5, 7>();
        prefetch_more();
      });
      a = next_a;
      b = next_b;
    }
    store_sums(c);
  }

  /// Sums of 16 x 16 products of digits, by weight.
  static void multiply_digits(int64_t blocks, const std::uint8_t* a, const std::uint8_t* b, std::int32_t* sums) {
    constexpr int64_t block_bytes = max_digits * part_bytes;
    zero_sums();
    for (int64_t p = 0; p < blocks; ++p, a += block_bytes, b += block_bytes) {
      int fetched = 0;
      const auto prefetch_more = [&]() __attribute__((always_inline)) {
        constexpr int lines = 16 * max_digits, gaps = 10;
        MLPFAST_UNROLL
        for (int n = 0; n < (lines + gaps - 1) / gaps; ++n, ++fetched)
          __builtin_prefetch(b + block_bytes + fetched / 16 * part_bytes + fetched % 16 * row_bytes);
      };
      const auto multiply = [&]<int Sum, int Of>() __attribute__((always_inline)) {
        tile_multiply_digits<Sum, Of, 7>();
        prefetch_more();
      };
      tile_load<7>(b, 64);
      tile_load<4>(a + 3 * part_bytes, 64);
      multiply.template operator()<3, 4>();
      tile_load<6>(a + 2 * part_bytes, 64);
      tile_load<5>(a + part_bytes, 64);
      tile_load<4>(a, 64);
      multiply.template operator()<2, 6>();
      multiply.template operator()<1, 5>();
      multiply.template operator()<0, 4>();
      tile_load<7>(b + part_bytes, 64);
      multiply.template operator()<2, 5>();
      multiply.template operator()<3, 6>();
      multiply.template operator()<1, 4>();
      tile_load<7>(b + 2 * part_bytes, 64);
      multiply.template operator()<2, 4>();
      multiply.template operator()<3, 5>();
      tile_load<7>(b + 3 * part_bytes, 64);
      multiply.template operator()<3, 4>();
    }
    tile_store<0>(sums, row_bytes);
    tile_store<1>(sums + 256, row_bytes);
    tile_store<2>(sums + 512, row_bytes);
    tile_store<3>(sums + 768, row_bytes);
  }

  static void multiply_bytes(const ByteProduct& t) {
    const std::uint8_t* b = t.b;
    std::int32_t* c = t.c;
    for (int d = 0; d < t.digits; ++d, c += strip_size * strip_size) {
      zero_sums();
      const std::uint8_t* a = t.a;
      for (int64_t p = 0; p < t.blocks; ++p) {
        tile_load<4>(a, t.ld);
        tile_load<6>(b, 64);
        tile_load<7>(b + tile_bytes, 64);
        tile_load<5>(a + 16 * t.ld, t.ld);
        a += t.a_block;
        b += part_bytes;
        tile_multiply_bytes<0, 4, 6>();
        prefetch<0>(b);
        tile_multiply_bytes<1, 4, 7>();
        prefetch<8>(b);
        tile_multiply_bytes<2, 5, 6>();
        prefetch<16>(b);
        tile_multiply_bytes<3, 5, 7>();
        prefetch<24>(b);
      }
      store_sums(c);
    }
  }

 private:
  static constexpr int64_t sum_bytes = strip_size * 4;  // of a row of sums

  static MLPFAST_INLINE void zero_sums() {
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
  }
  template <class T>
  static MLPFAST_INLINE void store_sums(T* c) {
    tile_store<0>(c, sum_bytes);
    tile_store<1>(c + 16, sum_bytes);
    tile_store<2>(c + 16 * strip_size, sum_bytes);
    tile_store<3>(c + 16 * strip_size + 16, sum_bytes);
  }
  /// Eight rows of each of the next tiles of b. They come from L2, which a core shared with another's thread takes its
  /// time for: with prefetches between the products, and loads before them, 1.3 times as fast there, and as fast on a
  /// core of its own. Those of a, which serve all digits, are not worth it (0.9 times; Emerald Rapids).
  template <int First>
  static MLPFAST_INLINE void prefetch(const std::uint8_t* b) {
    MLPFAST_UNROLL
    for (int r = First; r < First + 8; ++r) __builtin_prefetch(b + r * 64);
  }
};

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_amx;
constinit const Isa isa_amx{"amx", {}, {}, &tile_table<Amx>};
}  // namespace mlpfast::cpu
