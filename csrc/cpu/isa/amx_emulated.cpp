// The arithmetic of AMX's products without AMX, bit for bit. Of bf16: even and odd k are two chains of FMAs that start
// at 0; their sum is added to c; subnormal operands and results are 0; ties to even (Intel's Software Developer's
// Manual, TDPBF16PS). In double the product of two bf16 is exact, and its sum with a float32, rounded twice, is that of
// an FMA.
#include "cpu/isa/bytes.inl.h"

namespace {

MLPFAST_INLINE Floats flush(Floats x) {
  return reinterpret_cast<Floats>((bits(x) & 0x7f800000) == 0 ? bits(x) & 0x80000000 : bits(x));
}
MLPFAST_INLINE Doubles wide(Floats x) { return __builtin_convertvector(x, Doubles); }

/// The numbers of 16 columns in row t of a tile of b.
MLPFAST_INLINE void pair(const std::uint8_t* row, Floats& even, Floats& odd) {
  Words d;
  __builtin_memcpy(&d, row, sizeof d);
  even = flush(reinterpret_cast<Floats>(d << 16));
  odd = flush(reinterpret_cast<Floats>(d & 0xffff0000));
}

/// In the upper half of the bits.
MLPFAST_INLINE Words nearest_half(Floats x) {
  const Words u = bits(x);
  return (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000;
}

MLPFAST_INLINE Floats number(std::uint32_t half) {
  return reinterpret_cast<Floats>(all(((half & 0x7f80) == 0 ? half & 0x8000 : half) << 16));
}

/// The exponents of a tile's numbers, of those that are not flushed.
struct ExponentRange {
  std::int32_t least = 255, most = 0;

  explicit ExponentRange(const std::uint8_t* tile) {
    Exponents low = least - Exponents{}, high = {};
    for (int row = 0; row < tile_rows; ++row) {
      Words d;
      __builtin_memcpy(&d, tile + row * row_bytes, sizeof d);
      for (int shift = 7; shift < 32; shift += 16) {
        const auto e = reinterpret_cast<Exponents>(d >> shift & 255);
        high = e > high ? e : high;
        low = ((e > 0) & (e < low)) ? e : low;
      }
    }
    for (int j = 0; j < tile_rows; ++j) {
      most = high[j] > most ? high[j] : most;
      least = low[j] < least ? low[j] : least;
    }
  }
};

/// Whether no product overflows, and all are multiples of a normal float32: then they are exact, and no sum is
/// flushed.
bool products_are_plain(ExponentRange a, ExponentRange b) {
  constexpr std::int32_t finite = 255, digits = 14;  // of a product, behind the first
  return a.most < finite && b.most < finite && a.least + b.least > bias + digits && a.most + b.most < bias + finite - 2;
}

template <bool Plain>
void tile_multiply(float* c, const std::uint8_t* a, const std::uint8_t* b) {
  Floats right[tile_rows][2];
  for (int t = 0; t < tile_rows; ++t) pair(b + t * row_bytes, right[t][0], right[t][1]);
  for (int i = 0; i < tile_rows; ++i) {
    Floats sum[2] = {};
    for (int t = 0; t < tile_rows; ++t) {
      for (int s = 0; s < 2; ++s) {
        std::uint16_t half;
        __builtin_memcpy(&half, a + i * row_bytes + 2 * (2 * t + s), sizeof half);
        const Floats left = number(half);
        if constexpr (Plain) {
          sum[s] += left * right[t][s];
        } else {
          sum[s] = flush(__builtin_convertvector(wide(sum[s]) + wide(left) * wide(right[t][s]), Floats));
        }
      }
    }
    float* row = c + i * strip_size;
    store(flush(flush(load(row)) + flush(sum[0] + sum[1])), row);
  }
}

/// The same of signed bytes.
void tile_multiply(std::int32_t* c, const std::uint8_t* a, const std::uint8_t* b) {
  for (int i = 0; i < tile_rows; ++i) {
    Exponents sum;
    __builtin_memcpy(&sum, c + i * 16, sizeof sum);
    for (int k = 0; k < byte_k; ++k) {
      Words four;
      __builtin_memcpy(&four, b + k / 4 * row_bytes, sizeof four);
      sum += static_cast<std::int8_t>(a[i * row_bytes + k]) *
             (reinterpret_cast<Exponents>(four << (24 - k % 4 * 8)) >> 24);
    }
    store(sum, c + i * 16);
  }
}

struct Emulated {
  static void begin() {}
  static void end() {}
  static MLPFAST_INLINE Words halves(Floats x, Floats y) { return (nearest_half(x) >> 16) | nearest_half(y); }
  static MLPFAST_INLINE Words widen(const std::uint8_t* p) {
    Words v;
    for (int j = 0; j < 16; ++j) v[j] = p[j];
    return v;
  }
  static MLPFAST_INLINE Exponents integer(Floats v) {
    constexpr std::uint32_t whole = 150U << 23;  // 2^23: from here on floats are integers
    const Floats number = reinterpret_cast<Floats>((bits(v) & 0x80000000) | whole), rounded = (v + number) - number;
    return __builtin_convertvector((bits(v) & 0x7fffffff) >= whole ? v : rounded, Exponents);
  }
  /// Of integers and powers of two: the product is exact.
  static MLPFAST_INLINE Floats add_product(Floats a, float b, Floats c) { return a * b + c; }
  /// In two steps, because one factor may be too large or too small for a float32; what two cannot scale down is 0.
  static MLPFAST_INLINE Floats scale(Floats v, Exponents e) {
    constexpr std::int32_t least = -2 * 126;
    e = e > least ? e : least - Exponents{};
    Floats factor[2];
    factors_of(e, factor);
    return v * factor[0] * factor[1];
  }

  template <int AParts, int BParts, int Parts>
  static void multiply(const TileProduct& t) {
    if (!t.accumulate) __builtin_memset(t.c, 0, strip_size * strip_size * sizeof(float));
    const std::uint8_t *a = t.a, *b = t.b;
    for (int64_t p = 0; p < t.blocks; ++p, a += AParts * part_bytes, b += BParts * part_bytes) {
      for_products<AParts, BParts, Parts>([&](int i, int j) {
        for (int h = 0; h < 4; ++h) {
          const std::uint8_t *left = a + i * part_bytes + h / 2 * tile_bytes,
                             *right = b + j * part_bytes + h % 2 * tile_bytes;
          float* const c = t.c + (h / 2) * 16 * strip_size + (h % 2) * 16;
          products_are_plain(ExponentRange(left), ExponentRange(right)) ? tile_multiply<true>(c, left, right)
                                                                        : tile_multiply<false>(c, left, right);
        }
      });
    }
  }

  static void multiply_digits(int64_t blocks, const std::uint8_t* a, const std::uint8_t* b, std::int32_t* sums) {
    constexpr int64_t block_bytes = max_digits * part_bytes;
    __builtin_memset(sums, 0, weights * tile_bytes);
    for (int64_t p = 0; p < blocks; ++p, a += block_bytes, b += block_bytes) {
      for (int i = 0; i < weights; ++i)
        for (int j = 0; i + j < weights; ++j)
          tile_multiply(sums + (i + j) * tile_rows * 16, a + i * part_bytes, b + j * part_bytes);
    }
  }

  static void multiply_bytes(const ByteProduct& t) {
    __builtin_memset(t.c, 0, static_cast<std::size_t>(t.digits) * strip_size * strip_size * sizeof(std::int32_t));
    for (int64_t block = 0; block < t.digits * t.blocks; ++block) {
      Exponents right[byte_k][2];  // signed bytes, of 16 columns
      for (int64_t k = 0; k < byte_k; ++k) {
        for (int64_t h = 0; h < 2; ++h) {
          Words four;
          __builtin_memcpy(&four, t.b + block * part_bytes + h * tile_bytes + k / 4 * 64, sizeof four);
          right[k][h] = reinterpret_cast<Exponents>(four << (24 - k % 4 * 8)) >> 24;
        }
      }
      for (int64_t i = 0; i < strip_size; ++i) {
        const std::uint8_t* a = t.a + i * t.ld + block % t.blocks * t.a_block;
        std::int32_t* c = t.c + (block / t.blocks * strip_size + i) * strip_size;
        Exponents sum[2];
        __builtin_memcpy(sum, c, sizeof sum);
        for (int64_t k = 0; k < byte_k; ++k) {
          for (int64_t h = 0; h < 2; ++h) sum[h] += a[k] * right[k][h];
        }
        __builtin_memcpy(c, sum, sizeof sum);
      }
    }
  }
};

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_amx_emulated;
constinit const Isa isa_amx_emulated{"amx_emulated", {}, {}, &tile_table<Emulated>};
}  // namespace mlpfast::cpu
