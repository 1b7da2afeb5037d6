// Softmax cross-entropy on a GPU: loss and gradient of each row by half a warp, whose 16 lanes are the 16 of the CPU's
// sums, so that the bits are the same.
#pragma once
#include "cuda/gemm.h"

namespace mlpfast::cuda {

struct CrossEntropyArgs {
  int64_t rows, cols;
  Matrix<const float> logits;
  const std::int32_t* labels;  // in [0, cols)
  const float* class_weight;   // may be null
  const float* row_weight;     // may be null
  bool weighted;               // the mean divides by the control's batch_weight, else by the number of rows
  Matrix<float> d_logits;      // may be the logits, or null
  float* loss;                 // [rows], times row_weight
  std::uint8_t* correct;       // [rows], 1 where the first largest logit is the label's
  Control* control;            // told of a loss that is not finite
};

void cross_entropy(const CrossEntropyArgs& args, cudaStream_t stream);

}  // namespace mlpfast::cuda
