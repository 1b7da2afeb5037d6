#include "cuda/tensor.h"

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/ptx.h"
#include "cuda/split.h"

namespace mlpfast::cuda {
namespace {

/// A block computes 128 rows of sums, each warp 64 rows x warp_cols. A stage in shared memory has 32 numbers of k of
/// its lines' parts, 64 bytes each; two such steps are on their way while one is multiplied.
template <int Parts, int Across, int WarpCols, int Resident>
struct Shape {
  static constexpr int parts = Parts, across = Across, warp_cols = WarpCols, resident = Resident;
  static constexpr int warp_rows = 64, down = 2, rows = down * warp_rows, cols = across * warp_cols;
  static constexpr int threads = 32 * down * across, stages = 3;
  static constexpr int line_bytes = 2 * split_depth, a_bytes = parts * rows * line_bytes;
  static constexpr int stage_bytes = a_bytes + parts * cols * line_bytes;
  static constexpr int pitch = cols + 8;  // of results: those of a warp are stored to different banks
  static constexpr int result_bytes = warp_rows * pitch * int(sizeof(float));
  static constexpr int shared_bytes = stages * stage_bytes > result_bytes ? stages * stage_bytes : result_bytes;
};
using Six = Shape<3, 4, 32, 1>;  // products of parts
using Three = Shape<2, 4, 32, 1>;
using One = Shape<1, 2, 64, 2>;
using Wide = Shape<1, 4, 64, 1>;
constexpr int64_t most_rows = One::rows, most_cols = Wide::cols;  // of a block
static_assert(Six::cols == unfit_tile && Three::cols == unfit_tile && Six::rows == unfit_tile);

/// Sixteen bytes of a line lie where matrices of eight lines are read from different banks.
__device__ __forceinline__ int swizzled(int line, int sixteenth) {
  return line * 64 + ((sixteenth ^ (line >> 1 & 3)) << 4);
}

/// One thread's part in bringing an operand's lines to a stage.
template <class S, int Lines>
class Operand {
 public:
  __device__ __forceinline__ Operand(const Split& x, int64_t first, Place to)
      : x_(x),
        next_(x.parts + (first + self() / 4) * x.pitch + self() % 4 * 16),
        to_(to + swizzled(self() / 4, self() % 4)) {}
  __device__ __forceinline__ void fetch(int stage) {
    MLPFAST_UNROLL
    for (int p = 0; p < S::parts; ++p) {
      MLPFAST_UNROLL
      for (int i = 0; i < Lines / apart; ++i)
        copy_async<16>(to_ + stage * S::stage_bytes + (p * Lines + i * apart) * S::line_bytes,
                       next_ + p * x_.part_bytes + i * apart * x_.pitch);
    }
    next_ += S::line_bytes;
  }

 private:
  static constexpr int apart = S::threads / 4;  // lines between two of a thread
  static_assert(apart % 8 == 0 && Lines % apart == 0);
  __device__ __forceinline__ static int self() { return static_cast<int>(threadIdx.x); }

  const Split& x_;
  const char* next_;
  const Place to_;
};

/// A lane's part of its warp's sums.
template <class S>
struct Sums {
  static constexpr int down = S::warp_rows / 16, across = S::warp_cols / 8;
  float v[down][across][4];

  template <class F>
  __device__ __forceinline__ void each(const F& f) {
    MLPFAST_UNROLL
    for (int i = 0; i < down; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < across; ++j) {
        MLPFAST_UNROLL
        for (int e = 0; e < 4; ++e) f(i, j, e, v[i][j][e]);
      }
    }
  }
  __device__ __forceinline__ void clear() {
    each([](int, int, int, float& sum) { sum = 0; });
  }
  /// Takes in the others' sums, which begin again.
  __device__ __forceinline__ void take(Sums& others) {
    each([&](int i, int j, int e, float& sum) { sum += others.v[i][j][e]; });
    others.clear();
  }
};

/// Where a lane reads its warp's numbers, of either half of a stage's k, and what it makes of them.
template <class S>
struct Reader {
  Place a[2], b[2];

  __device__ __forceinline__ explicit Reader(Place shared) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int row = warp / S::across * S::warp_rows + lane % 16;
    const int col = warp % S::across * S::warp_cols + lane / 16 * 8 + lane % 8;
    MLPFAST_UNROLL
    for (int half = 0; half < 2; ++half) {
      a[half] = shared + swizzled(row, 2 * half + lane / 16);
      b[half] = shared + S::a_bytes + swizzled(col, 2 * half + lane / 8 % 2);
    }
  }
  /// The products of parts p and q with p + q < S::parts, but for those of the first parts; or these alone.
  template <bool First>
  __device__ __forceinline__ void multiply(int stage, int half, Sums<S>& sums) const {
    const Place a_now = (half ? a[1] : a[0]) + stage * S::stage_bytes;
    const Place b_now = (half ? b[1] : b[0]) + stage * S::stage_bytes;
    MLPFAST_UNROLL
    for (int p = First ? 0 : S::parts - 1; p >= 0; --p) {
      std::uint32_t x[Sums<S>::down][4];
      MLPFAST_UNROLL
      for (int i = 0; i < Sums<S>::down; ++i) load_matrices(x[i], a_now + (p * S::rows + i * 16) * S::line_bytes);
      MLPFAST_UNROLL
      for (int q = First ? 0 : S::parts - 1 - p; q >= (First || p > 0 ? 0 : 1); --q) {
        MLPFAST_UNROLL
        for (int j = 0; j < Sums<S>::across; j += 2) {
          std::uint32_t y[4];
          load_matrices(y, b_now + (q * S::cols + j * 8) * S::line_bytes);
          MLPFAST_UNROLL
          for (int i = 0; i < Sums<S>::down; ++i) {
            mma(sums.v[i][j], x[i], y[0], y[1]);
            mma(sums.v[i][j + 1], x[i], y[2], y[3]);
          }
        }
      }
    }
  }
};

struct Operands {
  Split a, b;
};

template <class S>
__global__ void __launch_bounds__(S::threads, S::resident)
    tensor_kernel(const __grid_constant__ GemmArgs t, const __grid_constant__ Operands images) {
  const auto row_blocks = static_cast<unsigned>((t.m + S::rows - 1) / S::rows);
  const int64_t row = int64_t(blockIdx.x % row_blocks) * S::rows, col = int64_t(blockIdx.x / row_blocks) * S::cols;
  const int self = static_cast<int>(threadIdx.x), warp = self / 32, lane = self % 32;
  if constexpr (S::parts > 1) {  // multiply-adds do the others, afterwards
    const bool rows_unfit = any_unfit<S::threads>(images.a.exponents, row, t.m, S::rows);
    if (rows_unfit || any_unfit<S::threads>(images.b.exponents, col, t.n, S::cols)) return;
  }

  char* const memory = shared_memory();
  const Place shared = place_of(memory);
  Operand<S, S::rows> a(images.a, row, shared);
  Operand<S, S::cols> b(images.b, col, shared + S::a_bytes);
  const Reader<S> reader(shared);
  const int steps = static_cast<int>(images.a.pitch / S::line_bytes);
  const auto fetch = [&](int step, int stage) {
    if (step < steps) {
      a.fetch(stage);
      b.fetch(stage);
    }
    end_group();
  };
  // Tensor cores round sums towards zero. Of several parts, sums of few products only are made so, then added by
  // additions that round to the nearest; small products for themselves where all bits count.
  Sums<S> whole, fresh;
  whole.clear();
  fresh.clear();
  for (int step = 0; step < S::stages - 1; ++step) fetch(step, step);
  for (int step = 0, stage = 0; step < steps; ++step, stage = stage + 1 < S::stages ? stage + 1 : 0) {
    wait_for_groups<S::stages - 2>();
    __syncthreads();  // the stage has come, and all have left the one before, whose place another one takes
    fetch(step + S::stages - 1, stage > 0 ? stage - 1 : S::stages - 1);
    Sums<S>& sums = S::parts > 1 ? fresh : whole;
    if constexpr (S::parts > 1) {
#pragma unroll(S::parts == 3 ? 1 : 2)  // registers do not suffice for both at once
      for (int half = 0; half < 2; ++half) reader.template multiply<false>(stage, half, sums);
      if (S::parts == 3) whole.take(fresh);
    }
    MLPFAST_UNROLL
    for (int half = 0; half < 2; ++half) reader.template multiply<true>(stage, half, sums);
    if (S::parts == 3 || (S::parts == 2 && (step % 4 == 3 || step + 1 == steps))) whole.take(fresh);
  }

  auto* const results = reinterpret_cast<float*>(memory);
  for (int pass = 0; pass < S::down; ++pass) {
    __syncthreads();
    if (warp / S::across == pass) {
      float* const mine = results + lane / 4 * S::pitch + warp % S::across * S::warp_cols + lane % 4 * 2;
      whole.each([&](int i, int j, int e, float& sum) { mine[(i * 16 + e / 2 * 8) * S::pitch + j * 8 + e % 2] = sum; });
    }
    __syncthreads();
    for (int at = self; at < S::warp_rows * S::cols; at += S::threads) {
      const int64_t i = row + pass * S::warp_rows + at / S::cols, j = col + at % S::cols;
      if (i >= t.m || j >= t.n) continue;
      float sum = results[at / S::cols * S::pitch + at % S::cols];
      if (S::parts > 1) sum = scalbnf(sum, -images.a.exponents[i] - images.b.exponents[j]);
      finish(t, i, j, sum);
    }
  }
}

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// Where the operands' images lie: exponents, then a's parts and b's.
struct Room {
  Operands images;
  int64_t bytes;

  Room(int64_t m, int64_t n, int64_t k, int parts, char* memory) {
    const int64_t pitch = 2 * round_up(k, split_depth), a_bytes = round_up(m, most_rows) * pitch,
                  b_bytes = round_up(n, most_cols) * pitch;
    auto* const exponents = parts > 1 ? reinterpret_cast<int*>(memory) : nullptr;
    char* const first = memory + (parts > 1 ? round_up((m + n) * int64_t(sizeof(int)), 128) : 0);
    images = {{exponents, first, pitch, a_bytes},
              {exponents ? exponents + m : nullptr, first + parts * a_bytes, pitch, b_bytes}};
    bytes = first - memory + parts * (a_bytes + b_bytes);
  }
};

template <class S>
void multiply(const GemmArgs& t, const Operands& images, cudaStream_t stream) {
  const int64_t blocks = (t.m + S::rows - 1) / S::rows * ((t.n + S::cols - 1) / S::cols);
  launch(tensor_kernel<S>, {blocks, S::threads, S::shared_bytes}, stream, t, images);
}

/// The architecture, times ten, that the current device's kernels were written for. What was written for an older one,
/// and made for this one by the driver, has no tensor cores.
int written_for() {
  const WhileCapturing allowed;
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, tensor_kernel<One>), "looking at a kernel");
  return attributes.ptxVersion;
}

}  // namespace

int tensor_parts(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  // Enough tiles for half of a large GPU: with fewer, smaller tiles of multiply-adds are faster.
  constexpr int64_t enough = 64, least_k = 64, tile = One::rows;
  const int64_t tiles = (m + tile - 1) / tile * ((n + tile - 1) / tile);
  const int version = capability();
  if (tiles < enough || k < least_k || version < 80 || written_for() < 80) return 0;
  // Others multiply bf16 two to four times as fast as float32: three products, or six, gain nothing there.
  const bool many_times_as_fast = version == 80 || version / 10 == 9 || version / 10 == 10;
  constexpr int parts[] = {0, 3, 2, 1};  // of each level
  const int wanted = parts[static_cast<int>(precision)];
  return wanted == 1 || many_times_as_fast ? wanted : 0;
}

int64_t tensor_bytes(int64_t m, int64_t n, int64_t k, int parts) {
  return parts > 0 ? Room(m, n, k, parts, nullptr).bytes : 0;
}

void tensor_gemm(const GemmArgs& t, Layout layout, cudaStream_t stream) {
  if (t.m == 0 || t.n == 0) return;
  const int parts = t.plan.parts;
  const Operands images = Room(t.m, t.n, t.k, parts, t.scratch.parts).images;
  split({t.m, round_up(t.m, most_rows), t.k, t.a, layout == Layout::nn || layout == Layout::nt, parts, images.a},
        stream);
  split({t.n, round_up(t.n, most_cols), t.k, t.b, layout == Layout::nt || layout == Layout::tt, parts, images.b},
        stream);
  constexpr int64_t enough = 132;  // for every multiprocessor of a large GPU one of the larger blocks
  const int64_t wide = (t.m + Wide::rows - 1) / Wide::rows * ((t.n + Wide::cols - 1) / Wide::cols);
  if (parts == 1) return wide >= enough ? multiply<Wide>(t, images, stream) : multiply<One>(t, images, stream);
  parts == 2 ? multiply<Three>(t, images, stream) : multiply<Six>(t, images, stream);
  gemm_unfit(t, layout, images.a.exponents, stream);
}

}  // namespace mlpfast::cuda
