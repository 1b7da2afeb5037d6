#include "cuda/elementwise.h"

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/threads.h"

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

__global__ void __launch_bounds__(threads)
    count_kernel(const float* loss, const std::uint8_t* correct, int64_t rows, bool weighted, Control* control) {
  if (control->diverged) return;
  double sum = 0;
  int64_t right = 0;
  for (int64_t i = threadIdx.x; i < rows; i += threads) {
    sum += static_cast<double>(loss[i]);
    right += correct[i];
  }
  const Block<threads> block;
  sum = block.fold(sum, Sum());
  right = block.fold(right, Sum());
  if (threadIdx.x != 0) return;
  control->loss += sum;
  control->weight += weighted ? control->batch.weight : static_cast<double>(rows);
  control->correct += right;
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
    const int64_t begin = (first + group) * block_rows, left = j < t.cols ? t.rows - begin : 0;
    const int rows = static_cast<int>(left < block_rows ? left : block_rows);
    const float* const dy = t.dy.data + begin * t.dy.ld + j;
    float sum = 0;
    for (int row = 0; row < rows; row += at_once) {
      float v[at_once];
      MLPFAST_UNROLL
      for (int i = 0; i < at_once; ++i) v[i] = row + i < rows ? dy[(row + i) * t.dy.ld] : 0;
      MLPFAST_UNROLL
      for (int i = 0; i < at_once; ++i) sum = row + i < rows ? sum + v[i] : sum;
    }
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

__global__ void forward_kernel(const __grid_constant__ ForwardArgs t) {
  const int64_t at = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (at >= t.rows * t.cols) return;
  const float x = t.bias ? t.x[at] + t.bias[at % t.cols] : t.x[at];
  t.y[at] = activate(t.activation, x, t.alpha);
}

__global__ void backward_kernel(const __grid_constant__ BackwardArgs t) {
  const int64_t at = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (at < t.size) t.dx[at] = activate_backward(t.activation, t.saved[at], t.dy[at], t.alpha);
}

}  // namespace

void forward(const ForwardArgs& args, cudaStream_t stream) {
  const int64_t size = args.rows * args.cols;
  if (size > 0) launch(forward_kernel, dim3(blocks_for(size)), threads, stream, args);
}

void backward(const BackwardArgs& args, cudaStream_t stream) {
  if (args.size > 0) launch(backward_kernel, dim3(blocks_for(args.size)), threads, stream, args);
}

void gather(const GatherArgs& args, int64_t rows, cudaStream_t stream) {
  launch(gather_kernel, dim3(static_cast<unsigned>(rows)), threads, stream, args);
}

void count_batch(const float* loss, const std::uint8_t* correct, int64_t rows, bool weighted, Control* control,
                 cudaStream_t stream) {
  launch(count_kernel, dim3(1), threads, stream, loss, correct, rows, weighted, control);
}

void bias_gradient(const BiasArgs& args, cudaStream_t stream) {
  launch(bias_kernel, dim3(static_cast<unsigned>((args.cols + lanes - 1) / lanes)), threads, stream, args);
}

void update_all(const Update& rule, const float* gradient, int64_t size, cudaStream_t stream) {
  if (size > 0) launch(update_kernel, dim3(blocks_for(size)), threads, stream, rule, gradient, size);
}

}  // namespace mlpfast::cuda
