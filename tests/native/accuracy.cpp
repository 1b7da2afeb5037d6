// The largest errors of ops/elementary.h on one instruction set, in units in the last place, against the C library in
// a wider type. Compiled with `-include csrc/cpu/isa/<name>.cpp`, whose vector types it takes. Run as `float STRIDE`,
// for every STRIDE-th float, or as `double POINTS`; both add the numbers around every boundary.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "ops/elementary.h"

namespace {

template <class T>
struct Type;
template <>
struct Type<float> {
  using Bits = std::uint32_t;
  using Wide = double;
};
template <>
struct Type<double> {
  using Bits = std::uint64_t;
  using Wide = long double;
};

/// Errors in units in the last place of T; infinity counts as the number after the largest.
template <class T>
class Ruler {
 public:
  using Wide = typename Type<T>::Wide;

  Ruler() {
    for (int e = lowest; e < Limits::max_exponent; ++e) ulp_.push_back(std::scalbn(Wide{1}, e + 1 - Limits::digits));
  }
  Wide error(T got, Wide want) const {
    if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : INFINITY;
    const Wide bounded = clamped(want);
    const int exponent = bounded == 0 ? lowest : std::clamp(std::ilogb(bounded), lowest, Limits::max_exponent - 1);
    return std::abs(clamped(got) - bounded) / ulp_[static_cast<std::size_t>(exponent - lowest)];
  }

 private:
  using Limits = std::numeric_limits<T>;
  static constexpr int lowest = Limits::min_exponent - 1;

  Wide clamped(Wide x) const { return std::clamp(x, -beyond_, beyond_); }

  const Wide beyond_ = std::scalbn(Wide{1}, Limits::max_exponent);
  std::vector<Wide> ulp_;
};

#define FUNCTION(NAME, FROM, TO, EXACT)           \
  struct NAME {                                   \
    static constexpr const char* name = #NAME;    \
    static constexpr double from = FROM, to = TO; \
    template <class V>                            \
    static V computed(V x) {                      \
      return mlpfast::ops::NAME(x);               \
    }                                             \
    template <class Wide>                         \
    static Wide exact(Wide x) {                   \
      return EXACT;                               \
    }                                             \
  };
namespace functions {
FUNCTION(exp, -746, 710, std::exp(x))
FUNCTION(log, 0, 4, std::log(x))
FUNCTION(tanh, -20, 20, std::tanh(x))
FUNCTION(sigmoid, -746, 40, 1 / (1 + std::exp(-x)))
}  // namespace functions

/// Takes arguments one by one, computes a register of them at a time, keeps the worst.
template <class V, class F>
class Meter {
 public:
  using T = typename V::T;
  using Bits = typename Type<T>::Bits;

  void add(T x) {
    in_[count_++] = x;
    if (count_ == V::lanes) measure();
  }
  void around(T x, int distance) {
    for (int i = -distance; i < distance; ++i)
      add(std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(x) + static_cast<Bits>(i))));
  }
  void around_both(T x, int distance) {
    around(x, distance);
    around(-x, distance);
  }
  void print() {
    while (count_ > 0) add(in_[0]);
    std::printf("%s %.4f %a\n", F::name, static_cast<double>(worst_), static_cast<double>(at_));
  }

 private:
  void measure() {
    T out[V::lanes];
    F::computed(V::load(in_)).store(out);
    for (int i = 0; i < V::lanes; ++i) {
      const auto error = ruler_.error(out[i], F::exact(static_cast<typename Ruler<T>::Wide>(in_[i])));
      if (error > worst_) worst_ = error, at_ = in_[i];
    }
    count_ = 0;
  }

  T in_[V::lanes], at_ = 0;
  int count_ = 0;
  Ruler<T> ruler_;
  typename Ruler<T>::Wide worst_ = -1;
};

template <class V, class F>
void boundaries(Meter<V, F>& meter) {
  using T = typename V::T;
  using E = mlpfast::ops::Elementary<T>;
  using Limits = std::numeric_limits<T>;
  const double log2 = std::log(2.0), saturated = (Limits::digits + 1) * log2;
  const double overflow = Limits::max_exponent * log2, underflow = (Limits::min_exponent - Limits::digits) * log2;
  for (const double x : {0.0, 1.0, 2.0, 0.5, std::sqrt(0.5), log2 / 2, saturated, saturated / 2, overflow, underflow,
                         (Limits::min_exponent - 1) * log2, static_cast<double>(E::exp_min),
                         static_cast<double>(E::exp_max), static_cast<double>(E::exp_max) / 2,
                         static_cast<double>(E::tanh_small), static_cast<double>(E::smallest_normal)})
    meter.around_both(static_cast<T>(x), 2048);
  for (const T x : {Limits::infinity(), Limits::quiet_NaN(), Limits::max()}) meter.around_both(x, 2048);
  for (int n = Limits::min_exponent - Limits::digits; n < Limits::max_exponent; ++n) {
    meter.around_both(static_cast<T>((n + 0.5) * log2), 64);          // where exp reduces to another n
    meter.around(static_cast<T>(std::ldexp(std::sqrt(0.5), n)), 64);  // and log
  }
}

template <class V, class F>
void measure(long amount) {
  using T = typename V::T;
  Meter<V, F> meter;
  boundaries(meter);
  if constexpr (sizeof(T) == 4) {
    for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += static_cast<std::uint64_t>(amount))
      meter.add(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  } else {  // half of the points alike in their bits, half in the range where something happens
    for (std::uint64_t i = 0, bits = 0; i < static_cast<std::uint64_t>(amount) / 2; ++i) {
      bits += 0x9e3779b97f4a7c15;  // by the golden ratio: no two regions are visited unevenly
      meter.add(std::bit_cast<double>(bits));
      meter.add(F::from + (F::to - F::from) * static_cast<double>(bits >> 11) * 0x1p-53);
    }
  }
  meter.print();
}

template <class V>
void measure_all(long amount) {
  std::thread threads[] = {
      std::thread(measure<V, functions::exp>, amount), std::thread(measure<V, functions::log>, amount),
      std::thread(measure<V, functions::tanh>, amount), std::thread(measure<V, functions::sigmoid>, amount)};
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int, char** argv) {
  const long amount = std::atol(argv[2]);
  std::strcmp(argv[1], "double") == 0 ? measure_all<VecF64>(amount) : measure_all<VecF32>(amount);
}
