#include "cuda/head.h"

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/ptx.h"
#include "cuda/softmax_row.h"

namespace mlpfast::cuda {
namespace {

using Group = Lanes<16>;
constexpr int threads = 128, rows = threads / Group::lanes, items = 4;  // outputs of a lane, at most

/// Numbers from row to row in shared memory: lanes that read a column of weights find them in different banks.
MLPFAST_INLINE int pitch_of(int64_t cols) { return static_cast<int>(cols) | 1; }

/// Half a warp a row: each lane sums a chain for each of its outputs, and then of its inputs' gradients.
__global__ void __launch_bounds__(threads) head_kernel(const __grid_constant__ HeadArgs t) {
  auto* const memory = reinterpret_cast<float*>(shared_memory());
  const GemmArgs& forward = t.forward;
  const int inputs = static_cast<int>(forward.k), outputs = static_cast<int>(forward.n), pitch = pitch_of(outputs);
  float *const w = memory, *const x = memory + inputs * pitch;
  const Group group;
  const int self = static_cast<int>(threadIdx.x), mine = self / Group::lanes, lane = group.lane();
  const int64_t first = int64_t(blockIdx.x) * rows;
  const bool there = first + mine < forward.m;
  const int64_t i = there ? first + mine : first;
  for (int at = self; at < inputs * outputs; at += threads)
    w[at / outputs * pitch + at % outputs] = forward.b.data[at / outputs * forward.b.ld + at % outputs];
  for (int p = lane; p < inputs; p += Group::lanes) x[mine * inputs + p] = forward.a.data[i * forward.a.ld + p];
  __syncthreads();

  float sum[items] = {};
#pragma unroll 4
  for (int p = 0; p < inputs; ++p) {
    MLPFAST_UNROLL
    for (int q = 0; q < items; ++q) {
      const int j = lane + q * Group::lanes;
      if (j < outputs) sum[q] = fmaf(x[mine * inputs + p], w[p * pitch + j], sum[q]);
    }
  }
  MLPFAST_UNROLL
  for (int q = 0; q < items; ++q) {
    const int j = lane + q * Group::lanes;
    if (there && j < outputs) finish(forward, i, j, sum[q]);
  }
  __syncwarp();  // the row's outputs are written
  visit<items, false>(t.loss, group, i, there);
  __syncwarp();  // and their gradients
  if (!there || t.backward.m == 0) return;
  const float* const d = t.backward.a.data + i * t.backward.a.ld;
  for (int p = lane; p < inputs; p += Group::lanes) {
    float total = 0;
    for (int j = 0; j < outputs; ++j) total = fmaf(d[j], w[p * pitch + j], total);
    finish(t.backward, i, p, total);
  }
}

int64_t shared_bytes(int64_t inputs, int64_t outputs) {
  return inputs * (pitch_of(outputs) + rows) * int64_t(sizeof(float));
}

}  // namespace

bool head_fits(int64_t inputs, int64_t outputs) {
  constexpr int64_t most_bytes = 48 << 10;
  return outputs <= items * Group::lanes && inputs <= most_bytes && shared_bytes(inputs, outputs) <= most_bytes;
}

void head(const HeadArgs& args, cudaStream_t stream) {
  HeadArgs t = args;
  t.loss.inverse = t.loss.divisor > 0 ? 1 / t.loss.divisor : 0;
  const auto bytes = static_cast<int>(shared_bytes(t.forward.k, t.forward.n));
  launch(head_kernel, {(t.forward.m + rows - 1) / rows, threads, bytes}, stream, t);
}

}  // namespace mlpfast::cuda
