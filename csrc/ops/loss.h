// Softmax cross-entropy of one row x with label y, in PyTorch's definition: with label smoothing e, class weights w,
// c classes and p = softmax(x),
//   loss   = (1 - e) w_y (-log p_y) + e/c * sum_j w_j (-log p_j)
//   d/dx_j = ((1 - e) w_y + e/c * sum w) p_j - [j = y] (1 - e) w_y - e/c * w_j
// With z = x - max(x) and s = sum exp(z): -log p_j = log s - z_j, so huge logits stay finite.
#pragma once
#include "ops/elementary.h"

namespace mlpfast::ops {

/// What labels, class weights and smoothing come to.
template <class V>
struct RowWeights {
  V target;                 // (1 - e) w_y
  typename V::T smoothing;  // e / c
  typename V::T class_sum;  // sum of w
};

/// loss from log s, z_y and sum_j w_j z_j (0 where there is no smoothing)
template <class V>
MLPFAST_INLINE V cross_entropy(const RowWeights<V>& w, V log_sum, V z_label, V weighted_z) {
  const V hard = w.target * (log_sum - z_label);
  if (w.smoothing == 0) return hard;
  return fma(V::all(w.smoothing), fma(V::all(w.class_sum), log_sum, V::all(0) - weighted_z), hard);
}

/// Gradient without the label's own term: p_j * share - smoothing * w_j, where p_j * share comes as exp(z_j) * factor.
template <class V>
MLPFAST_INLINE V cross_entropy_gradient(V exp_z, V factor, V smoothing, V class_weight) {
  return fma(exp_z, factor, V::all(0) - smoothing * class_weight);
}

}  // namespace mlpfast::ops
