// Every update rule: w, its slots (per-parameter state) and the gradient g of one step. Scalars come per step from
// Python, so that one kernel serves several libraries' conventions. Formulas: PyTorch's torch.optim.SGD.
#pragma once
#include "ops/portable.h"

namespace mlpfast::ops {

inline constexpr int max_slots = 2;

/// What a step needs besides w, g and the slots.
template <class T>
struct StepScalars {
  T lr, weight_decay, momentum;
  bool nesterov;
};

/// w -= lr * (g + weight_decay * w)
struct Sgd {
  static constexpr int slots = 0;
  template <class V>
  static MLPFAST_INLINE void step(V& w, V g, V*, const StepScalars<typename V::T>& s) {
    g = fma(V::all(s.weight_decay), w, g);
    w = fma(V::all(-s.lr), g, w);
  }
};

/// v = momentum * v + g; w -= lr * v, or lr * (g + momentum * v) with Nesterov's look-ahead.
struct Momentum {
  static constexpr int slots = 1;
  template <class V>
  static MLPFAST_INLINE void step(V& w, V g, V* slot, const StepScalars<typename V::T>& s) {
    g = fma(V::all(s.weight_decay), w, g);
    slot[0] = fma(V::all(s.momentum), slot[0], g);
    const V direction = s.nesterov ? fma(V::all(s.momentum), slot[0], g) : slot[0];
    w = fma(V::all(-s.lr), direction, w);
  }
};

#define MLPFAST_OPTIMIZERS(X) \
  X(sgd, Sgd)                 \
  X(momentum, Momentum)

enum class Optimizer : int {
#define MLPFAST_ROW(name, functor) name,
  MLPFAST_OPTIMIZERS(MLPFAST_ROW)
#undef MLPFAST_ROW
};

/// A rule with its numbers; each slot is laid out as the parameters, or null.
template <class T>
struct UpdateRule {
  Optimizer optimizer;
  StepScalars<T> scalars;
  T* slots[max_slots];
};

struct OptimizerInfo {
  const char* name;
  int slots;
};

inline constexpr OptimizerInfo optimizers[] = {
#define MLPFAST_ROW(name, functor) {#name, functor::slots},
    MLPFAST_OPTIMIZERS(MLPFAST_ROW)
#undef MLPFAST_ROW
};
inline constexpr int optimizer_count = sizeof(optimizers) / sizeof(optimizers[0]);

}  // namespace mlpfast::ops
