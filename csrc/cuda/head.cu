#include "cuda/head.h"

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/ptx.h"
#include "cuda/softmax_row.h"

namespace mlpfast::cuda {
namespace {

using Group = Lanes<16>;
constexpr int threads = 128, rows = threads / Group::lanes;
constexpr int items = 4;  // outputs of a lane, at most

// Numbers from row to row in shared memory, of weights and of inputs: the lanes of a warp, which has two rows of
// inputs, read different banks.
MLPFAST_INLINE int weights_pitch(int64_t outputs) { return static_cast<int>(outputs) | 1; }
MLPFAST_INLINE int inputs_pitch(int64_t inputs, int64_t outputs) {
  const int64_t most = inputs > outputs ? inputs : outputs;  // whose gradients come to the same place
  return static_cast<int>((most + 31) / 32 * 32) + 16;
}

/// Half a warp a row: each lane sums a chain for each of its outputs, and then of its inputs' gradients.
__global__ void __launch_bounds__(threads) head_kernel(const __grid_constant__ HeadArgs t) {
  auto* const memory = reinterpret_cast<float*>(shared_memory());
  const GemmArgs& forward = t.forward;
  const int inputs = static_cast<int>(forward.k), outputs = static_cast<int>(forward.n);
  const int pitch = weights_pitch(outputs), self = static_cast<int>(threadIdx.x), mine = self / Group::lanes;
  float *const w = memory, *const x = memory + inputs * pitch + mine * inputs_pitch(inputs, outputs);
  const Group group;
  const int lane = group.lane();
  const int64_t first = int64_t(blockIdx.x) * rows;
  const bool there = first + mine < forward.m;
  const int64_t i = there ? first + mine : first;
  for (int at = self; at < inputs * outputs; at += threads)
    w[at / outputs * pitch + at % outputs] = forward.b.data[at / outputs * forward.b.ld + at % outputs];
  for (int p = lane; p < inputs; p += Group::lanes) x[p] = forward.a.data[i * forward.a.ld + p];
  __syncthreads();

  float sum[items] = {};
#pragma unroll 4
  for (int p = 0; p < inputs; ++p) {
    MLPFAST_UNROLL
    for (int q = 0; q < items; ++q) {
      const int j = lane + q * Group::lanes;
      if (j < outputs) sum[q] = fmaf(x[p], w[p * pitch + j], sum[q]);
    }
  }
  MLPFAST_UNROLL
  for (int q = 0; q < items; ++q) {
    const int j = lane + q * Group::lanes;
    if (there && j < outputs) finish(forward, i, j, sum[q]);
  }
  __syncwarp();  // the row's outputs are written
  visit<items, false>(t.loss, group, i, there);
  __syncwarp();  // and their gradients, which take the place of the inputs
  if (t.backward.m == 0) return;
  float* const d = x;
  for (int j = lane; j < outputs; j += Group::lanes) d[j] = t.backward.a.data[i * t.backward.a.ld + j];
  __syncwarp();
  if (!there) return;
  for (int p = lane; p < inputs; p += Group::lanes) {
    float total = 0;
    for (int j = 0; j < outputs; ++j) total = fmaf(d[j], w[p * pitch + j], total);
    finish(t.backward, i, p, total);
  }
}

int64_t shared_bytes(int64_t inputs, int64_t outputs) {
  return (inputs * weights_pitch(outputs) + rows * inputs_pitch(inputs, outputs)) * int64_t(sizeof(float));
}

}  // namespace

bool head_fits(int64_t inputs, int64_t outputs) {
  constexpr int64_t most_bytes = 48 << 10;
  return outputs <= items * Group::lanes && inputs <= most_bytes && shared_bytes(inputs, outputs) <= most_bytes;
}

void head(const HeadArgs& args, cudaStream_t stream) {
  HeadArgs t = args;
  t.loss.inverse = inverse_of(t.loss.divisor);
  const auto bytes = static_cast<int>(shared_bytes(t.forward.k, t.forward.n));
  launch(head_kernel, {(t.forward.m + rows - 1) / rows, threads, bytes}, stream, t);
}

}  // namespace mlpfast::cuda
