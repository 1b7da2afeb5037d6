// Softmax cross-entropy on a GPU: loss and gradient of each row in one visit. Rows of at most 1024 classes take half a
// warp, whose 16 lanes are the 16 of the CPU's sums, so that the bits are the same; longer ones a block.
#pragma once
#include "cuda/gemm.h"

namespace mlpfast::cuda {

/// Class labels on the device. Those of training lie in [0, classes); others may not, and none reads beyond the
/// classes.
struct Labels {
  const void* data;  // int64 where wide, else int32
  bool wide = false, ignoring = false;
  int64_t ignored = 0;

  MLPFAST_INLINE int64_t at(int64_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : static_cast<const std::int32_t*>(data)[i];
  }
  MLPFAST_INLINE bool ignores(int64_t label) const { return ignoring && label == ignored; }
};

/// The gradient is that of the sum of losses over the divisor.
struct CrossEntropyArgs {
  int64_t rows, cols;
  Matrix<const float> logits;
  Labels labels;              // without data: d_logits becomes the softmax
  const float* class_weight;  // may be null
  const float* row_weight;    // may be null
  float label_smoothing = 0;
  const Totals* totals;    // may be null without class weights, and where `weighted` is false
  bool weighted;           // the mean divides by totals' weight
  double divisor;          // else by this; not above 0: no gradient
  double inverse = 0;      // of the divisor, or 0; cross_entropy() and head() find it
  Matrix<float> d_logits;  // may be the logits, or null
  float* loss;             // [rows], times row_weight; of a label outside the classes `outside`
  std::uint8_t* correct;   // [rows] or null, 1 where the first largest logit is the label's
  Control* control;        // told of a loss that is not finite, where not null
};

/// Loss of a row whose label is neither a class nor the ignored one: this NaN.
inline constexpr std::uint32_t outside = 0x7fc0bad1;

void cross_entropy(const CrossEntropyArgs& args, cudaStream_t stream);

/// Of each row the class of its first largest number; NaN is larger than any.
void classify(int64_t rows, int64_t cols, Matrix<const float> x, int64_t* classes, cudaStream_t stream);

/// What the mean divides by: the sum of class weight times row weight over rows that are not ignored, by one thread in
/// order of rows, as a CPU adds, or by a block in another fixed order; the sum of class weights too, where they are
/// given.
void weigh_batch(const Labels& labels, int64_t classes, const float* class_weight, const float* row_weight,
                 int64_t rows, bool in_order, Totals* totals, cudaStream_t stream);

/// Where a stream's call found a label outside its classes, in memory that the host sees too.
struct Fault {
  int found;
  int64_t index, label, classes;
};

/// total = the sum of the losses over the divisor; and the first label outside is reported.
struct ReduceArgs {
  int64_t rows, classes;
  const float* loss;
  Labels labels;
  const Totals* totals;  // as above
  bool weighted;
  double divisor;
  float* total;  // may be null; NaN where a label is outside
  Fault* fault;  // the stream's
};
void reduce_losses(const ReduceArgs& args, cudaStream_t stream);

}  // namespace mlpfast::cuda
