#include "cuda/softmax_xent.h"

#include "cuda/launch.h"
#include "cuda/number.h"
#include "ops/loss.h"

namespace mlpfast::cuda {
namespace {

constexpr int lanes = 16, threads = 128, rows_per_block = threads / lanes;
constexpr unsigned whole_warp = 0xffffffff;

/// fold(mine, that of the lane `half` above) for half = 8, 4, 2, 1: the first lane's result, in all lanes.
template <class T, class F>
__device__ __forceinline__ T fold_lanes(T mine, const F& fold) {
  MLPFAST_UNROLL
  for (int half = lanes / 2; half > 0; half /= 2) mine = fold(mine, __shfl_down_sync(whole_warp, mine, half, lanes));
  return __shfl_sync(whole_warp, mine, 0, lanes);
}

__global__ void __launch_bounds__(threads) cross_entropy_kernel(const __grid_constant__ CrossEntropyArgs t) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t place = int64_t(blockIdx.x) * rows_per_block + threadIdx.x / lanes;
  const bool there = place < t.rows;  // lanes beyond the rows repeat the last one, and write nothing
  const int64_t i = there ? place : t.rows - 1, label = t.labels[i];
  const float* const x = t.logits.data + i * t.logits.ld;

  float top = -__builtin_inff();
  for (int64_t j = lane; j < t.cols; j += lanes) top = x[j] > top ? x[j] : top;
  top = fold_lanes(top, [](float a, float b) { return a < b ? b : a; });
  int64_t first = t.cols;  // class of the first largest logit
  float sum = 0, own = 0;
  for (int64_t j = lane; j < t.cols; j += lanes) {
    const float z = x[j] - top;
    if (x[j] == top && first == t.cols) first = j;
    if (j == label) own = z;
    sum += ops::exp(Number{z}).v;
  }
  first = fold_lanes(first, [](int64_t a, int64_t b) { return a < b ? a : b; });
  sum = fold_lanes(sum, [](float a, float b) { return a + b; });
  const float z_label = __shfl_sync(whole_warp, own, static_cast<int>(label % lanes), lanes);

  const float target = t.class_weight ? t.class_weight[label] : 1.0F;
  const float row_weight = t.row_weight ? t.row_weight[i] : 1.0F;
  const ops::RowWeights<Number> weights{{target}, 0, 0};
  const float loss = row_weight * ops::cross_entropy(weights, ops::log(Number{sum}), Number{z_label}, Number{0}).v;
  if (!there) return;
  if (lane == 0) {
    t.loss[i] = loss;
    t.correct[i] = first == label;
    if (!isfinite(loss) && t.control) t.control->diverged = 1;
  }
  if (!t.d_logits.data) return;
  const double total = t.weighted ? t.control->batch_weight : static_cast<double>(t.rows);
  const double mean = total > 0 ? 1 / total : 0;
  const float scale = static_cast<float>(static_cast<double>(row_weight) * mean);
  const float factor = target * scale / sum;
  float* const d = t.d_logits.data + i * t.d_logits.ld;
  for (int64_t j = lane; j < t.cols; j += lanes) {
    const Number e = ops::exp(Number{x[j] - top});
    const float gradient = ops::cross_entropy_gradient(e, Number{factor}, Number{0}, Number{1}).v;
    d[j] = j == label ? gradient - target * scale : gradient;
  }
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args, cudaStream_t stream) {
  const int64_t blocks = (args.rows + rows_per_block - 1) / rows_per_block;
  launch(cross_entropy_kernel, dim3(static_cast<unsigned>(blocks)), threads, stream, args);
}

}  // namespace mlpfast::cuda
