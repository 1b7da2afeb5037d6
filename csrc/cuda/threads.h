// Threads that work on one thing together: fold(mine, f) is f over all their numbers, in a fixed order, for each of
// them. And blocks that do.
#pragma once
#include <cuda_runtime.h>

#include "ops/portable.h"

namespace mlpfast::cuda {

constexpr unsigned whole_warp = 0xffffffff;

/// Loads of a thread that do not wait for each other, where nothing else hides how long memory takes.
constexpr int at_once = 16;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

/// A warp, or a part of it: f(lane, lane + half) for half = 8, 4, 2, 1, as a CPU folds its 16 lanes.
template <int lanes_>
struct Lanes {
  static constexpr int lanes = lanes_;
  static_assert(32 % lanes == 0);
  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) % lanes; }
  template <class T, class F>
  __device__ __forceinline__ T fold(T mine, const F& f) const {
    MLPFAST_UNROLL
    for (int half = lanes / 2; half > 0; half /= 2) mine = f(mine, __shfl_down_sync(whole_warp, mine, half, lanes));
    return __shfl_sync(whole_warp, mine, 0, lanes);
  }
};

/// A block of whole warps.
template <int threads>
struct Block {
  static constexpr int lanes = threads, warps = threads / 32;
  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x); }
  template <class T, class F>
  __device__ __forceinline__ T fold(T mine, const F& f) const {
    __shared__ T of_warps[warps];
    mine = Lanes<32>().fold(mine, f);
    if (lane() % 32 == 0) of_warps[lane() / 32] = mine;
    __syncthreads();
    mine = Lanes<warps>().fold(of_warps[lane() % warps], f);
    __syncthreads();
    return mine;
  }
};

/// Of the blocks that share a counter, which is 0 before and after, whether this one is the last to come here. It finds
/// what the others have written before, by reads that go past L1.
__device__ __forceinline__ bool comes_last(unsigned* arrived, unsigned blocks) {
  __shared__ bool last;
  __syncthreads();  // all threads of the block have written
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc(arrived, blocks - 1) == blocks - 1;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace mlpfast::cuda
