// Softmax cross-entropy of one row, by a group of threads: what kernels of softmax_xent and head share.
#pragma once
#include <type_traits>

#include "cuda/number.h"
#include "cuda/softmax_xent.h"
#include "cuda/threads.h"
#include "ops/loss.h"

namespace mlpfast::cuda {

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

}  // namespace mlpfast::cuda
