// Softmax and softmax cross-entropy of rows: loss and gradient in one visit, while a row lies in a cache. Sums over a
// row run in 16 fixed lanes, whatever the register width, so every ISA with FMA returns the same bits.
#pragma once
#include "cpu/isa/softmax_columns.inl.h"

namespace {

/// Sixteen running sums in 16 / lanes registers.
template <class V>
struct LaneSums {
  using T = typename V::T;
  static constexpr int width = 16, registers = width / V::lanes;
  V sum[registers];

  MLPFAST_INLINE LaneSums() {
    for (int r = 0; r < registers; ++r) sum[r] = V::all(0);
  }
  /// v holds the numbers of columns j .. j + lanes of a row.
  MLPFAST_INLINE void add(int64_t j, V v) {
    if constexpr (registers == 1) {
      sum[0] = sum[0] + v;
    } else {
      V& slot = sum[j / V::lanes % registers];
      slot = slot + v;
    }
  }
  MLPFAST_INLINE T total() const {
    T lane[width];
    for (int r = 0; r < registers; ++r) sum[r].store(lane + r * V::lanes);
    for (int half = width / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    return lane[0];
  }
};

template <class V>
MLPFAST_INLINE typename V::T largest_lane(V v) {
  typename V::T lane[V::lanes];
  v.store(lane);
  for (int i = 1; i < V::lanes; ++i) lane[0] = lane[0] < lane[i] ? lane[i] : lane[0];
  return lane[0];
}

template <class V>
MLPFAST_INLINE typename V::T row_maximum(int64_t n, const typename V::T* x) {
  constexpr int chains = 4;  // a single one waits for each maximum
  V some[chains];
  for (V& v : some) v = V::all(nothing);
  int64_t whole = 0;
  for (; whole + chains * V::lanes <= n; whole += chains * V::lanes) {
    MLPFAST_UNROLL
    for (int c = 0; c < chains; ++c) some[c] = maximum(V::load(x + whole + c * V::lanes), some[c]);
  }
  V best = maximum(maximum(some[0], some[1]), maximum(some[2], some[3]));
  for_vectors<V>(n - whole,
                 [&](int64_t j, auto part) MLPFAST_LAMBDA { best = maximum(part.load(x + whole + j, nothing), best); });
  return largest_lane(best);
}

template <class V>
MLPFAST_INLINE typename V::T first_lane(V v) {
  typename V::T lane[V::lanes];
  v.store(lane);
  return lane[0];
}

template <class V>
void softmax(int64_t rows, int64_t cols, Matrix<const typename V::T> x, Matrix<typename V::T> y) {
  using T = typename V::T;
  if (cols <= most_columns) return softmax_columns<V>(rows, cols, x, y);
  for (int64_t i = 0; i < rows; ++i) {
    const V top = V::all(row_maximum<V>(cols, x.row(i)));
    LaneSums<V> sum;
    for_vectors<V, Pieces>(cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
      const V e = ops::exp_nonpositive(part.load(x.row(i) + j, nothing) - top);
      part.store(e, y.row(i) + j);
      sum.add(j, e);
    });
    const V factor = V::all(T(1) / sum.total());
    for_vectors<V, Pieces>(
        cols, [&](int64_t j, auto part) MLPFAST_LAMBDA { part.store(part.load(y.row(i) + j) * factor, y.row(i) + j); });
  }
}

template <class T>
MLPFAST_INLINE bool first_largest(const T* x, int64_t label, T top) {
  if (x[label] != top) return false;
  for (int64_t j = 0; j < label; ++j)
    if (x[j] == top) return false;
  return true;
}

/// The gradient of a row from its exponentials, a register at a time. With Streams it is written past the caches, while
/// the next row's exponentials are computed.
template <class V, bool Streams>
class RowGradient {
  using T = typename V::T;

 public:
  /// Of no row.
  RowGradient() = default;
  MLPFAST_INLINE RowGradient(const CrossEntropyArgs<T>& t, int64_t i, const ops::RowWeights<V>& weights, T target,
                             T total, const T* exponentials)
      : exponentials_(exponentials), class_weight_(t.class_weight), d_(t.d_logits.row(i)), n_(t.cols) {
    const T scale = static_cast<T>(static_cast<double>(t.row_weight ? t.row_weight[i] : 1) * t.gradient_scale);
    factor_ = V::all((target + weights.smoothing * weights.class_sum) * scale / total);
    smoothing_ = V::all(weights.smoothing * scale);
    label_ = t.labels[i];
    own_ = target * scale;
    if constexpr (Streams) {
      const int64_t head = until_aligned<V>(d_);
      if (head > 0 && head < n_) {
        write(Part<V>{head});
        j_ = head;
      }
    }
  }
  MLPFAST_INLINE void step() {
    if (j_ + V::lanes > n_) return;
    if (Streams && (label_ < j_ || label_ >= j_ + V::lanes)) {  // the label's will be read again
      write(Streamed<V>{});
    } else {
      write(Whole<V>{});
    }
    j_ += V::lanes;
  }
  MLPFAST_INLINE void end() {
    if (n_ == 0) return;
    while (j_ + V::lanes <= n_) step();
    if (j_ < n_) write(Pieces<V>{n_ - j_});
    d_[label_] -= own_;
    n_ = 0;
  }

 private:
  template <class Access>
  MLPFAST_INLINE void write(Access part) const {
    const V class_weight = class_weight_ ? part.load(class_weight_ + j_) : V::all(1);
    part.store(ops::cross_entropy_gradient(part.load(exponentials_ + j_), factor_, smoothing_, class_weight), d_ + j_);
  }

  V factor_ = V::all(0), smoothing_ = V::all(0);
  const T *exponentials_ = nullptr, *class_weight_ = nullptr;
  T* d_ = nullptr;
  int64_t n_ = 0, j_ = 0, label_ = 0;
  T own_ = 0;
};

/// Maximum of a row.
template <class T>
struct Peak {
  int64_t row;
  T value;
};

/// Of a row with a label: the loss, exponentials where gradients are wanted. With Streams, which read a row once from
/// memory, on the way the gradient of the row before, `pending`, in whose place this row's is left, and the next peak.
template <class V, bool Streams>
MLPFAST_INLINE void cross_entropy_row(const CrossEntropyArgs<typename V::T>& t, int64_t i, typename V::T* exponentials,
                                      RowGradient<V, Streams>& pending, Peak<typename V::T>& ahead) {
  using T = typename V::T;
  const int64_t label = t.labels[i];
  const T* x = t.logits.row(i);
  const T label_weight = t.class_weight ? t.class_weight[label] : 1;
  const T target = (1 - t.label_smoothing) * label_weight;
  const ops::RowWeights<V> weights{V::all(target), t.label_smoothing / T(t.cols), t.class_weight_sum};
  const T peak = ahead.row == i ? ahead.value : row_maximum<V>(t.cols, x), z_label = x[label] - peak;
  if (t.correct) t.correct[i] = first_largest(x, label, peak);

  const V top = V::all(peak);
  LaneSums<V> sum, weighted;
  if (weights.smoothing != 0)
    for_vectors<V>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
      const V z = part.load(x + j, peak) - top;
      weighted.add(j, t.class_weight ? z * part.load(t.class_weight + j) : z);
    });
  const T* const next = t.logits.row(i + 1 < t.rows ? i + 1 : i);
  V next_top = V::all(nothing);
  for_vectors<V, Pieces>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
    if constexpr (Streams) {
      constexpr int64_t distance = 4096 / sizeof(T);
      __builtin_prefetch(next + j + distance, 0, 2);
      next_top = maximum(part.load(next + j, nothing), next_top);
      pending.step();
    }
    const V e = ops::exp_nonpositive(part.load(x + j, nothing) - top);
    sum.add(j, e);
    if (Streams || exponentials) part.store(e, exponentials + j);
  });
  pending.end();
  if constexpr (Streams) ahead = {i + 1, largest_lane(next_top)};
  const T total = sum.total(), row_weight = t.row_weight ? t.row_weight[i] : 1;
  if (t.correct && total != total) t.correct[i] = is_argmax(t.cols, x, label);
  const V loss = ops::cross_entropy(weights, ops::log(V::all(total)), V::all(z_label), V::all(weighted.total()));
  t.loss[i] = row_weight * first_lane(loss);
  if (exponentials) pending = RowGradient<V, Streams>(t, i, weights, target, total, exponentials);
}

/// Rows too wide for registers.
template <class V, bool Streams>
void cross_entropy_rows(const CrossEntropyArgs<typename V::T>& t) {
  using T = typename V::T;
  RowGradient<V, Streams> gradient;
  Peak<T> peak{-1, 0};
  for (int64_t i = 0; i < t.rows; ++i) {
    T* const d = t.d_logits.data ? t.d_logits.row(i) : nullptr;
    if (t.labels[i] < 0) {
      gradient.end();  // its exponentials lie where the next row's will
      t.loss[i] = 0;
      if (t.correct) t.correct[i] = 0;
      if (d) for_vectors<V>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA { part.store(V::all(0), d + j); });
    } else if constexpr (Streams) {
      cross_entropy_row<V>(t, i, t.exponentials + i % 2 * t.cols, gradient, peak);
    } else {
      cross_entropy_row<V>(t, i, d, gradient, peak);
      gradient.end();
    }
  }
  gradient.end();
  if constexpr (Streams) end_streams<V>();
}

template <class V>
void cross_entropy(const CrossEntropyArgs<typename V::T>& args) {
  const auto t = args;
  if (t.cols <= most_columns) {
    for_groups<V>(t.rows, [&](int64_t i, int64_t n) MLPFAST_LAMBDA { cross_entropy_group<V>(t, i, n); });
    return;
  }
  return t.exponentials ? cross_entropy_rows<V, true>(t) : cross_entropy_rows<V, false>(t);
}

}  // namespace
