#include "cuda/elementwise.h"

#include "cuda/finish.h"
#include "cuda/launch.h"

namespace mlpfast::cuda {
namespace {

constexpr int threads = 256;

unsigned blocks_for(int64_t n) { return static_cast<unsigned>((n + threads - 1) / threads); }

__global__ void gather_kernel(const __grid_constant__ GatherArgs t) {
  const int64_t i = blockIdx.x, place = (t.control ? t.control->next : t.first) + i;
  const int64_t source = t.control && t.control->shuffled ? t.control->shuffle(place) : place;
  float* const x = t.x.data + i * t.x.ld;
  const auto* const bytes = static_cast<const std::uint8_t*>(t.from.features) + source * t.from.cols;
  const auto* const floats = static_cast<const float*>(t.from.features) + source * t.from.cols;
  for (int64_t j = threadIdx.x; j < t.from.cols; j += threads)
    x[j] = (t.from.bytes ? static_cast<float>(bytes[j]) : floats[j]) - t.shift;
  if (threadIdx.x == 0 && t.from.labels) t.label[i] = t.from.labels[source];
  if (threadIdx.x == 0 && t.from.sample_weight) t.row_weight[i] = t.from.sample_weight[source];
}

/// Sum over the threads of the only block, as a tree.
template <class T>
__device__ T total_of(T mine, T (&shared)[threads]) {
  shared[threadIdx.x] = mine;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  __syncthreads();
  return shared[0];
}

/// In the order of rows, as a CPU adds them up.
__global__ void weigh_kernel(const std::int32_t* label, const float* class_weight, const float* row_weight,
                             int64_t rows, Control* control) {
  __shared__ double weights[threads];
  double sum = 0;
  for (int64_t first = 0; first < rows; first += threads) {
    const int64_t i = first + threadIdx.x;
    if (i < rows) {
      const double w = class_weight ? static_cast<double>(class_weight[label[i]]) : 1.0;
      weights[threadIdx.x] = row_weight ? w * static_cast<double>(row_weight[i]) : w;
    }
    __syncthreads();
    for (int64_t j = first; threadIdx.x == 0 && j < rows && j < first + threads; ++j) sum += weights[j - first];
    __syncthreads();
  }
  if (threadIdx.x == 0) control->batch_weight = sum;
}

__global__ void count_kernel(const float* loss, const std::uint8_t* correct, int64_t rows, bool weighted,
                             Control* control) {
  __shared__ double shared[threads];
  __shared__ int64_t counted[threads];
  if (control->diverged) return;
  double sum = 0;
  int64_t right = 0;
  for (int64_t i = threadIdx.x; i < rows; i += threads) {
    sum += static_cast<double>(loss[i]);
    right += correct[i];
  }
  const double total = total_of(sum, shared);
  const int64_t all_right = total_of(right, counted);
  if (threadIdx.x != 0) return;
  control->loss += total;
  control->weight += weighted ? control->batch_weight : static_cast<double>(rows);
  control->correct += all_right;
  control->rows += rows;
  control->next += rows;
}

constexpr int block_rows = 128, lanes = 32, groups = threads / lanes;

/// A warp a block of rows: so many blocks of 32 columns at a time.
__global__ void bias_kernel(const __grid_constant__ BiasArgs t) {
  __shared__ float sums[groups][lanes];
  const int lane = static_cast<int>(threadIdx.x) % lanes, group = static_cast<int>(threadIdx.x) / lanes;
  const int64_t j = int64_t(blockIdx.x) * lanes + lane, blocks = (t.rows + block_rows - 1) / block_rows;
  float total = 0;
  for (int64_t first = 0; first < blocks; first += groups) {
    const int64_t begin = (first + group) * block_rows, end = begin + block_rows < t.rows ? begin + block_rows : t.rows;
    float sum = 0;
    for (int64_t i = begin; i < end && j < t.cols; ++i) sum += t.dy.data[i * t.dy.ld + j];
    sums[group][lane] = sum;
    __syncthreads();
    for (int64_t g = 0; g < groups && first + g < blocks; ++g) total += sums[g][lane];
    __syncthreads();
  }
  if (group > 0 || j >= t.cols) return;
  if (t.db) {
    t.db[j] = total;
  } else {
    update(t.update, j, total);
  }
}

__global__ void update_kernel(const __grid_constant__ Update rule, const float* gradient, int64_t size) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i < size) update(rule, i, gradient[i]);
}

}  // namespace

void gather(const GatherArgs& args, int64_t rows, cudaStream_t stream) {
  launch(gather_kernel, dim3(static_cast<unsigned>(rows)), threads, stream, args);
}

void weigh_batch(const std::int32_t* label, const float* class_weight, const float* row_weight, int64_t rows,
                 Control* control, cudaStream_t stream) {
  launch(weigh_kernel, dim3(1), threads, stream, label, class_weight, row_weight, rows, control);
}

void count_batch(const float* loss, const std::uint8_t* correct, int64_t rows, bool weighted, Control* control,
                 cudaStream_t stream) {
  launch(count_kernel, dim3(1), threads, stream, loss, correct, rows, weighted, control);
}

void bias_gradient(const BiasArgs& args, cudaStream_t stream) {
  launch(bias_kernel, dim3(static_cast<unsigned>((args.cols + lanes - 1) / lanes)), threads, stream, args);
}

void update_all(const Update& rule, const float* gradient, int64_t size, cudaStream_t stream) {
  launch(update_kernel, dim3(blocks_for(size)), threads, stream, rule, gradient, size);
}

}  // namespace mlpfast::cuda
