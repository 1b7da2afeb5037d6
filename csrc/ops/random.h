// Counter-based random numbers: state is (seed, counter), so any element is reached in O(1) with the same bits on
// every machine. Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// The shuffle is a Feistel network whose round keys are Philox words; cycle walking fits it to any n.
#pragma once
#include <cstdint>

#include "ops/portable.h"

namespace mlpfast::ops {

struct Words {
  std::uint32_t w[4];
};

MLPFAST_INLINE Words philox(std::uint64_t seed, std::uint64_t counter, std::uint64_t stream) {
  constexpr std::uint64_t multiplier0 = 0xD2511F53, multiplier1 = 0xCD9E8D57;
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  Words c{{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
           static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = multiplier0 * c.w[0], p1 = multiplier1 * c.w[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.w[1] ^ key0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.w[3] ^ key1, static_cast<std::uint32_t>(p0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return c;
}

/// A pseudo-random permutation of 0 .. n-1 for each (seed, epoch).
class Shuffle {
 public:
  Shuffle(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) : n_(static_cast<std::uint64_t>(n)) {
    // At least 8 bits: on fewer, the network reaches too few of the n! permutations.
    int bits = 8;
    while (bits < 62 && (std::uint64_t{1} << bits) < n_) ++bits;
    low_bits_ = bits / 2;
    low_mask_ = (std::uint64_t{1} << low_bits_) - 1;
    high_mask_ = (std::uint64_t{1} << (bits - low_bits_)) - 1;
    for (int i = 0; i < rounds; i += 4) {
      const Words words = philox(seed, epoch, static_cast<std::uint64_t>(i));
      for (int j = 0; j < 4; ++j) keys_[i + j] = words.w[j];
    }
  }

  MLPFAST_INLINE std::int64_t operator()(std::int64_t position) const {
    auto x = static_cast<std::uint64_t>(position);
    do x = permute(x);
    while (x >= n_);
    return static_cast<std::int64_t>(x);
  }

 private:
  static constexpr int rounds = 8;

  static MLPFAST_INLINE std::uint64_t mix(std::uint64_t half, std::uint32_t key) {
    const std::uint64_t product = (half ^ key) * 0xD2511F53U;
    return product ^ (product >> 32);
  }

  MLPFAST_INLINE std::uint64_t permute(std::uint64_t x) const {
    std::uint64_t low = x & low_mask_, high = x >> low_bits_;
    for (int i = 0; i < rounds; i += 2) {
      high ^= mix(low, keys_[i]) & high_mask_;
      low ^= mix(high, keys_[i + 1]) & low_mask_;
    }
    return high << low_bits_ | low;
  }

  std::uint64_t n_, low_mask_, high_mask_;
  int low_bits_;
  std::uint32_t keys_[rounds];
};

}  // namespace mlpfast::ops
