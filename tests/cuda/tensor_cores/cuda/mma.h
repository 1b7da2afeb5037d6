// In place of csrc/cuda/mma.h, for tests: tensor cores played by the CPU. Sums round towards zero, as there they may.
#pragma once
#include <cuda_runtime.h>

#include <cmath>

namespace mlpfast::cuda {

inline float bf16_of(std::uint32_t pair, unsigned which) {
  return __builtin_bit_cast(float, which ? pair & 0xffff0000 : pair << 16);
}

inline void mma(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  static std::uint32_t given[2][shim::most_threads][6];
  const unsigned self = shim::current, warp = self / shim::warp * shim::warp, lane = self % shim::warp;
  auto& all = given[shim::threads[self].shuffles++ % 2];
  std::copy(a, a + 4, all[self]);
  std::copy(b, b + 2, all[self] + 4);
  shim::wait(shim::Fiber::at_warp);
  for (unsigned e = 0; e < 4; ++e) {
    const unsigned row = lane / 4 + e / 2 * 8, col = lane % 4 * 2 + e % 2;
    double sum = static_cast<double>(d[e]);
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned pair = k / 2 % 4, beyond = k / 8;
      const float x = bf16_of(all[warp + row % 8 * 4 + pair][row / 8 + 2 * beyond], k % 2);
      const float y = bf16_of(all[warp + col * 4 + pair][4 + beyond], k % 2);
      sum += static_cast<double>(x) * static_cast<double>(y);
    }
    const float nearest = static_cast<float>(sum);
    d[e] = std::abs(static_cast<double>(nearest)) > std::abs(sum) ? std::nextafter(nearest, 0.0F) : nearest;
  }
}

inline std::uint32_t to_bf16(float first, float second) {
  const auto nearest = [](float v) {
    const auto bits = __builtin_bit_cast(std::uint32_t, v);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  };
  return nearest(first) | nearest(second) << 16;
}

}  // namespace mlpfast::cuda
