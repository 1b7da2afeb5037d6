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
MLPFAST_INLINE void pair(const std::uint16_t* row, Floats& even, Floats& odd) {
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

MLPFAST_INLINE Floats number(std::uint16_t half) { return flush(reinterpret_cast<Floats>(all(half << 16U))); }

void tile_multiply(float* c, const std::uint16_t* a, const std::uint16_t* b) {
  for (int i = 0; i < tile_rows; ++i) {
    Floats sum[2] = {};
    for (int t = 0; t < tile_rows; ++t) {
      Floats right[2];
      pair(b + t * row_halves, right[0], right[1]);
      for (int s = 0; s < 2; ++s) {
        const Doubles exact = wide(number(a[i * row_halves + 2 * t + s])) * wide(right[s]);
        sum[s] = flush(__builtin_convertvector(wide(sum[s]) + exact, Floats));
      }
    }
    float* row = c + i * strip;
    store(flush(flush(load(row)) + flush(sum[0] + sum[1])), row);
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
  /// In two steps, because one factor may be too large or too small for a float32.
  static MLPFAST_INLINE Floats scale(Floats v, Exponents e) {
    const Exponents half = e >> 1, rest = e - half;
    return v * power_of_two(reinterpret_cast<Words>(half)) * power_of_two(reinterpret_cast<Words>(rest));
  }

  template <int AParts, int BParts, int Parts>
  static void multiply(const TileProduct& t) {
    if (!t.accumulate) __builtin_memset(t.c, 0, strip * strip * sizeof(float));
    const std::uint16_t *a = t.a, *b = t.b;
    for (int64_t p = 0; p < t.blocks; ++p, a += 2 * AParts * tile_halves, b += 2 * BParts * tile_halves) {
      for_products<AParts, BParts, Parts>([&](int i, int j) {
        for (int h = 0; h < 4; ++h)
          tile_multiply(t.c + (h / 2) * 16 * strip + (h % 2) * 16, a + (2 * i + h / 2) * tile_halves,
                        b + (2 * j + h % 2) * tile_halves);
      });
    }
  }

  static void multiply_bytes(const ByteProduct& t) {
    __builtin_memset(t.c, 0, static_cast<std::size_t>(t.digits) * strip * strip * sizeof(std::int32_t));
    for (int64_t step = 0; step < t.digits * t.blocks * strip; ++step) {
      const int64_t i = step % strip, p = step / strip % t.blocks, d = step / strip / t.blocks;
      const std::uint8_t *a = t.a + i * t.ld + p * t.a_block, *b = t.b + (d * t.blocks + p) * digit_block;
      std::int32_t* c = t.c + (d * strip + i) * strip;
      for (int64_t k = 0; k < byte_k; ++k) {
        for (int64_t j = 0; j < strip; ++j) {
          c[j] += a[k] * static_cast<std::int8_t>(b[j / 16 * tile_bytes + k / 4 * 64 + j % 16 * 4 + k % 4]);
        }
      }
    }
  }
};

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_amx_emulated;
constinit const Isa isa_amx_emulated{"amx_emulated", {}, {}, &tile_table<Emulated>};
}  // namespace mlpfast::cpu
