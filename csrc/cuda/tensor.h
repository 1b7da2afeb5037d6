// Matrix products on tensor cores: float32 operands as sums of 1, 2 or 3 bf16 numbers, whose products are summed in
// float32: 1, 3 or 6 of them, the largest that there are.
#pragma once
#include "cuda/gemm.h"

namespace mlpfast::cuda {

/// How many bf16 parts a product of this shape takes on the current device at a level; 0: multiply-adds in float32.
int tensor_parts(int64_t m, int64_t n, int64_t k, network::Precision precision);

/// What it takes besides its arrays.
int64_t tensor_bytes(int64_t m, int64_t n, int64_t k, int parts);

/// With t.plan.parts of 1 to 3.
void tensor_gemm(const GemmArgs& t, Layout layout, cudaStream_t stream);

}  // namespace mlpfast::cuda
