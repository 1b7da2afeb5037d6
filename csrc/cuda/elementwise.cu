#include "cuda/elementwise.h"

#include <algorithm>

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/threads.h"

namespace mlpfast::cuda {
namespace {

constexpr int threads = 256;

unsigned blocks_for(int64_t n) { return static_cast<unsigned>((n + threads - 1) / threads); }

__global__ void gather_kernel(const __grid_constant__ GatherArgs t) {
  __shared__ int64_t source;
  const int64_t i = blockIdx.x;
  if (threadIdx.x == 0) {
    const int64_t place = (t.control ? t.control->next : t.first) + i;
    source = t.control && t.control->shuffled ? t.control->shuffle(place) : place;
  }
  __syncthreads();
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

MLPFAST_INLINE int64_t row_blocks(int64_t rows) { return (rows + block_rows - 1) / block_rows; }
int64_t column_blocks(int64_t cols) { return (cols + lanes - 1) / lanes; }

/// Blocks of threads that share columns: two for each multiprocessor of a large GPU, as far as there are rows.
int64_t blocks_sharing(int64_t rows, int64_t cols) {
  const int64_t most = (row_blocks(rows) + groups - 1) / groups;
  return std::max<int64_t>(1, std::min(most, most_tiles / std::max<int64_t>(1, column_blocks(cols))));
}

/// 0 + at(0) + .. + at(count - 1), in order.
template <class Index, class At>
__device__ __forceinline__ float add_in_order(Index count, const At& at) {
  float sum = 0;
  for (Index first = 0; first < count; first += at_once) {
    float v[at_once];
    MLPFAST_UNROLL
    for (int i = 0; i < at_once; ++i) v[i] = first + i < count ? at(first + i) : 0;
    MLPFAST_UNROLL
    for (int i = 0; i < at_once; ++i) sum = first + i < count ? sum + v[i] : sum;
  }
  return sum;
}

/// A warp a block of rows: so many blocks of 32 columns at a time. Where blocks of threads share columns, the last of
/// them to come finds the sums of all.
__global__ void bias_kernel(const __grid_constant__ BiasArgs t, unsigned sharing) {
  __shared__ float sums[groups][lanes];
  const int lane = static_cast<int>(threadIdx.x) % lanes, group = static_cast<int>(threadIdx.x) / lanes;
  const unsigned place = blockIdx.x / sharing;
  const int64_t j = int64_t(place) * lanes + lane, blocks = row_blocks(t.rows), apart = int64_t(sharing) * groups;
  float total = 0;
  for (int64_t first = int64_t(blockIdx.x % sharing) * groups; first < blocks; first += apart) {
    const int64_t begin = (first + group) * block_rows, left = j < t.cols ? t.rows - begin : 0;
    const float* const dy = t.dy.data + begin * t.dy.ld + j;
    const float sum = add_in_order(static_cast<int>(left < block_rows ? left : block_rows),
                                   [&](int row) { return dy[row * t.dy.ld]; });
    if (sharing > 1) {
      if (left > 0) t.scratch.partial[(first + group) * t.cols + j] = sum;
      continue;
    }
    sums[group][lane] = sum;
    __syncthreads();
    for (int64_t g = 0; g < groups && first + g < blocks; ++g) total += sums[g][lane];
    __syncthreads();
  }
  if (sharing > 1 && !comes_last(t.scratch.arrived + place, sharing)) return;
  if (group > 0 || j >= t.cols) return;
  if (sharing > 1)
    total = add_in_order(blocks, [&](int64_t block) { return __ldcg(t.scratch.partial + block * t.cols + j); });
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
  if (size > 0) launch(forward_kernel, {blocks_for(size), threads}, stream, args);
}

void backward(const BackwardArgs& args, cudaStream_t stream) {
  if (args.size > 0) launch(backward_kernel, {blocks_for(args.size), threads}, stream, args);
}

void gather(const GatherArgs& args, int64_t rows, cudaStream_t stream) {
  launch(gather_kernel, {rows, threads}, stream, args);
}

void count_batch(const float* loss, const std::uint8_t* correct, int64_t rows, bool weighted, Control* control,
                 cudaStream_t stream) {
  launch(count_kernel, {1, threads}, stream, loss, correct, rows, weighted, control);
}

void bias_gradient(const BiasArgs& args, cudaStream_t stream) {
  const int64_t sharing = blocks_sharing(args.rows, args.cols), blocks = column_blocks(args.cols) * sharing;
  launch(bias_kernel, {blocks, threads}, stream, args, static_cast<unsigned>(sharing));
}

int64_t bias_partial(int64_t rows, int64_t cols) {
  return blocks_sharing(rows, cols) > 1 ? row_blocks(rows) * cols : 0;
}

void update_all(const Update& rule, const float* gradient, int64_t size, cudaStream_t stream) {
  if (size > 0) launch(update_kernel, {blocks_for(size), threads}, stream, rule, gradient, size);
}

}  // namespace mlpfast::cuda
