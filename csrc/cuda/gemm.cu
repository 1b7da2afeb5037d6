#include "cuda/gemm.h"

#include <cuda_pipeline_primitives.h>

#include <algorithm>

#include "cuda/finish.h"
#include "cuda/launch.h"
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
  static constexpr int row_group = tm < 4 ? tm : 4, col_group = tn < 4 ? tn : 4;
  static constexpr int passes = tm / row_group;  // of the epilogue
  static constexpr int row_pitch = rows + 4, col_pitch = cols + 4;
  static constexpr bool sliced = rows == 32;  // several blocks may share a tile's k
};
using Large = Shape<128, 128, 16, 8, 8, 2>;  // more stages would take more than 48 KB
using Medium = Shape<64, 64, 16, 4, 4, 3>;
using Small = Shape<32, 32, 32, 2, 2, 4>;

/// One thread's part in bringing an operand's tiles [depth][outer] to shared memory, from where neighbours read
/// neighbours: along k, or along the other dimension. What lies outside the operand stays what it was there: no sum
/// that is kept takes it in.
template <class S, int Outer, bool AlongK>
class Operand {
 public:
  __device__ __forceinline__ Operand(Matrix<const float> x, int64_t outer, int64_t size, int64_t k)
      : next_(x.data + (AlongK ? (outer + o_) * x.ld + k + p_ : (k + p_) * x.ld + outer + o_)),
        step_(apart * x.ld),
        advance_(AlongK ? S::depth : S::depth * x.ld),
        left_(static_cast<int>(size - outer < Outer ? size - outer : Outer)) {}
  /// Asks for the next tile, of which so many numbers along k are there.
  __device__ __forceinline__ void fetch(float* tile, int pitch, int depth) {
    MLPFAST_UNROLL
    for (int i = 0; i < count; ++i) {
      const int p = AlongK ? p_ : p_ + i * apart, o = AlongK ? o_ + i * apart : o_;
      if (o < left_ && p < depth) __pipeline_memcpy_async(tile + p * pitch + o, next_ + i * step_, sizeof(float));
    }
    next_ += advance_;
  }

 private:
  static constexpr int count = Outer * S::depth / S::threads, wide = AlongK ? S::depth : Outer;
  static constexpr int apart = S::threads / wide;  // rows between two numbers of a thread
  static_assert(S::threads % wide == 0);

  const int p_ = AlongK ? static_cast<int>(threadIdx.x) % wide : static_cast<int>(threadIdx.x) / wide;
  const int o_ = AlongK ? static_cast<int>(threadIdx.x) / wide : static_cast<int>(threadIdx.x) % wide;
  const float* next_;
  const int64_t step_, advance_;
  const int left_;
};

template <class S>
struct Sums {
  float v[S::tm][S::tn];

  /// One step along k.
  __device__ __forceinline__ void add(const float* a, const float* b) {
    const int row = static_cast<int>(threadIdx.x) / (S::cols / S::tn) * S::row_group;
    const int col = static_cast<int>(threadIdx.x) % (S::cols / S::tn) * S::col_group;
    float x[S::tm], y[S::tn];
    MLPFAST_UNROLL
    for (int i = 0; i < S::tm; ++i) x[i] = a[row + i % S::row_group + i / S::row_group * (S::rows / S::passes)];
    MLPFAST_UNROLL
    for (int j = 0; j < S::tn; ++j)
      y[j] = b[col + j % S::col_group + j / S::col_group * (S::cols * S::col_group / S::tn)];
    MLPFAST_UNROLL
    for (int i = 0; i < S::tm; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < S::tn; ++j) v[i][j] = fmaf(x[i], y[j], v[i][j]);
    }
  }
  /// Pass `pass` of the rows, to a tile [rows / passes][cols].
  __device__ __forceinline__ void store(float* tile, int pass) const {
    const int row = static_cast<int>(threadIdx.x) / (S::cols / S::tn) * S::row_group;
    const int col = static_cast<int>(threadIdx.x) % (S::cols / S::tn) * S::col_group;
    MLPFAST_UNROLL
    for (int i = 0; i < S::row_group; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < S::tn; ++j) {
        const int at = col + j % S::col_group + j / S::col_group * (S::cols * S::col_group / S::tn);
        float sum = v[i][j];
        MLPFAST_UNROLL
        for (int q = 1; q < S::passes; ++q) sum = pass == q ? v[q * S::row_group + i][j] : sum;
        tile[(row + i) * S::cols + at] = sum;
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

/// Blocks that a multiprocessor must have registers for, where ptxas would take more, and does not spill with fewer.
template <class S, bool TransposeA, bool TransposeB>
constexpr int resident = S::rows == 32 || (S::rows == 128 && TransposeA == TransposeB) ? 2 : 0;

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
  const auto tiles_before = [&](unsigned s) {
    return static_cast<int>(tiles / slices * s + (s < longer ? s : longer));
  };
  const int first = tiles_before(slice), last = tiles_before(slice + 1);
  const int64_t end = slice + 1 < slices ? int64_t(last) * S::depth : t.k;
  Operand<S, S::rows, !TransposeA> a(t.a, row, t.m, int64_t(first) * S::depth);
  Operand<S, S::cols, TransposeB> b(t.b, col, t.n, int64_t(first) * S::depth);
  Sums<S> sums = {};
  const auto depth_of = [&](int tile) {
    const int64_t left = end - int64_t(tile) * S::depth;
    return static_cast<int>(left < S::depth ? left : S::depth);
  };
  const auto fetch = [&](int tile) {
    float* const at = shared + tile % S::stages * (a_tile + b_tile);
    a.fetch(at, S::row_pitch, depth_of(tile));
    b.fetch(at + a_tile, S::col_pitch, depth_of(tile));
    __pipeline_commit();
  };
  for (int ahead = 0; ahead < S::stages - 1; ++ahead) fetch(first + ahead);
  for (int tile = first; tile < last; ++tile) {
    __pipeline_wait_prior(S::stages - 2);
    __syncthreads();  // the tile has come, and all have left the one before, whose place another one takes
    fetch(tile + S::stages - 1);
    const float* const a_now = shared + tile % S::stages * (a_tile + b_tile);
    const float* const b_now = a_now + a_tile;
    if (depth_of(tile) == S::depth) {
      MLPFAST_UNROLL
      for (int p = 0; p < S::depth; ++p) sums.add(a_now + p * S::row_pitch, b_now + p * S::col_pitch);
    } else {  // nothing beyond k is added, not even 0 to a sum of -0
      for (int p = 0; p < depth_of(tile); ++p) sums.add(a_now + p * S::row_pitch, b_now + p * S::col_pitch);
    }
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
  launch(kernels[static_cast<int>(layout)], dim3(static_cast<unsigned>(blocks)), S::threads, stream, t);
}

}  // namespace

int64_t most_slices(int64_t k, network::Precision precision) {
  constexpr int64_t least = 2 * Small::depth;  // numbers of a slice: fewer are not worth keeping and adding its sums
  return precision == network::Precision::ieee ? 1 : std::max<int64_t>(1, k / least);
}

GemmPlan plan_gemm(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  if (const int parts = tensor_parts(m, n, k, precision)) return {.parts = parts};
  // Tiles as large as still give every multiprocessor of a large GPU a block. Where even the smallest are too few,
  // slices of k make up for it: with two blocks, a multiprocessor has work while one of them waits for memory.
  constexpr int64_t enough = 128;
  const auto tiles = [&](int64_t size) { return blocks_of(m, size) * blocks_of(n, size); };
  for (const int size : {Large::rows, Medium::rows})
    if (tiles(size) >= enough) return {.tile = size};
  static_assert(most_partial == 2 * most_tiles * Small::rows * Small::cols);
  const int64_t slices = 2 * most_tiles / std::max<int64_t>(1, tiles(Small::rows));
  return {.tile = Small::rows, .slices = static_cast<int>(std::clamp<int64_t>(slices, 1, most_slices(k, precision)))};
}

void gemm(const GemmArgs& t, Layout layout, cudaStream_t stream) {
  if (t.m == 0 || t.n == 0) return;
  if (t.plan.parts > 0) return tensor_gemm(t, layout, stream);
  if (t.plan.tile == Large::rows) return gemm<Large>(t, layout, stream);
  if (t.plan.tile == Medium::rows) return gemm<Medium>(t, layout, stream);
  gemm<Small>(t, layout, stream);
}

}  // namespace mlpfast::cuda
