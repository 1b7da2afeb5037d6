// Softmax and softmax cross-entropy of rows of few classes: transposed in registers, to work on as many rows as a
// register has lanes: 14 times faster at 10 classes.
#pragma once
#include "cpu/isa/elementwise.inl.h"
#include "ops/loss.h"

namespace {

// Lanes beyond the row read as this: never the maximum, and exp of it is 0.
constexpr float nothing = -__builtin_inff();

constexpr int64_t most_columns = 64;

/// Rows as columns: lane i of at(j) is x[i][j].
template <class V>
struct Columns {
  using T = typename V::T;
  V block[most_columns / V::lanes][V::lanes];

  MLPFAST_INLINE V& at(int64_t j) { return block[j / V::lanes][j % V::lanes]; }

  /// Lanes beyond the rows repeat the last one. A row's last register is loaded whole where it ends before the last row
  /// does; its lanes beyond the columns are never used.
  MLPFAST_INLINE void load(int64_t rows, int64_t cols, Matrix<const T> x) {
    const T* const end = x.row(rows - 1) + cols;
    for (int64_t j = 0; j < cols; j += V::lanes) {
      V(&b)[V::lanes] = block[j / V::lanes];
      MLPFAST_UNROLL
      for (int i = 0; i < V::lanes; ++i) {
        const T* row = x.row(i < rows ? i : rows - 1) + j;
        b[i] = row + V::lanes <= end ? V::load(row) : V::load(row, cols - j);
      }
      V::transpose(b);
    }
  }
  /// A row's last register is stored whole where later rows, stored after it, overwrite what is too much.
  MLPFAST_INLINE void store(int64_t rows, int64_t cols, Matrix<T> y) {
    const bool adjacent = y.ld == cols;
    const T* const last = adjacent ? y.row(rows) - V::lanes : nullptr;  // place of a whole register
    const int64_t whole = cols / V::lanes, rest = cols % V::lanes;
    for (int64_t j = 0; j * V::lanes < cols; ++j) V::transpose(block[j]);
    MLPFAST_UNROLL
    for (int i = 0; i < V::lanes; ++i) {
      if (i >= rows) break;
      T* row = y.row(i);
      for (int64_t j = 0; j < whole; ++j, row += V::lanes) block[j][i].store(row);
      if (rest == 0) continue;
      if (row <= last) {
        block[whole][i].store(row);
      } else {
        block[whole][i].store(row, rest);
      }
    }
  }
  /// f(numbers of column j, j), from the last to the first, so that among equal ones the first has the last word.
  template <class F>
  MLPFAST_INLINE void each(int64_t cols, F&& f) {
    V j = V::all(static_cast<T>(cols - 1));
    for (V* x = block[0] + cols; x != block[0]; j = j - V::all(1)) f(*--x, j);
  }
  MLPFAST_INLINE V top(int64_t cols) {
    V best = V::all(nothing);
    each(cols, [&](V& x, V) MLPFAST_LAMBDA { best = maximum(x, best); });
    return best;
  }
};

/// The sum of LaneSums, for as many rows as a register has lanes.
template <class V, class F>
MLPFAST_INLINE V sum_columns(int64_t cols, F&& number) {
  V lane[16];
  MLPFAST_UNROLL
  for (int64_t j = 0; j < 16; ++j) lane[j] = j < cols ? number(j) : V::all(0);
  for (int64_t j = 16; j < cols; ++j) lane[j % 16] = lane[j % 16] + number(j);
  MLPFAST_UNROLL
  for (int half = 8; half > 0; half /= 2) {
    MLPFAST_UNROLL
    for (int i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
  }
  return lane[0];
}

/// f(first row, rows) for groups of as many rows as a register has lanes, a number that the compiler then knows, and
/// for the rest.
template <class V, class F>
MLPFAST_INLINE void for_groups(int64_t rows, F&& f) {
  int64_t i = 0;
  for (; i + V::lanes <= rows; i += V::lanes) f(i, V::lanes);
  if (i < rows) f(i, rows - i);
}

template <class V>
void softmax_columns(int64_t rows, int64_t cols, Matrix<const typename V::T> x, Matrix<typename V::T> y) {
  for_groups<V>(rows, [&](int64_t i, int64_t n) MLPFAST_LAMBDA {
    Columns<V> column;
    column.load(n, cols, x.at(i, 0));
    const V top = column.top(cols);
    const V sum = sum_columns<V>(
        cols, [&](int64_t j) MLPFAST_LAMBDA { return column.at(j) = ops::exp_nonpositive(column.at(j) - top); });
    const V factor = V::all(1) / sum;
    column.each(cols, [&](V& y_j, V) MLPFAST_LAMBDA { y_j = y_j * factor; });
    column.store(n, cols, y.at(i, 0));
  });
}

/// Whether argmax(x), of a row with a NaN or an infinity, is the label: a NaN counts as the largest.
template <class T>
[[gnu::cold, gnu::noinline]] bool is_argmax(int64_t n, const T* x, int64_t label) {
  int64_t best = 0;
  for (int64_t j = 1; j < n && x[best] == x[best]; ++j)
    if (!(x[j] <= x[best])) best = j;
  return best == label;
}

/// What cross_entropy_group needs of each row of a group, a row a lane.
template <class V>
struct Group {
  using T = typename V::T;
  V label, target, row_weight, scale;
  bool ignores = false;  // some label is below 0: that row, or lane without a row, has no loss and no gradient

  MLPFAST_INLINE Group(const CrossEntropyArgs<T>& t, int64_t first, int64_t rows) {
    T lane[V::lanes];
    for (int64_t i = 0; i < V::lanes; ++i) {
      const std::int32_t l = i < rows ? t.labels[first + i] : -1;
      lane[i] = static_cast<T>(l);
      ignores |= l < 0;
    }
    label = V::load(lane);
    target = V::all(1 - t.label_smoothing);
    row_weight = V::all(1);
    scale = V::all(static_cast<T>(t.gradient_scale));
    if (t.class_weight) {
      for (int64_t i = 0; i < V::lanes; ++i) lane[i] = i < rows ? weight_of(t, first + i) : T(0);
      target = V::load(lane);
    }
    if (t.row_weight) {
      T scales[V::lanes];
      for (int64_t i = 0; i < V::lanes; ++i) {
        lane[i] = i < rows ? t.row_weight[first + i] : T(0);
        scales[i] = static_cast<T>(static_cast<double>(lane[i]) * t.gradient_scale);
      }
      row_weight = V::load(lane);
      scale = V::load(scales);
    }
  }
  static MLPFAST_INLINE T weight_of(const CrossEntropyArgs<T>& t, int64_t i) {
    return (1 - t.label_smoothing) * t.class_weight[t.labels[i] < 0 ? 0 : t.labels[i]];
  }
};

template <class V>
MLPFAST_INLINE void cross_entropy_group(const CrossEntropyArgs<typename V::T>& t, int64_t first, int64_t rows) {
  using T = typename V::T;
  const Group<V> group(t, first, rows);
  const ops::RowWeights<V> weights{group.target, t.label_smoothing / T(t.cols), t.class_weight_sum};
  Columns<V> column;
  column.load(rows, t.cols, t.logits.at(first, 0));
  const V top = column.top(t.cols);

  V z_label = V::all(0), largest = V::all(-1), weighted_z = V::all(0);  // largest: class of the first largest logit
  column.each(t.cols, [&](V& x, V j) MLPFAST_LAMBDA {
    largest = select(equal(x, top), j, largest);
    x = x - top;
    z_label = select(equal(group.label, j), x, z_label);
  });
  if (weights.smoothing != 0)
    weighted_z = sum_columns<V>(t.cols, [&](int64_t j) MLPFAST_LAMBDA {
      return t.class_weight ? column.at(j) * V::all(t.class_weight[j]) : column.at(j);
    });
  const V total = sum_columns<V>(
      t.cols, [&](int64_t j) MLPFAST_LAMBDA { return column.at(j) = ops::exp_nonpositive(column.at(j)); });
  const V loss = group.row_weight * ops::cross_entropy(weights, ops::log(total), z_label, weighted_z);
  const auto ignored = less(group.label, V::all(0));
  const V losses = select(ignored, V::all(0), loss);
  if (rows < V::lanes) {
    losses.store(t.loss + first, rows);
  } else {
    losses.store(t.loss + first);
  }
  if (t.correct) {
    T correct[V::lanes];
    select(equal(largest, group.label), select(ignored, V::all(0), V::all(1)), V::all(0)).store(correct);
    for (int64_t i = 0; i < rows; ++i) {
      t.correct[first + i] = correct[i] != 0;
      if (const T l = t.loss[first + i]; l != l)
        t.correct[first + i] = is_argmax(t.cols, t.logits.row(first + i), t.labels[first + i]);
    }
  }
  if (!t.d_logits.data) return;

  const V factor = (group.target + V::all(weights.smoothing * weights.class_sum)) * group.scale / total;
  const V smoothing = V::all(weights.smoothing) * group.scale, own = group.target * group.scale;
  const auto differentiate = [&](V& x, V j, V class_weight) MLPFAST_LAMBDA {
    const V d = ops::cross_entropy_gradient(x, factor, smoothing, class_weight);
    x = select(equal(group.label, j), d - own, d);
  };
  if (t.class_weight) {
    const T* class_weight = t.class_weight + t.cols;
    column.each(t.cols, [&](V& x, V j) MLPFAST_LAMBDA { differentiate(x, j, V::all(*--class_weight)); });
  } else {
    column.each(t.cols, [&](V& x, V j) MLPFAST_LAMBDA { differentiate(x, j, V::all(1)); });
  }
  if (group.ignores) column.each(t.cols, [&](V& d, V) MLPFAST_LAMBDA { d = select(ignored, V::all(0), d); });
  column.store(rows, t.cols, t.d_logits.at(first, 0));
}

}  // namespace
