#include "cuda/softmax_xent.h"

#include "cuda/launch.h"
#include "cuda/softmax_row.h"

namespace mlpfast::cuda {
namespace {

constexpr int short_threads = 128;

template <int items>
__global__ void __launch_bounds__(short_threads, (items > 4 ? 4 : 8))
    short_rows_kernel(const __grid_constant__ CrossEntropyArgs t) {
  using Group = Lanes<16>;
  const int64_t place = int64_t(blockIdx.x) * (short_threads / Group::lanes) + threadIdx.x / Group::lanes;
  const bool there = place < t.rows;
  visit<items, false>(t, Group(), there ? place : t.rows - 1, there);
}

template <int threads, int items>
__global__ void __launch_bounds__(threads, 1) long_rows_kernel(const __grid_constant__ CrossEntropyArgs t) {
  visit<items, items == 0>(t, Block<threads>(), blockIdx.x, true);
}

__global__ void __launch_bounds__(short_threads)
    classify_kernel(int64_t rows, int64_t cols, const __grid_constant__ Matrix<const float> x, int64_t* classes) {
  const Lanes<16> group;
  const int64_t place = int64_t(blockIdx.x) * (short_threads / 16) + threadIdx.x / 16;
  const int64_t i = place < rows ? place : rows - 1;
  const auto best = argmax<int64_t>(group, x.data + i * x.ld, cols);
  if (place < rows && group.lane() == 0) classes[i] = best;
}

constexpr int few_threads = 256, many_threads = 1024;

template <int threads, bool in_order>
__global__ void __launch_bounds__(threads)
    weigh_kernel(const __grid_constant__ Labels labels, int64_t classes, const float* class_weight,
                 const float* row_weight, int64_t rows, Totals* totals) {
  double sum = 0, all_classes = 0;
  for (int64_t first = 0; first < rows; first += threads) {
    const int64_t i = first + threadIdx.x, label = i < rows ? labels.at(i) : -1;
    const bool known = label >= 0 && label < classes && !labels.ignores(label);
    double weight = 0;
    if (known) weight = class_weight ? static_cast<double>(class_weight[label]) : 1.0;
    if (known && row_weight) weight *= static_cast<double>(row_weight[i]);
    if constexpr (in_order) {
      __shared__ double weights[threads];
      weights[threadIdx.x] = weight;
      __syncthreads();
      for (int64_t j = first; threadIdx.x == 0 && j < rows && j < first + threads; ++j) sum += weights[j - first];
      __syncthreads();
    } else {
      sum += weight;
    }
  }
  const int64_t begin = in_order ? 0 : threadIdx.x, apart = in_order ? 1 : threads;
  for (int64_t j = begin; class_weight && j < classes; j += apart) all_classes += static_cast<double>(class_weight[j]);
  if constexpr (!in_order) {
    const Block<threads> block;
    sum = block.fold(sum, Sum());
    all_classes = block.fold(all_classes, Sum());
  }
  if (threadIdx.x == 0) *totals = {sum, static_cast<float>(all_classes), inverse_of(sum)};
}

__global__ void __launch_bounds__(many_threads, 1) reduce_kernel(const __grid_constant__ ReduceArgs t) {
  const Block<many_threads> block;
  constexpr int64_t never = INT64_MAX;
  double sum = 0;
  int64_t wrong = never;
  constexpr int lot = at_once * many_threads;
  for (int64_t first = threadIdx.x; first < t.rows; first += lot) {
    const float* const at = t.loss + first;
    const int left = t.rows - first < lot ? static_cast<int>(t.rows - first) : lot;
    float loss[at_once];
    MLPFAST_UNROLL
    for (int q = 0; q < at_once; ++q) loss[q] = q * many_threads < left ? at[q * many_threads] : 0;
    MLPFAST_UNROLL
    for (int q = 0; q < at_once; ++q) {
      if (q * many_threads >= left) break;
      if (__builtin_bit_cast(std::uint32_t, loss[q]) != outside) {
        sum += static_cast<double>(loss[q]);
      } else if (wrong == never) {
        wrong = first + q * many_threads;
      }
    }
  }
  sum = block.fold(sum, Sum());
  wrong = block.fold(wrong, Smaller());
  if (threadIdx.x != 0) return;
  const double divisor = t.weighted ? t.totals->weight : t.divisor;
  const float total = static_cast<float>(divisor > 0 ? sum / divisor : 0.0);
  if (t.total) *t.total = wrong == never ? total : __builtin_nanf("");
  if (wrong == never || t.fault->found) return;
  t.fault->index = wrong;
  t.fault->label = t.labels.at(wrong);
  t.fault->classes = t.classes;
  __threadfence_system();
  t.fault->found = 1;
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args, cudaStream_t stream) {
  CrossEntropyArgs t = args;
  t.inverse = inverse_of(t.divisor);
  using Kernel = void (*)(CrossEntropyArgs);
  struct Choice {
    int64_t most;  // classes
    Kernel kernel;
    int threads, rows;  // of a block
  };
  constexpr int rows = short_threads / 16;
  constexpr Choice choices[] = {
      {64, short_rows_kernel<4>, short_threads, rows},   {256, short_rows_kernel<16>, short_threads, rows},
      {1024, short_rows_kernel<0>, short_threads, rows}, {4096, long_rows_kernel<256, 16>, 256, 1},
      {32768, long_rows_kernel<512, 64>, 512, 1},        {INT64_MAX, long_rows_kernel<1024, 0>, 1024, 1}};
  const Choice* choice = choices;
  while (t.cols > choice->most) ++choice;
  const int64_t blocks = (t.rows + choice->rows - 1) / choice->rows;
  launch(choice->kernel, {blocks, choice->threads}, stream, t);
}

void classify(int64_t rows, int64_t cols, Matrix<const float> x, int64_t* classes, cudaStream_t stream) {
  if (rows == 0) return;
  constexpr int64_t together = short_threads / 16;
  launch(classify_kernel, {(rows + together - 1) / together, short_threads}, stream, rows, cols, x, classes);
}

void weigh_batch(const Labels& labels, int64_t classes, const float* class_weight, const float* row_weight,
                 int64_t rows, bool in_order, Totals* totals, cudaStream_t stream) {
  const auto kernel = in_order ? weigh_kernel<few_threads, true> : weigh_kernel<many_threads, false>;
  launch(kernel, {1, in_order ? few_threads : many_threads}, stream, labels, classes, class_weight, row_weight, rows,
         totals);
}

void reduce_losses(const ReduceArgs& args, cudaStream_t stream) {
  launch(reduce_kernel, {1, many_threads}, stream, args);
}

}  // namespace mlpfast::cuda
