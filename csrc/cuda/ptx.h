// What tests play on the CPU in a header of the same name: shared memory of any size, and by PTX copies to it that a
// thread does not wait for, and what tensor cores of compute capability 8.0 and newer do. A pair of bf16 numbers is 32
// bits, the first the lower ones.
#pragma once
#include <cstdint>

namespace mlpfast::cuda {

/// The architecture, times ten, of the device code at hand.
#ifdef __CUDA_ARCH__
constexpr int compiled_for = __CUDA_ARCH__ / 10;
#else
constexpr int compiled_for = 0;
#endif

/// The block's shared memory, of as many bytes as it was launched with.
__device__ __forceinline__ char* shared_memory() {
  extern __shared__ __align__(128) char memory[];
  return memory;
}

/// An address in it.
using Place = std::uint32_t;

__device__ __forceinline__ Place place_of(const void* shared) {
  return static_cast<Place>(__cvta_generic_to_shared(shared));
}

/// Bytes, 4 or 16, with that alignment; there once a wait for their group has ended.
template <int bytes>
__device__ __forceinline__ void copy_async(Place to, const void* from) {
  if constexpr (compiled_for < 80) {
    for (int i = 0; i < bytes / 4; ++i)
      static_cast<std::uint32_t*>(__cvta_shared_to_generic(to))[i] = static_cast<const std::uint32_t*>(from)[i];
  } else if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from));
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(bytes));
  }
}

/// What was copied since the last call is a group.
__device__ __forceinline__ void end_group() {
  if constexpr (compiled_for >= 80) asm volatile("cp.async.commit_group;");
}

/// For all groups but the last so many.
template <int but>
__device__ __forceinline__ void wait_for_groups() {
  if constexpr (compiled_for >= 80) asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
}

/// Four matrices of 8 x 8 bf16 numbers. Lane 8 q + r gives the place of row r of matrix q, 16 bytes; lane l gets of
/// each matrix pair l % 4 of row l / 4.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], Place row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

/// One lane's numbers of d[16, 8] += a[16, 16] b[16, 8] by a warp. With r = lane / 4 and c = lane % 4: of a the pairs
/// (r, c), (r + 8, c), (r, c + 4), (r + 8, c + 4), pair c being columns 2c and 2c + 1; of b, of whose columns pairs are
/// taken, (c, r) and (c + 4, r); of d the numbers (r, 2c), (r, 2c + 1), (r + 8, 2c), (r + 8, 2c + 1).
__device__ __forceinline__ void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (compiled_for >= 80) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    __trap();  // tensor_parts() chooses other kernels
  }
}

/// The nearest bf16 numbers.
__device__ __forceinline__ std::uint32_t to_bf16(float first, float second) {
  std::uint32_t pair = 0;
  if constexpr (compiled_for >= 80) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

}  // namespace mlpfast::cuda
