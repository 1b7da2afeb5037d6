// What only tensor cores of compute capability 8.0 and newer do, by PTX; a header of the same name in tests plays it on
// the CPU. A pair of bf16 numbers is 32 bits, the first the lower ones.
#pragma once
#include <cstdint>

namespace mlpfast::cuda {

/// One lane's numbers of d[16, 8] += a[16, 16] b[16, 8] by a warp. With r = lane / 4 and c = lane % 4: of a the pairs
/// (r, c), (r + 8, c), (r, c + 4), (r + 8, c + 4), pair c being columns 2c and 2c + 1; of b, of whose columns pairs are
/// taken, (c, r) and (c + 4, r); of d the numbers (r, 2c), (r, 2c + 1), (r + 8, 2c), (r + 8, 2c + 1).
__device__ __forceinline__ void mma(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();  // tensor_parts() chooses other kernels
#endif
}

/// The nearest bf16 numbers.
__device__ __forceinline__ std::uint32_t to_bf16(float first, float second) {
  std::uint32_t pair = 0;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
#endif
  return pair;
}

}  // namespace mlpfast::cuda
