#include "cuda/tensor.h"

#include "cuda/finish.h"
#include "cuda/launch.h"
#include "cuda/mma.h"

namespace mlpfast::cuda {
namespace {

// Rows of a and columns of b are scaled by powers of two: their largest magnitude to 2^top, so that sums stay finite;
// the least that is not 0 must not be below 2^bottom, so that no part of a product loses bits to underflow.
constexpr int top = 50, bottom = -45, largest_scale = 127, unfit = 1 << 20;

/// scale[i] = the exponent that row i of x [count, k] is scaled by, or `unfit` where a number is not finite or the
/// range is too wide. The rows run along memory, or columns do: then x is stored [k, count].
template <bool AlongK>
__global__ void __launch_bounds__(1024, 1)
    survey_kernel(int64_t count, int64_t k, const __grid_constant__ Matrix<const float> x, int* scale) {
  constexpr int lanes = 32, groups = 32;
  __shared__ std::uint32_t most[groups][lanes], least[groups][lanes];
  const int lane = static_cast<int>(threadIdx.x) % lanes, group = static_cast<int>(threadIdx.x) / lanes;
  // A block has 32 rows; its threads lie along memory: a warp a row, or a warp every 32nd number of all rows.
  const int64_t first = int64_t(blockIdx.x) * lanes;
  const int64_t row = first + (AlongK ? group : lane);
  std::uint32_t high = 0, low = 0x7f800000;
  for (int64_t p = AlongK ? lane : group; row < count && p < k; p += lanes) {
    const float v = AlongK ? x.data[row * x.ld + p] : x.data[p * x.ld + row];
    const auto magnitude = __builtin_bit_cast(std::uint32_t, v) & 0x7fffffff;
    high = magnitude > high ? magnitude : high;
    low = magnitude != 0 && magnitude < low ? magnitude : low;
  }
  most[group][lane] = high;
  least[group][lane] = low;
  __syncthreads();
  if (group > 0 || first + lane >= count) return;
  for (int i = 0; i < groups; ++i) {
    const std::uint32_t h = AlongK ? most[lane][i] : most[i][lane], l = AlongK ? least[lane][i] : least[i][lane];
    high = i == 0 || h > high ? h : high;
    low = i == 0 || l < low ? l : low;
  }
  int by = 0;
  if (high >= 0x7f800000) {
    by = unfit;
  } else if (high > 0) {
    by = top - ilogbf(__builtin_bit_cast(float, high));
    by = by < largest_scale ? by : largest_scale;
    if (ilogbf(__builtin_bit_cast(float, low)) + by < bottom) by = unfit;
  }
  scale[first + lane] = by;
}

constexpr int tile = 128, depth = 16, threads = 256, warps = threads / 32;
constexpr int pitch = depth / 2 + 4;  // of a line's pairs: eight lines are read at once, from different banks
constexpr int image = tile * pitch;
constexpr int warp_rows = 64, warp_cols = 32, warps_across = tile / warp_cols;
constexpr int down = warp_rows / 16, across = warp_cols / 8;
static_assert(tile / warp_rows * warps_across == warps);

/// One thread's part in bringing an operand's tiles [tile][depth] to shared memory, as `parts` images of bf16 pairs
/// along k, whose sum the numbers are, the largest first.
template <int parts, bool AlongK>
class Operand {
 public:
  __device__ __forceinline__ Operand(Matrix<const float> x, int64_t outer, int64_t count, int64_t k, const float* scale)
      : x_(x),
        outer_(outer),
        k_(k),
        left_(static_cast<int>(count - outer < tile ? count - outer : tile)),
        scale_(scale) {}
  __device__ __forceinline__ void fetch(int64_t k) {
    MLPFAST_UNROLL
    for (int i = 0; i < pairs; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < 2; ++j) {
        const int64_t p = k + 2 * pair(i) + j, o = outer_ + line(i);
        v_[i][j] = 0;
        if (line(i) < left_ && p < k_) v_[i][j] = AlongK ? x_.data[o * x_.ld + p] : x_.data[p * x_.ld + o];
      }
    }
  }
  __device__ __forceinline__ void store(std::uint32_t* images) const {
    MLPFAST_UNROLL
    for (int i = 0; i < pairs; ++i) {
      float first = v_[i][0] * scale_[line(i)], second = v_[i][1] * scale_[line(i)];
      MLPFAST_UNROLL
      for (int q = 0; q < parts; ++q) {
        const std::uint32_t part = to_bf16(first, second);
        images[q * image + line(i) * pitch + pair(i)] = part;
        first -= __builtin_bit_cast(float, part << 16);
        second -= __builtin_bit_cast(float, part & 0xffff0000);
      }
    }
  }

 private:
  static constexpr int pairs = tile * depth / threads / 2, wide = AlongK ? depth / 2 : tile, apart = threads / wide;

  __device__ __forceinline__ static int line(int i) {
    const int self = static_cast<int>(threadIdx.x);
    return AlongK ? self / wide + i * apart : self % wide;
  }
  __device__ __forceinline__ static int pair(int i) {
    const int self = static_cast<int>(threadIdx.x);
    return AlongK ? self % wide : self / wide + i * apart;
  }

  const Matrix<const float> x_;
  const int64_t outer_, k_;
  const int left_;
  const float* const scale_;
  float v_[pairs][2];
};

/// A lane's part of its warp's sums, 64 x 32. Tensor cores round sums towards zero: `fresh` has those of few products
/// only, and is added to `whole` by additions that round to nearest.
struct Sums {
  float whole[down][across][4] = {}, fresh[down][across][4];

  /// The products of parts p and q with p + q < parts, or of the first parts alone.
  template <int parts, bool first>
  __device__ __forceinline__ void add(const std::uint32_t* a, const std::uint32_t* b) {
    const int lane = static_cast<int>(threadIdx.x) % 32, mine = lane / 4 * pitch + lane % 4;
    MLPFAST_UNROLL
    for (int p = first ? 0 : parts - 1; p >= 0; --p) {
      std::uint32_t x[down][4];
      MLPFAST_UNROLL
      for (int i = 0; i < down; ++i) {
        const std::uint32_t* const at = a + p * image + i * 16 * pitch + mine;
        x[i][0] = at[0];
        x[i][1] = at[8 * pitch];
        x[i][2] = at[4];
        x[i][3] = at[8 * pitch + 4];
      }
      MLPFAST_UNROLL
      for (int q = first ? 0 : parts - 1 - p; q >= (first || p > 0 ? 0 : 1); --q) {
        MLPFAST_UNROLL
        for (int j = 0; j < across; ++j) {
          const std::uint32_t* const at = b + q * image + j * 8 * pitch + mine;
          const std::uint32_t y[2] = {at[0], at[4]};
          MLPFAST_UNROLL
          for (int i = 0; i < down; ++i) mma(fresh[i][j], x[i], y);
        }
      }
    }
  }
  template <class F>
  __device__ __forceinline__ void each(const F& f) {
    MLPFAST_UNROLL
    for (int i = 0; i < down; ++i) {
      MLPFAST_UNROLL
      for (int j = 0; j < across; ++j) {
        MLPFAST_UNROLL
        for (int e = 0; e < 4; ++e) f(i, j, e);
      }
    }
  }
  __device__ __forceinline__ void begin() {
    each([&](int i, int j, int e) { fresh[i][j][e] = 0; });
  }
  __device__ __forceinline__ void take_in() {
    each([&](int i, int j, int e) { whole[i][j][e] += fresh[i][j][e]; });
  }
  /// To a tile [warp_rows][tile], of which `to` is the warp's first number.
  __device__ __forceinline__ void store(float* to) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    each([&](int i, int j, int e) {
      to[(i * 16 + lane / 4 + e / 2 * 8) * tile + j * 8 + lane % 4 * 2 + e % 2] = whole[i][j][e];
    });
  }
};

/// Numbers k of a and b, one chain of multiply-adds in order.
template <bool TransposeA, bool TransposeB>
__device__ float chain(const GemmArgs& t, int64_t i, int64_t j) {
  float sum = 0;
  for (int64_t p = 0; p < t.k; ++p)
    sum = fmaf(t.a.data[TransposeA ? p * t.a.ld + i : i * t.a.ld + p],
               t.b.data[TransposeB ? j * t.b.ld + p : p * t.b.ld + j], sum);
  return sum;
}

template <int parts, bool TransposeA, bool TransposeB>
__global__ void __launch_bounds__(threads, 1) tensor_kernel(const __grid_constant__ GemmArgs t) {
  constexpr int images = 2 * parts * image, results = warp_rows * tile;
  __shared__ std::uint32_t memory[images > results ? images : results];
  __shared__ float row_scale[tile], col_scale[tile];
  __shared__ int unfit_lines;
  std::uint32_t *const a_images = memory, *const b_images = memory + parts * image;

  const auto row_blocks = static_cast<unsigned>((t.m + tile - 1) / tile);
  const int64_t row = int64_t(blockIdx.x % row_blocks) * tile, col = int64_t(blockIdx.x / row_blocks) * tile;
  const int self = static_cast<int>(threadIdx.x), warp = self / 32;
  if (self == 0) unfit_lines = 0;
  __syncthreads();
  {
    const bool is_row = self < tile;
    const int64_t line = is_row ? row + self : col + self - tile;
    const int by = line >= (is_row ? t.m : t.n) ? 0 : t.scratch.exponents[is_row ? line : t.m + line];
    if (by == unfit) unfit_lines = 1;
    (is_row ? row_scale : col_scale)[self % tile] = by == unfit ? 0 : scalbnf(1, by);
  }
  __syncthreads();
  const bool by_chains = unfit_lines != 0;

  Sums sums;
  if (!by_chains) {
    const std::uint32_t* const a_mine = a_images + warp / warps_across * warp_rows * pitch;
    const std::uint32_t* const b_mine = b_images + warp % warps_across * warp_cols * pitch;
    Operand<parts, !TransposeA> a(t.a, row, t.m, t.k, row_scale);
    Operand<parts, TransposeB> b(t.b, col, t.n, t.k, col_scale);
    a.fetch(0);
    b.fetch(0);
    for (int64_t step = 0; step * depth < t.k; ++step) {
      a.store(a_images);
      b.store(b_images);
      __syncthreads();
      a.fetch((step + 1) * depth);
      b.fetch((step + 1) * depth);
      if constexpr (parts == 3) {  // small products for themselves: of the large ones few sums are rounded
        sums.begin();
        sums.add<parts, false>(a_mine, b_mine);
        sums.take_in();
        sums.begin();
        sums.add<parts, true>(a_mine, b_mine);
        sums.take_in();
      } else {
        constexpr int together = 8;
        if (step % together == 0) sums.begin();
        sums.add<parts, false>(a_mine, b_mine);
        sums.add<parts, true>(a_mine, b_mine);
        if (step % together == together - 1 || (step + 1) * depth >= t.k) sums.take_in();
      }
      __syncthreads();
    }
  }

  auto* const shared = reinterpret_cast<float*>(memory);
  for (int pass = 0; pass < tile / warp_rows; ++pass) {
    __syncthreads();
    if (warp / warps_across == pass) sums.store(shared + warp % warps_across * warp_cols);
    __syncthreads();
    for (int at = self; at < warp_rows * tile; at += threads) {
      const int64_t i = row + pass * warp_rows + at / tile, j = col + at % tile;
      if (i >= t.m || j >= t.n) continue;
      const float sum = by_chains ? chain<TransposeA, TransposeB>(t, i, j)
                                  : scalbnf(shared[at], -t.scratch.exponents[i] - t.scratch.exponents[t.m + j]);
      finish(t, i, j, sum);
    }
  }
}

template <bool AlongK>
void survey(int64_t count, int64_t k, Matrix<const float> x, int* scale, cudaStream_t stream) {
  launch(survey_kernel<AlongK>, dim3(static_cast<unsigned>((count + 31) / 32)), 1024, stream, count, k, x, scale);
}

template <int parts>
void multiply(const GemmArgs& t, Layout layout, cudaStream_t stream) {
  using Kernel = void (*)(GemmArgs);
  constexpr Kernel kernels[] = {tensor_kernel<parts, false, false>, tensor_kernel<parts, false, true>,
                                tensor_kernel<parts, true, false>, tensor_kernel<parts, true, true>};
  const int64_t blocks = (t.m + tile - 1) / tile * ((t.n + tile - 1) / tile);
  launch(kernels[static_cast<int>(layout)], dim3(static_cast<unsigned>(blocks)), threads, stream, t);
}

/// The architecture, times ten, that the current device's kernels were written for. What was written for an older one,
/// and made for this one by the driver, has no tensor cores.
int written_for() {
  const WhileCapturing allowed;
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, tensor_kernel<1, false, false>), "looking at a kernel");
  return attributes.ptxVersion;
}

}  // namespace

int tensor_parts(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  // Enough tiles for half of a large GPU: with fewer, smaller tiles of multiply-adds are faster.
  constexpr int64_t enough = 64, least_k = 64;
  const int64_t tiles = (m + tile - 1) / tile * ((n + tile - 1) / tile);
  const int version = capability();
  if (tiles < enough || k < least_k || version < 80 || written_for() < 80) return 0;
  // Others multiply bf16 two to four times as fast as float32: three products, or six, gain nothing there.
  const bool many_times_as_fast = version == 80 || version / 10 == 9 || version / 10 == 10;
  constexpr int parts[] = {0, 3, 2, 1};  // of each level
  const int wanted = parts[static_cast<int>(precision)];
  return wanted == 1 || many_times_as_fast ? wanted : 0;
}

void tensor_gemm(const GemmArgs& t, Layout layout, cudaStream_t stream) {
  if (t.m == 0 || t.n == 0) return;
  const bool a_along_k = layout == Layout::nn || layout == Layout::nt;
  const bool b_along_k = layout == Layout::nt || layout == Layout::tt;
  (a_along_k ? survey<true> : survey<false>)(t.m, t.k, t.a, t.scratch.exponents, stream);
  (b_along_k ? survey<true> : survey<false>)(t.n, t.k, t.b, t.scratch.exponents + t.m, stream);
  if (t.plan.parts == 1) return multiply<1>(t, layout, stream);
  if (t.plan.parts == 2) return multiply<2>(t, layout, stream);
  multiply<3>(t, layout, stream);
}

}  // namespace mlpfast::cuda
