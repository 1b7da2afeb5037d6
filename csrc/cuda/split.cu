#include "cuda/split.h"

#include "cuda/launch.h"
#include "cuda/ptx.h"

namespace mlpfast::cuda {
namespace {

// The largest magnitude of a line is scaled to 2^top, so that sums stay finite; the least that is not 0 must not be
// below 2^bottom, so that no part of a product loses bits to underflow.
constexpr int top = 50, bottom = -45, largest_scale = 127;
constexpr std::uint32_t infinite = 0x7f800000, largest_bf16 = 0x7f7f0000;

constexpr int lines = 8, run = 8, runs = 32, threads = lines * runs;  // a thread has a run of a line's numbers

struct alignas(16) Pairs {
  std::uint32_t of[run / 2];
};

__device__ __forceinline__ std::uint32_t magnitude(float v) {
  return __builtin_bit_cast(std::uint32_t, v) & 0x7fffffff;
}

/// The exponent to scale a line by whose magnitudes, but for 0, have bits from low to high.
__device__ __forceinline__ int exponent_for(std::uint32_t low, std::uint32_t high) {
  if (high >= infinite) return unfit;
  if (high == 0) return 0;
  int by = top - ilogbf(__builtin_bit_cast(float, high));
  by = by < largest_scale ? by : largest_scale;
  return ilogbf(__builtin_bit_cast(float, low)) + by < bottom ? unfit : by;
}

/// Threads lie along memory: a warp a line, or eight threads a run of eight lines.
template <bool AlongK>
__global__ void __launch_bounds__(threads) split_kernel(const __grid_constant__ SplitArgs t) {
  const int self = static_cast<int>(threadIdx.x);
  const int line = AlongK ? self / runs : self % lines, mine = AlongK ? self % runs : self / lines;
  const int64_t row = int64_t(blockIdx.x) * lines + line;
  const auto load = [&](int64_t p, float (&v)[run]) {
    MLPFAST_UNROLL
    for (int e = 0; e < run; ++e) {
      v[e] = 0;
      if (row < t.count && p + e < t.k)
        v[e] = AlongK ? t.x.data[row * t.x.ld + p + e] : t.x.data[(p + e) * t.x.ld + row];
    }
  };
  float scale = 1;
  if (t.parts > 1) {
    __shared__ std::uint32_t least[lines][runs + 1], most[lines][runs + 1];
    std::uint32_t low = infinite, high = 0;
    for (int64_t p = mine * run; p < t.k; p += runs * run) {
      float v[run];
      load(p, v);
      MLPFAST_UNROLL
      for (int e = 0; e < run; ++e) {
        const std::uint32_t m = magnitude(v[e]);
        high = m > high ? m : high;
        low = m != 0 && m < low ? m : low;
      }
    }
    least[line][mine] = low;
    most[line][mine] = high;
    __syncthreads();
    for (int i = 0; i < runs; ++i) {
      high = most[line][i] > high ? most[line][i] : high;
      low = least[line][i] < low ? least[line][i] : low;
    }
    const int by = exponent_for(low, high);
    if (mine == 0 && row < t.count) t.to.exponents[row] = by;
    scale = by == unfit ? 0 : scalbnf(1, by);
  }
  char* const to = t.to.parts + row * t.to.pitch;
  for (int64_t p = mine * run; p < t.to.pitch / 2; p += runs * run) {
    float v[run];
    load(p, v);
    MLPFAST_UNROLL
    for (int e = 0; e < run; ++e) {
      const std::uint32_t m = magnitude(v[e]);
      if (t.parts == 1 && m > largest_bf16 && m < infinite)  // others are scaled
        v[e] = copysignf(__builtin_bit_cast(float, largest_bf16), v[e]);
      v[e] *= scale;
    }
    for (int q = 0; q < t.parts; ++q) {
      Pairs pairs;
      MLPFAST_UNROLL
      for (int e = 0; e < run; e += 2) {
        const std::uint32_t part = pairs.of[e / 2] = to_bf16(v[e], v[e + 1]);
        v[e] -= __builtin_bit_cast(float, part << 16);
        v[e + 1] -= __builtin_bit_cast(float, part & 0xffff0000);
      }
      *reinterpret_cast<Pairs*>(to + q * t.to.part_bytes + 2 * p) = pairs;
    }
  }
}

}  // namespace

void split(const SplitArgs& t, cudaStream_t stream) {
  launch(t.along_k ? split_kernel<true> : split_kernel<false>, {t.lines / lines, threads}, stream, t);
}

}  // namespace mlpfast::cuda
