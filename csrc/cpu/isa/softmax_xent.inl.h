// Row-wise softmax and softmax cross-entropy: loss and gradient of a row in one visit, while it lies in L1.
// Sums over a row run in 16 fixed lanes, whatever the register width, so every ISA with FMA returns the same bits.
#pragma once
#include "cpu/isa/elementwise.inl.h"
#include "ops/loss.h"

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

// Lanes beyond the row read as this: never the maximum, and exp of it is 0.
constexpr float nothing = -__builtin_inff();

template <class V>
MLPFAST_INLINE typename V::T row_maximum(int64_t n, const typename V::T* x) {
  V best = V::all(nothing);
  for_vectors<V>(n, [&](int64_t j, auto part) MLPFAST_LAMBDA { best = maximum(part.load(x + j, nothing), best); });
  typename V::T lane[V::lanes];
  best.store(lane);
  for (int i = 1; i < V::lanes; ++i) lane[0] = lane[0] < lane[i] ? lane[i] : lane[0];
  return lane[0];
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
  for (int64_t i = 0; i < rows; ++i) {
    const V top = V::all(row_maximum<V>(cols, x.row(i)));
    LaneSums<V> sum;
    for_vectors<V>(cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
      const V e = ops::exp(part.load(x.row(i) + j, nothing) - top);
      part.store(e, y.row(i) + j);
      sum.add(j, e);
    });
    const V factor = V::all(T(1) / sum.total());
    for_vectors<V>(
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

template <class V>
MLPFAST_INLINE void cross_entropy_row(const CrossEntropyArgs<typename V::T>& t, int64_t i) {
  using T = typename V::T;
  const int64_t label = t.labels[i];
  const T* x = t.logits.row(i);
  T* d = t.d_logits.data ? t.d_logits.row(i) : nullptr;
  const T label_weight = t.class_weight ? t.class_weight[label] : 1;
  const ops::RowWeights<T> weights{(1 - t.label_smoothing) * label_weight, t.label_smoothing / T(t.cols),
                                   t.class_weight_sum};
  const T peak = row_maximum<V>(t.cols, x), z_label = x[label] - peak;
  if (t.correct) t.correct[i] = first_largest(x, label, peak);

  const V top = V::all(peak);
  LaneSums<V> sum, weighted;
  for_vectors<V>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
    const V e = ops::exp(part.load(x + j, nothing) - top);
    if (weights.smoothing != 0) {
      const V z = part.load(x + j, peak) - top;
      weighted.add(j, t.class_weight ? z * part.load(t.class_weight + j) : z);
    }
    sum.add(j, e);
    if (d) part.store(e, d + j);
  });
  const T total = sum.total(), row_weight = t.row_weight ? t.row_weight[i] : 1;
  const T weighted_z = weights.smoothing != 0 ? weighted.total() : 0;
  const V loss = ops::cross_entropy(weights, ops::log(V::all(total)), V::all(z_label), V::all(weighted_z));
  t.loss[i] = row_weight * first_lane(loss);
  if (!d) return;

  const T scale = static_cast<T>(static_cast<double>(row_weight) * t.gradient_scale);
  const V factor = V::all((weights.target + weights.smoothing * weights.class_sum) * scale / total);
  const V smoothing = V::all(weights.smoothing * scale);
  for_vectors<V>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA {
    const V class_weight = t.class_weight ? part.load(t.class_weight + j) : V::all(1);
    part.store(ops::cross_entropy_gradient(part.load(d + j), factor, smoothing, class_weight), d + j);
  });
  d[label] -= weights.target * scale;
}

template <class V>
void cross_entropy(const CrossEntropyArgs<typename V::T>& t) {
  for (int64_t i = 0; i < t.rows; ++i) {
    if (t.labels[i] >= 0) {
      cross_entropy_row<V>(t, i);
      continue;
    }
    t.loss[i] = 0;
    if (t.correct) t.correct[i] = 0;
    if (!t.d_logits.data) continue;
    for_vectors<V>(t.cols, [&](int64_t j, auto part) MLPFAST_LAMBDA { part.store(V::all(0), t.d_logits.row(i) + j); });
  }
}

}  // namespace
