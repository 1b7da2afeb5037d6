#include "cuda/gemm.h"

#include <algorithm>

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/ptx.h"
#include "cuda/split.h"
#include "cuda/tensor.h"
#include "cuda/threads.h"

namespace mlpfast::cuda {
namespace {

/// A block computes rows x cols sums, each thread tm x tn of them, in groups of four (or all) that lie rows / groups
/// apart; depth numbers of k at a time lie in shared memory, those of stages - 1 such steps on their way there.
template <int Rows, int Cols, int Depth, int Tm, int Tn, int Stages>
struct Shape {
  static constexpr int rows = Rows, cols = Cols, depth = Depth, tm = Tm, tn = Tn, stages = Stages;
  static constexpr int threads = rows / tm * (cols / tn);
  static constexpr int group = 4, passes = tm / group;  // of the epilogue
  static constexpr int row_apart = rows / passes, col_apart = cols * group / tn;
  static constexpr int row_pitch = rows + 4, col_pitch = cols + 4;
  static constexpr bool sliced = rows == 32;  // several blocks may share a tile's k
};
using Large = Shape<128, 128, 16, 8, 8, 2>;  // a step takes longer than its copies
using Medium = Shape<64, 64, 16, 4, 4, 3>;
using Small = Shape<32, 32, 32, 4, 4, 3>;

/// One thread's part in bringing an operand's tiles [depth][outer] to shared memory, from where neighbours read
/// neighbours: along k, or along the other dimension. What lies outside the operand stays what it was there: no sum
/// that is kept takes it in.
template <class S, int Outer, bool AlongK>
class Operand {
 public:
  static constexpr int count = Outer * S::depth / S::threads;  // of copies

  __device__ __forceinline__ Operand(const Matrix<const float>& x, int64_t outer, int64_t size, int64_t k, Place tile)
      : x_(x),
        from_(x.data + (AlongK ? (outer + o()) * x.ld + k + p() : (k + p()) * x.ld + outer + o())),
        to_(tile + (p() * pitch + o()) * int(sizeof(float))) {
    const int left = static_cast<int>(size - outer < Outer ? size - outer : Outer) - o();
    inside_ = left <= 0 ? 0 : AlongK ? (left + apart - 1) / apart : count;
  }
  /// The next copies are of a tile of which so many numbers along k are there.
  __device__ __forceinline__ void begin(int depth) {
    there_ = inside_;
    if (depth >= S::depth) return;
    if (depth <= p()) there_ = 0;
    if (!AlongK && there_ > 0) there_ = (depth - p() + apart - 1) / apart;
  }
  __device__ __forceinline__ void copy(int i, int offset) {
    if (i < there_) copy_async<4>(to_ + offset + i * apart * (AlongK ? 1 : pitch) * int(sizeof(float)), from_);
    from_ += AlongK && i + 1 == count ? S::depth - (count - 1) * apart * x_.ld : apart * x_.ld;
  }

 private:
  static constexpr int wide = AlongK ? S::depth : Outer, pitch = Outer == S::rows ? S::row_pitch : S::col_pitch;
  static constexpr int apart = S::threads / wide;  // rows between two numbers of a thread
  static_assert(S::threads % wide == 0 && S::row_pitch - S::rows == S::col_pitch - S::cols);

  __device__ __forceinline__ static int p() {
    return AlongK ? static_cast<int>(threadIdx.x) % wide : static_cast<int>(threadIdx.x) / wide;
  }
  __device__ __forceinline__ static int o() {
    return AlongK ? static_cast<int>(threadIdx.x) / wide : static_cast<int>(threadIdx.x) % wide;
  }

  const Matrix<const float>& x_;
  const float* from_;
  const Place to_;
  int inside_, there_ = 0;  // copies that lie within the operand: of whole tiles, of the one at hand
};

/// A thread's sums. A warp's lie 4 x 8 threads wide, so that it reads few numbers of either operand.
template <class S>
struct Sums {
  static constexpr int warps_across = S::cols / S::tn / 8;
  static_assert(warps_across >= 1);
  float v[S::tm][S::tn];

  __device__ __forceinline__ static int row() {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    return (warp / warps_across * 4 + lane / 16 * 2 + lane % 2) * S::group;
  }
  __device__ __forceinline__ static int col() {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    return (warp % warps_across * 8 + lane / 2 % 8) * S::group;
  }
  /// One step along k.
  __device__ __forceinline__ void add(const float* a, const float* b) {
    float x[S::tm], y[S::tn];
    MLPFAST_UNROLL
    for (int i = 0; i < S::tm; ++i) x[i] = a[row() + i % S::group + i / S::group * S::row_apart];
    MLPFAST_UNROLL
    for (int j = 0; j < S::tn; ++j) y[j] = b[col() + j % S::group + j / S::group * S::col_apart];
    MLPFAST_UNROLL
    for (int i = 0; i < S::tm; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < S::tn; ++j) v[i][j] = fmaf(x[i], y[j], v[i][j]);
    }
  }
  /// Pass `pass` of the rows, to a tile [rows / passes][cols].
  __device__ __forceinline__ void store(float* tile, int pass) const {
    MLPFAST_UNROLL
    for (int i = 0; i < S::group; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < S::tn; ++j) {
        float sum = v[i][j];
        MLPFAST_UNROLL
        for (int q = 1; q < S::passes; ++q) sum = pass == q ? v[q * S::group + i][j] : sum;
        tile[(row() + i) * S::cols + col() + j % S::group + j / S::group * S::col_apart] = sum;
      }
    }
  }
};

/// Of a block that has summed a slice of a tile: leaves its sums to the last of the tile's blocks to come here. True in
/// that one, where the sums become those of all slices, added in order. `each` is over a thread's sums.
template <class Each>
__device__ __forceinline__ bool add_slices(const GemmArgs& t, unsigned tile, unsigned slice, const Each& each) {
  const int64_t apart = t.m * t.n;
  each([&](int64_t i, int64_t j, float& sum) { t.scratch.partial[slice * apart + i * t.n + j] = sum; });
  if (!comes_last(t.scratch.arrived + tile, static_cast<unsigned>(t.plan.slices))) return false;
  each([&](int64_t i, int64_t j, float& sum) {
    const float* const first = t.scratch.partial + i * t.n + j;
    float total = __ldcg(first);
    for (int s = 1; s < t.plan.slices; ++s) total += __ldcg(first + s * apart);
    sum = total;
  });
  return true;
}

/// Blocks that a multiprocessor must have registers for, where ptxas (13.0) would take more: as many as it does not
/// spill with.
template <class S, bool TransposeA, bool TransposeB>
constexpr int resident = S::rows == 128 && (compiled_for < 80 || (compiled_for == 80 && TransposeA && TransposeB) ||
                                            (compiled_for == 100 && !TransposeA && !TransposeB))
                             ? 1
                             : 2;

template <class S, bool TransposeA, bool TransposeB>
__global__ void __launch_bounds__(S::threads, (resident<S, TransposeA, TransposeB>))
    gemm_kernel(const __grid_constant__ GemmArgs t) {
  constexpr int a_tile = S::depth * S::row_pitch, b_tile = S::depth * S::col_pitch;
  __shared__ __align__(16) float shared[S::stages * (a_tile + b_tile)];
  static_assert(S::stages * (a_tile + b_tile) >= S::rows / S::passes * S::cols);
  const unsigned slices = S::sliced ? static_cast<unsigned>(t.plan.slices) : 1;
  const unsigned place = blockIdx.x / slices, slice = blockIdx.x % slices;
  const auto row_blocks = static_cast<unsigned>((t.m + S::rows - 1) / S::rows);
  const int64_t row = int64_t(place % row_blocks) * S::rows, col = int64_t(place / row_blocks) * S::cols;
  const auto tiles = static_cast<unsigned>((t.k + S::depth - 1) / S::depth), longer = tiles % slices;
  const auto tiles_before = [&](unsigned s) { return tiles / slices * s + (s < longer ? s : longer); };
  const int64_t first = int64_t(tiles_before(slice)) * S::depth;
  const int64_t depth = (slice + 1 < slices ? int64_t(tiles_before(slice + 1)) * S::depth : t.k) - first;
  const auto rest = [&] { return static_cast<int>((slice + 1 < slices ? 0 : t.k) % S::depth); };
  if (t.unfit && !any_unfit<S::threads>(t.unfit, row, t.m, S::rows) &&
      !any_unfit<S::threads>(t.unfit + t.m, col, t.n, S::cols))
    return;
  const Place place_of_a = place_of(shared), place_of_b = place_of(shared + a_tile);
  Operand<S, S::rows, !TransposeA> a(t.a, row, t.m, first, place_of_a);
  Operand<S, S::cols, TransposeB> b(t.b, col, t.n, first, place_of_b);
  int behind = -static_cast<int>(depth / S::depth);  // how far behind the whole tiles the next to copy lies
  const auto begin = [&] {
    const int there = behind < 0 ? S::depth : behind == 0 ? rest() : 0;
    ++behind;
    a.begin(there);
    b.begin(there);
  };
  const auto copy = [&](int i, int stage) {
    const int offset = stage * (a_tile + b_tile) * int(sizeof(float));
    if (i < a.count) {
      a.copy(i, offset);
    } else if (i < a.count + b.count) {
      b.copy(i - a.count, offset);
    }
  };
  static_assert(a.count + b.count <= S::depth);
  for (int ahead = 0; ahead < S::stages - 1; ++ahead) {
    begin();
    MLPFAST_UNROLL
    for (int i = 0; i < S::depth; ++i) copy(i, ahead);
    end_group();
  }
  Sums<S> sums = {};
  const auto add = [&](int p, int stage) {
    const float* const tile = shared + stage * (a_tile + b_tile);
    sums.add(tile + p * S::row_pitch, tile + a_tile + p * S::col_pitch);
  };
  int stage = 0;
  while (behind < S::stages - 1) {
    wait_for_groups<S::stages - 2>();
    __syncthreads();  // the tile has come, and all have left the one before, whose place another one takes
    const int freed = stage > 0 ? stage - 1 : S::stages - 1;
    begin();
    MLPFAST_UNROLL
    for (int p = 0; p < S::depth; ++p) {
      copy(2 * p, freed);
      copy(2 * p + 1, freed);
      add(p, stage);
    }
    end_group();
    stage = stage + 1 < S::stages ? stage + 1 : 0;
  }
  if (rest() > 0) {  // nothing beyond k is added, not even 0 to a sum of -0
    wait_for_groups<S::stages - 2>();
    __syncthreads();
    for (int p = 0; p < rest(); ++p) add(p, stage);
  }
  for (int pass = 0; pass < S::passes; ++pass) {
    constexpr int height = S::rows / S::passes;
    __syncthreads();
    sums.store(shared, pass);
    __syncthreads();
    const auto each = [&](const auto& f) {
      for (int at = static_cast<int>(threadIdx.x); at < height * S::cols; at += S::threads) {
        const int64_t i = row + pass * height + at / S::cols, j = col + at % S::cols;
        if (i < t.m && j < t.n) f(i, j, shared[at]);
      }
    };
    if constexpr (S::sliced)
      if (slices > 1 && !add_slices(t, place, slice, each)) return;
    each([&](int64_t i, int64_t j, float sum) { finish(t, i, j, sum); });
  }
}

int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

template <class S>
void gemm(const GemmArgs& t, Layout layout, cudaStream_t stream) {
  using Kernel = void (*)(GemmArgs);
  constexpr Kernel kernels[] = {gemm_kernel<S, false, false>, gemm_kernel<S, false, true>, gemm_kernel<S, true, false>,
                                gemm_kernel<S, true, true>};
  const int64_t blocks = blocks_of(t.m, S::rows) * blocks_of(t.n, S::cols) * t.plan.slices;
  launch(kernels[static_cast<int>(layout)], {blocks, S::threads}, stream, t);
}

}  // namespace

int64_t most_slices(int64_t k, network::Precision precision) {
  constexpr int64_t least = 2 * Small::depth;  // numbers of a slice: fewer are not worth keeping and adding its sums
  return precision == network::Precision::ieee ? 1 : std::max<int64_t>(1, k / least);
}

GemmPlan plan_gemm(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  if (const int parts = tensor_parts(m, n, k, precision)) return {.parts = parts};
  // Tiles as large as still give every multiprocessor of a large GPU a block. Where even the smallest are too few,
  // slices of k make up for it: of several blocks, a multiprocessor has work while one of them waits for memory.
  constexpr int64_t enough = 128;
  const auto tiles = [&](int64_t size) { return blocks_of(m, size) * blocks_of(n, size); };
  for (const int size : {Large::rows, Medium::rows})
    if (tiles(size) >= enough) return {.tile = size};
  static_assert(most_partial == most_blocks * Small::rows * Small::cols);
  const int64_t slices = most_blocks / std::max<int64_t>(1, tiles(Small::rows));
  return {.tile = Small::rows, .slices = static_cast<int>(std::clamp<int64_t>(slices, 1, most_slices(k, precision)))};
}

void gemm(const GemmArgs& t, Layout layout, cudaStream_t stream) {
  if (t.m == 0 || t.n == 0) return;
  if (t.plan.parts > 0) return tensor_gemm(t, layout, stream);
  if (t.plan.tile == Large::rows) return gemm<Large>(t, layout, stream);
  if (t.plan.tile == Medium::rows) return gemm<Medium>(t, layout, stream);
  gemm<Small>(t, layout, stream);
}

void gemm_unfit(GemmArgs t, Layout layout, const int* exponents, cudaStream_t stream) {
  static_assert(Large::rows == unfit_tile && Large::cols == unfit_tile);
  t.unfit = exponents;
  gemm<Large>(t, layout, stream);
}

}  // namespace mlpfast::cuda
