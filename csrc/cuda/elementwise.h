// What is no product and no loss: activations and updates of whole arrays, column sums, gathering rows, and the batch's
// metrics. Sums run in an order that depends on shapes alone.
#pragma once
#include "cuda/gemm.h"

namespace mlpfast::cuda {

/// y = act(x + bias), without gaps.
struct ForwardArgs {
  int64_t rows, cols;
  const float* x;
  const float* bias;  // [cols] or null
  ops::Activation activation;
  float alpha;
  float* y;
};
void forward(const ForwardArgs& args, cudaStream_t stream);

/// dx = dy * act'(saved)
struct BackwardArgs {
  int64_t size;
  const float *dy, *saved;
  ops::Activation activation;
  float alpha;
  float* dx;
};
void backward(const BackwardArgs& args, cudaStream_t stream);

/// Examples that lie on the device; the null ones are not given.
struct Examples {
  const void* features;  // [all rows][cols], bytes or float32
  bool bytes;
  int64_t cols;
  const std::int32_t* labels;
  const float* sample_weight;
  const float* class_weight;
  bool gathered = false;  // lie in the order of training: a batch's rows one after the other
};

/// Rows of a batch on their way to x: where a control is given, row i is number next + i of its order, else first + i.
struct GatherArgs {
  Examples from;
  const Control* control;
  int64_t first;
  float shift;
  Matrix<float> x;
  std::int32_t* label;
  float* row_weight;
};
void gather(const GatherArgs& args, int64_t rows, cudaStream_t stream);

/// Adds the batch's metrics to the control, and moves it to the next batch; nothing after a loss that was not finite.
void count_batch(const float* loss, const std::uint8_t* correct, int64_t rows, bool weighted, Control* control,
                 cudaStream_t stream);

/// db = the sums of dy's columns, rows in order within blocks of 128 and then block by block; or the bias's update.
struct BiasArgs {
  int64_t rows, cols;
  Matrix<const float> dy;
  float* db;            // null: update
  Update update;        // its w is the bias
  GemmScratch scratch;  // with bias_partial() numbers, and counters, where these are above 0
};
void bias_gradient(const BiasArgs& args, cudaStream_t stream);

/// Sums that blocks of threads leave to each other.
int64_t bias_partial(int64_t rows, int64_t cols);

/// One step of so many parameters.
void update_all(const Update& rule, const float* gradient, int64_t size, cudaStream_t stream);

}  // namespace mlpfast::cuda
