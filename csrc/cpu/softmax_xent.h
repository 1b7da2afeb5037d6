// softmax and softmax cross-entropy over whole arrays; threads share rows.
#pragma once
#include "cpu/dispatch.h"

namespace mlpfast::cpu {

inline constexpr double work_per_logit = 16;  // exp and three sweeps, in multiply-adds

template <class T>
void softmax(int64_t rows, int64_t cols, Matrix<const T> x, Matrix<T> y);
template <class T>
void cross_entropy(const CrossEntropyArgs<T>& args);

/// Rows first .. of the same problem.
template <class T>
CrossEntropyArgs<T> rows_of(CrossEntropyArgs<T> args, int64_t first, int64_t rows) {
  args.rows = rows;
  args.logits = args.logits.at(first, 0);
  args.labels += first;
  args.loss += first;
  if (args.row_weight) args.row_weight += first;
  if (args.correct) args.correct += first;
  if (args.d_logits.data) args.d_logits = args.d_logits.at(first, 0);
  return args;
}

/// Sum of so many numbers in eight fixed lanes.
template <class T>
double lane_sum(int64_t n, const T* x) {
  constexpr int64_t lanes = 8;
  double sum[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int64_t l = 0; l < lanes; ++l) sum[l] += static_cast<double>(x[i + l]);
  for (; i < n; ++i) sum[i % lanes] += static_cast<double>(x[i]);
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/// Sum over rows with a label of class weight times row weight: what a mean divides by.
template <class T>
double weight_sum(int64_t rows, const std::int32_t* labels, const T* class_weight, const T* row_weight) {
  if (!class_weight && !row_weight) {
    int64_t labelled = 0;
    for (int64_t i = 0; i < rows; ++i) labelled += labels[i] >= 0;
    return static_cast<double>(labelled);
  }
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    if (labels[i] < 0) continue;
    const double w = class_weight ? static_cast<double>(class_weight[labels[i]]) : 1.0;
    sum += row_weight ? w * static_cast<double>(row_weight[i]) : w;
  }
  return sum;
}

}  // namespace mlpfast::cpu
