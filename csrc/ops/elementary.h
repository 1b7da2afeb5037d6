// exp, log, tanh, sigmoid over a vector type: argument reduction to a small interval, a minimax polynomial, and the
// exponent put back. Only correctly rounded operations occur, so every machine with FMA computes the same bits.
// Coefficients: Remez exchange at 200 bits, weighted for relative error; the bound of each stands beside it.
#pragma once
#include "ops/portable.h"

namespace mlpfast::ops {

/// Of a polynomial, the constant first. A GPU reads no arrays of the host's, so functions return them.
template <class T, int N>
struct Coefficients {
  T of[N];
};

template <class T>
struct Elementary;

template <>
struct Elementary<float> {
  static constexpr float log2_e = 1.44269504F, ln2_high = 0.693359375F, ln2_low = -2.12194440e-4F;  // high: 9 bits
  static constexpr float exp_min = -104.0F, exp_max = 89.0F, tanh_small = 0.625F;
  static constexpr float smallest_normal = 0x1p-126F, subnormal_shift = 24.0F;
  // (e^r - 1 - r) / r^2 on |r| <= ln(2)/2: 2^-27.5 of e^r; of the sets near the minimax one (2^-28.0) that with the
  // least error of e^x after all roundings, 0.99 ulp
  static MLPFAST_INLINE constexpr Coefficients<float, 5> exp() {
    return {{0.499999881F, 0.166664839F, 0.0416692831F, 0.00837168377F, 0.0013770645F}};
  }
  // (2 atanh(s) - 2s) / s^3 in s^2, |s| <= 3 - sqrt(8): 2^-36.5
  static MLPFAST_INLINE constexpr Coefficients<float, 4> log() {
    return {{0.666666627F, 0.400003374F, 0.285371691F, 0.235849738F}};
  }
  // (tanh(x) / x - 1) / x^2 in x^2, |x| <= 0.625: 2^-32.6
  static MLPFAST_INLINE constexpr Coefficients<float, 6> tanh() {
    return {{-0.333333313F, 0.133332103F, -0.0539472029F, 0.0217029694F, -0.00818267837F, 0.00214754092F}};
  }
};

template <>
struct Elementary<double> {
  static constexpr double log2_e = 1.4426950408889634, ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
  static constexpr double exp_min = -746.0, exp_max = 710.0, tanh_small = 0.625;
  static constexpr double smallest_normal = 0x1p-1022, subnormal_shift = 54.0;
  // 2^-63.9
  static MLPFAST_INLINE constexpr Coefficients<double, 11> exp() {
    return {{0.5, 0.16666666666666685, 0.041666666666666075, 0.008333333333316656, 0.0013888888889121021,
             0.00019841269897343032, 2.480158691995312e-05, 2.755723388411565e-06, 2.7557584968159626e-07,
             2.5112383687208305e-08, 2.0826324852300973e-09}};
  }
  // 2^-58.4
  static MLPFAST_INLINE constexpr Coefficients<double, 7> log() {
    return {{0.6666666666666735, 0.3999999999940748, 0.2857142874414219, 0.2222219837841659, 0.18183575167849983,
             0.153137557139571, 0.14799066454046383}};
  }
  // 2^-66.0
  static MLPFAST_INLINE constexpr Coefficients<double, 13> tanh() {
    return {{-0.3333333333333333, 0.13333333333333164, -0.05396825396813278, 0.02186948853178376, -0.008863235436750631,
             0.0035921267583357104, -0.0014558225020237035, 0.000589950310344523, -0.00023877466148551415,
             9.576022236222091e-05, -3.663955966728134e-05, 1.180712176185295e-05, -2.2767188111004377e-06}};
  }
};

/// By Horner's rule.
template <class V, class T, int N>
MLPFAST_INLINE V polynomial(V x, Coefficients<T, N> c) {
  V sum = V::all(c.of[N - 1]);
  MLPFAST_UNROLL
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, V::all(c.of[i]));
  return sum;
}

/// e^x of x <= 0; up to exp_max it holds as well.
template <class V>
MLPFAST_INLINE V exp_nonpositive(V x) {
  using E = Elementary<typename V::T>;
  x = maximum(V::all(E::exp_min), x);  // in this order NaN stays
  const V n = nearest(x * V::all(E::log2_e));
  V r = fma(n, V::all(-E::ln2_high), x);
  r = fma(n, V::all(-E::ln2_low), r);
  const V tail = fma(r * r, polynomial(r, E::exp()), r);
  return scale2(V::all(1) + tail, n);
}

template <class V>
MLPFAST_INLINE V exp(V x) {
  const V most = V::all(Elementary<typename V::T>::exp_max);
  return exp_nonpositive(select(less(most, x), most, x));
}

/// Natural logarithm of x >= 0; log(0) = -inf, log of a negative number or NaN is NaN.
template <class V>
MLPFAST_INLINE V log(V x) {
  using E = Elementary<typename V::T>;
  const auto subnormal = less(x, V::all(E::smallest_normal));
  const V shift = select(subnormal, V::all(E::subnormal_shift), V::all(0));
  V n;
  const V f = split2(scale2(x, shift), n) - V::all(1);
  n = n - shift;
  const V s = f / (V::all(2) + f);
  const V z = s * s;
  const V half_square = V::all(0.5) * f * f;
  const V tail = s * fma(z, polynomial(z, E::log()), half_square);
  const V y = fma(n, V::all(E::ln2_high), f - (half_square - fma(n, V::all(E::ln2_low), tail)));
  const V infinity = V::all(__builtin_inff());
  const V edge = select(equal(x, V::all(0)), V::all(0) - infinity, V::all(__builtin_nanf("")));
  return select(less(V::all(0), x), select(less(x, infinity), y, x), edge);
}

template <class V>
MLPFAST_INLINE V tanh(V x) {
  using E = Elementary<typename V::T>;
  const V size = absolute(x);
  const V z = x * x;
  const V small = fma(x * z, polynomial(z, E::tanh()), x);
  const V large = V::all(1) - V::all(2) / (exp(size + size) + V::all(1));
  const V odd = select(less(x, V::all(0)), V::all(0) - large, large);
  return select(less(size, V::all(E::tanh_small)), small, odd);
}

/// 1 / (1 + e^-x), from e^-|x| so that neither side loses digits. Most of what 1 + e rounds away is put back.
template <class V>
MLPFAST_INLINE V sigmoid(V x) {
  const V e = exp_nonpositive(V::all(0) - absolute(x)), sum = V::all(1) + e, lost = e - (sum - V::all(1));
  const V y = select(less(x, V::all(0)), e, V::all(1)) / sum;
  return fma(y * (y - V::all(1)), lost, y);
}

}  // namespace mlpfast::ops
