#include "cuda/softmax_xent.h"

#include <type_traits>

#include "cuda/launch.h"
#include "cuda/number.h"
#include "cuda/threads.h"
#include "ops/loss.h"

namespace mlpfast::cuda {
namespace {

struct Larger {
  __device__ float operator()(float a, float b) const { return a < b ? b : a; }
};
struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

/// The numbers of a row that belong to one thread of a group: kept in registers where `items` of them suffice, else
/// read from memory for each pass.
template <int items, int lanes>
struct Row {
  using Column = std::conditional_t<(items > 0), int, int64_t>;
  const float* x;
  Column cols;
  int lane;
  float kept[items > 0 ? items : 1];

  /// f(column, number): a first pass reads, later ones find what the last one left, or read again.
  template <bool first, class F>
  __device__ __forceinline__ void each(const F& f) {
    if constexpr (items > 0) {
      MLPFAST_UNROLL
      for (int q = 0; q < items; ++q) {
        const int j = lane + q * lanes;
        if (first) kept[q] = j < cols ? x[j] : 0;
        if (j < cols) f(j, kept[q]);
      }
    } else {
      for (Column j = lane; j < cols; j += lanes) {
        float v = x[j];
        f(j, v);
      }
    }
  }
};

/// Largest number, and the sum of exp(x - it), in one pass over memory.
struct Online {
  float top = -__builtin_inff(), sum = 0;

  __device__ __forceinline__ void add(float x) {
    if (x > top) {
      sum = sum * ops::exp(Number{top - x}).v + 1;
      top = x;
    } else if (x != top || isfinite(x)) {
      sum += ops::exp(Number{x - top}).v;
    }
  }
};

/// Larger for a larger number, and for one before its equals; a NaN counts as the largest.
__device__ __forceinline__ std::uint64_t rank(float x, int64_t column) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x == 0 ? 0.0F : x);  // -0 is 0
  const std::uint32_t ordered = x != x ? ~0U : bits >> 31 ? ~bits : bits | 1U << 31;
  return std::uint64_t{ordered} << 32 | ~static_cast<std::uint32_t>(column);
}

struct Higher {
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return b > a ? b : a; }
};

/// The column of the first largest number of a row, by all threads of a group.
template <class Column, class Group>
__device__ __forceinline__ Column argmax(Group group, const float* x, Column cols) {
  std::uint64_t best = 0;
  for (Column j = group.lane(); j < cols; j += Group::lanes) best = Higher()(best, rank(x[j], j));
  return static_cast<Column>(~static_cast<std::uint32_t>(group.fold(best, Higher())));
}

MLPFAST_INLINE double inverse_of(double divisor) { return divisor > 0 ? 1 / divisor : 0; }

/// One row, by all threads of a group. Where `there` is false they repeat another's row, and write nothing.
template <int items, bool online, class Group>
__device__ __forceinline__ void visit(const CrossEntropyArgs& t, Group group, int64_t i, bool there) {
  using Columns = Row<items, Group::lanes>;
  using Column = typename Columns::Column;
  const auto cols = static_cast<Column>(t.cols);
  Columns row{t.logits.data + i * t.logits.ld, cols, group.lane(), {}};
  const bool labelled = t.labels.data != nullptr;
  const int64_t given = labelled ? t.labels.at(i) : -1;
  const bool ignored = t.labels.ignores(given), known = given >= 0 && given < t.cols && !ignored;
  const Column label = known ? static_cast<Column>(given) : -1;
  const float own = known ? row.x[label] : 0;  // before anyone has come to write d_logits, which may be the logits
  __syncwarp();                                // no shuffle orders memory

  float top = -__builtin_inff(), sum = 0;
  if constexpr (online) {
    Online mine;
    row.template each<true>([&](Column, float x) { mine.add(x); });
    top = group.fold(mine.top, Larger());
    const float part = mine.sum == 0 ? 0 : mine.sum * ops::exp(Number{mine.top - top}).v;
    sum = top < __builtin_inff() ? group.fold(part, Sum()) : __builtin_nanf("");
  } else {
    row.template each<true>([&](Column, float x) { top = x > top ? x : top; });
    top = group.fold(top, Larger());
  }

  // From here on a kept number is exp(x - top).
  const float share = t.label_smoothing / static_cast<float>(t.cols);
  Column first = cols;  // class of the first largest logit
  float weighted = 0;
  const bool reads_again = !online || (labelled && (t.correct || share != 0));
  if (reads_again) {
    row.template each<false>([&](Column j, float& x) {
      if (x == top && first == cols) first = j;
      const float z = x - top;
      if (share != 0) weighted += t.class_weight ? z * t.class_weight[j] : z;
      if constexpr (!online) sum += x = ops::exp(Number{z}).v;
    });
  }
  if constexpr (!online) sum = group.fold(sum, Sum());
  if (labelled) {
    if (t.correct) {
      first = group.fold(first, Smaller());
      const bool odd = sum != sum;  // a NaN or an infinity; a warp has several rows, and folds them together
      if (Lanes<32>().fold(odd ? 1.0F : 0.0F, Larger()) > 0) {
        const Column best = argmax<Column>(group, row.x, cols);
        if (odd) first = best;
      }
    }
    if (share != 0) weighted = group.fold(weighted, Sum());
  }

  const float class_weight = known && t.class_weight ? t.class_weight[label] : 1.0F;
  const float row_weight = labelled && t.row_weight ? t.row_weight[i] : 1.0F;
  const float target = (1 - t.label_smoothing) * class_weight;
  const float class_sum = t.class_weight && share != 0 ? t.totals->class_weight : static_cast<float>(t.cols);
  if (labelled && there && group.lane() == 0) {
    const ops::RowWeights<Number> weights{{target}, share, class_sum};
    float loss = row_weight * ops::cross_entropy(weights, ops::log(Number{sum}), Number{own - top}, Number{weighted}).v;
    if (!known) loss = ignored ? 0 : __builtin_bit_cast(float, outside);
    t.loss[i] = loss;
    if (t.correct) t.correct[i] = known && first == label;
    if (!isfinite(loss) && t.control) t.control->diverged = 1;
  }
  if (!there || !t.d_logits.data) return;
  const double inverse = t.weighted ? t.totals->inverse : t.inverse;
  const auto scale = static_cast<float>(t.row_weight ? static_cast<double>(row_weight) * inverse : inverse);
  const float factor = labelled ? (target + share * class_sum) * scale / sum : 1 / sum;
  const float smoothing = share * scale;
  float* const d = t.d_logits.data + i * t.d_logits.ld;
  row.template each<false>([&](Column j, float x) {
    const Number e = items > 0 ? Number{x} : ops::exp(Number{x - top});
    if (!labelled) {
      d[j] = e.v * factor;
      return;
    }
    const float weight = t.class_weight ? t.class_weight[j] : 1.0F;
    const float gradient = ops::cross_entropy_gradient(e, Number{factor}, Number{smoothing}, Number{weight}).v;
    d[j] = !known ? 0 : j == label ? gradient - target * scale : gradient;
  });
}

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
