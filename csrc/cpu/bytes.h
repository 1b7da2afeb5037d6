// Products of uint8 features, exact in the unit of tiles, by float32 numbers that became integers; see
// isa/bytes.inl.h. A strip of 32 columns that cannot, because a number is not finite or one lies too far above the
// others, is computed by FMAs.
#pragma once
#include "cpu/gemm.h"
#include "network/spec.h"

namespace mlpfast::cpu {

/// Whether a product of bytes a[m, k] pays; a rule of the shape, at all levels but "ieee".
bool bytes_pay(int64_t m, int64_t n, int64_t k, network::Precision precision);

/// Bytes of a, in memory of the caller: rows of strip s, block p of byte_k numbers, start at data + s * strip_step +
/// p * block, and lie ld apart. Whole strips and blocks are read; what lies beyond m and k does not matter.
struct ByteRows {
  std::uint8_t* data;
  int64_t ld, block, strip_step;

  static ByteRows plain(int64_t k, void* memory);   // row by row, as features lie
  static ByteRows turned(int64_t k, void* memory);  // tile by tile
  static int64_t plain_bytes(int64_t m, int64_t k);
  static int64_t turned_bytes(int64_t m, int64_t k);
};

/// Writes strip s of x, of so many features, into its transpose.
void turn_strip(const TileTable& tiles, const ByteRows& x, int64_t features, int64_t s, const ByteRows& turned);

/// Memory in which a team of `threads` splits the panels of b at hand.
int64_t digit_bytes(int64_t n, int64_t k, int64_t threads);

/// (a - shift) b. Where b are weights, a panel falls back if one number is far larger than the others: an input that is
/// always 0 may have such. Gradients do not: one example of a batch may be all that is left to learn.
struct ByteProblem {
  const Gemm<float>& gemm;  // its own a is not read
  ByteRows a;
  float shift;
  network::Precision precision;
  bool of_weights;
  void* digits;  // memory of digit_bytes()
};

/// By a team, all of whose members come here; then a barrier. Blocks of a strip that fell back are counted by
/// tile_fallbacks().
void multiply_bytes(Team& team, const KernelTable<float>& table, const TileTable& tiles, const ByteProblem& problem,
                    Epilogue<float> epilogue);

}  // namespace mlpfast::cpu
