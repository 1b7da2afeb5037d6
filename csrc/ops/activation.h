// Every activation: forward y = f(x), backward dx = dy * f'(x), side by side. `saved` is what the backward pass reads:
// the input x or the output y, as `saves` declares. To add one: a functor, a row in the list, two lines in
// reference.py.
#pragma once
#include "ops/elementary.h"

namespace mlpfast::ops {

enum class Saves { input, output };

struct Identity {
  static constexpr Saves saves = Saves::output;
  static constexpr bool has_alpha = false;
  static constexpr double default_alpha = 0;
  template <class V>
  static MLPFAST_INLINE V forward(V x, V) {
    return x;
  }
  template <class V>
  static MLPFAST_INLINE V backward(V, V dy, V) {
    return dy;
  }
};

/// max(x, 0), written so that NaN stays NaN; the derivative at 0 is 0.
struct Relu {
  static constexpr Saves saves = Saves::output;
  static constexpr bool has_alpha = false;
  static constexpr double default_alpha = 0;
  template <class V>
  static MLPFAST_INLINE V forward(V x, V) {
    return select(less(x, V::all(0)), V::all(0), x);
  }
  template <class V>
  static MLPFAST_INLINE V backward(V y, V dy, V) {
    return select(less(V::all(0), y), dy, V::all(0));
  }
};

struct LeakyRelu {
  static constexpr Saves saves = Saves::input;
  static constexpr bool has_alpha = true;
  static constexpr double default_alpha = 0.01;
  template <class V>
  static MLPFAST_INLINE V forward(V x, V alpha) {
    return select(less(V::all(0), x), x, alpha * x);
  }
  template <class V>
  static MLPFAST_INLINE V backward(V x, V dy, V alpha) {
    return select(less(V::all(0), x), dy, alpha * dy);
  }
};

struct Sigmoid {
  static constexpr Saves saves = Saves::output;
  static constexpr bool has_alpha = false;
  static constexpr double default_alpha = 0;
  template <class V>
  static MLPFAST_INLINE V forward(V x, V) {
    return sigmoid(x);
  }
  template <class V>
  static MLPFAST_INLINE V backward(V y, V dy, V) {
    return dy * (y * (V::all(1) - y));
  }
};

struct Tanh {
  static constexpr Saves saves = Saves::output;
  static constexpr bool has_alpha = false;
  static constexpr double default_alpha = 0;
  template <class V>
  static MLPFAST_INLINE V forward(V x, V) {
    return tanh(x);
  }
  template <class V>
  static MLPFAST_INLINE V backward(V y, V dy, V) {
    return dy * (V::all(1) - y * y);
  }
};

// The list: name, functor. Names, tables, dispatch and tests follow from it.
#define MLPFAST_ACTIVATIONS(X) \
  X(identity, Identity)        \
  X(relu, Relu)                \
  X(leaky_relu, LeakyRelu)     \
  X(sigmoid, Sigmoid)          \
  X(tanh, Tanh)

enum class Activation : int {
#define MLPFAST_ROW(name, functor) name,
  MLPFAST_ACTIVATIONS(MLPFAST_ROW)
#undef MLPFAST_ROW
};

struct ActivationInfo {
  const char* name;
  Saves saves;
  bool has_alpha;
  double default_alpha;
};

inline constexpr ActivationInfo activations[] = {
#define MLPFAST_ROW(name, functor) {#name, functor::saves, functor::has_alpha, functor::default_alpha},
    MLPFAST_ACTIVATIONS(MLPFAST_ROW)
#undef MLPFAST_ROW
};
inline constexpr int activation_count = sizeof(activations) / sizeof(activations[0]);

}  // namespace mlpfast::ops
