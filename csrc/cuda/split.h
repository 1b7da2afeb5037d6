// Operands of products on tensor cores: float32 numbers as sums of bf16 numbers, the largest first. Lines, rows of a or
// columns of b, run along k, with zeros behind, whatever the layout was.
#pragma once
#include "cuda/gemm.h"
#include "cuda/threads.h"

namespace mlpfast::cuda {

constexpr int split_depth = 32;  // numbers along k that lines are filled up to a multiple of
constexpr int unfit = 1 << 20;   // in place of the exponent of a line that cannot be split

/// An operand's image. A single part has float32's range; of several, lines are scaled by powers of two first.
struct Split {
  int* exponents;  // [lines]: of those powers, or unfit; null where there is one part
  char* parts;     // [part][lines][pitch] bytes
  int64_t pitch, part_bytes;
};

/// x[count, k], or stored as [k, count]; zeros become the lines behind, up to those that blocks of a product read, a
/// multiple of 8.
struct SplitArgs {
  int64_t count, lines, k;
  Matrix<const float> x;
  bool along_k;
  int parts;
  Split to;
};
void split(const SplitArgs& args, cudaStream_t stream);

/// Whether one of `lines` lines from `first` on is unfit; asked by all threads of a block.
template <int threads>
__device__ __forceinline__ bool any_unfit(const int* exponents, int64_t first, int64_t count, int lines) {
  int found = 0;
  for (int i = static_cast<int>(threadIdx.x); i < lines && first + i < count; i += threads)
    found |= exponents[first + i] == unfit;
  return Block<threads>().fold(found, [](int a, int b) { return a | b; }) != 0;
}

}  // namespace mlpfast::cuda
