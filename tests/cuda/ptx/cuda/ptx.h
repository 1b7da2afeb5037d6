// In place of csrc/cuda/ptx.h, for tests: what PTX says, played by the CPU. Copies that nobody has waited for are not
// there yet. Sums of tensor cores round towards zero, as there they may.
#pragma once
#include <cuda_runtime.h>

#include <cmath>

namespace mlpfast::cuda {

constexpr int compiled_for = 90;

inline char* shared_memory() { return shim::shared.data(); }

using Place = char*;

inline Place place_of(const void* shared) { return static_cast<char*>(const_cast<void*>(shared)); }

template <int bytes>
void copy_async(Place to, const void* from) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 || reinterpret_cast<std::uintptr_t>(from) % bytes != 0)
    throw std::logic_error("a copy that is not aligned");
  auto& self = shim::threads[shim::current];
  self.copies.emplace_back(self.groups, [=] { std::memcpy(to, from, bytes); });
}
inline void end_group() { ++shim::threads[shim::current].groups; }
template <int but>
void wait_for_groups() {
  auto& self = shim::threads[shim::current];
  std::erase_if(self.copies, [&](auto& c) { return c.first + but < self.groups && (c.second(), true); });
}

inline void load_matrices(std::uint32_t (&to)[4], Place row) {
  for (unsigned q = 0; q < 4; ++q) {
    const Place of_row = shim::shuffle(row, [=](unsigned lane) { return 8 * q + lane / 4; });
    std::memcpy(&to[q], of_row + shim::current % 4 * 4, 4);
  }
}

inline float bf16_of(std::uint32_t pair, unsigned which) {
  return __builtin_bit_cast(float, which ? pair & 0xffff0000 : pair << 16);
}

inline void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  static std::uint32_t given[2][shim::most_threads][6];
  const unsigned self = shim::current, warp = self / shim::warp * shim::warp, lane = self % shim::warp;
  auto& all = given[shim::threads[self].shuffles++ % 2];
  std::copy(a, a + 4, all[self]);
  all[self][4] = b0;
  all[self][5] = b1;
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
    const bool away = std::isfinite(nearest) && std::abs(static_cast<double>(nearest)) > std::abs(sum);
    d[e] = away ? std::nextafter(nearest, 0.0F) : nearest;
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
