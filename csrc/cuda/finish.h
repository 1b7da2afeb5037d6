// What becomes of a number: activations, their derivatives and updates, on the device. A switch over the lists of ops/,
// alike for all threads of a warp.
#pragma once
#include "cuda/gemm.h"
#include "cuda/number.h"

namespace mlpfast::cuda {

__device__ __forceinline__ float activate(ops::Activation activation, float x, float alpha) {
  switch (activation) {
#define MLPFAST_ROW(name, functor) \
  case ops::Activation::name:      \
    return ops::functor::forward(Number{x}, Number{alpha}).v;
    MLPFAST_ACTIVATIONS(MLPFAST_ROW)
#undef MLPFAST_ROW
  }
  return x;
}

__device__ __forceinline__ float activate_backward(ops::Activation activation, float saved, float dy, float alpha) {
  switch (activation) {
#define MLPFAST_ROW(name, functor) \
  case ops::Activation::name:      \
    return ops::functor::backward(Number{saved}, Number{dy}, Number{alpha}).v;
    MLPFAST_ACTIVATIONS(MLPFAST_ROW)
#undef MLPFAST_ROW
  }
  return dy;
}

template <class F>
__device__ __forceinline__ void step(const Update& u, int64_t at, float dw) {
  Number w{u.w[at]}, slot[ops::max_slots];
  MLPFAST_UNROLL
  for (int s = 0; s < F::slots; ++s) slot[s] = {u.slots[s][at]};
  F::step(w, Number{dw}, slot, u.control ? u.control->scalars : u.scalars);
  u.w[at] = w.v;
  MLPFAST_UNROLL
  for (int s = 0; s < F::slots; ++s) u.slots[s][at] = slot[s].v;
}

/// One step on parameter `at`; none after a loss that was not finite.
__device__ __forceinline__ void update(const Update& u, int64_t at, float dw) {
  if (u.control && u.control->diverged) return;
  switch (u.optimizer) {
#define MLPFAST_ROW(name, functor) \
  case ops::Optimizer::name:       \
    return step<ops::functor>(u, at, dw);
    MLPFAST_OPTIMIZERS(MLPFAST_ROW)
#undef MLPFAST_ROW
  }
}

/// Sum (i, j) of a product.
__device__ __forceinline__ void finish(const GemmArgs& t, int64_t i, int64_t j, float sum) {
  switch (t.finish) {
    case Finish::forward: {
      float z = sum * t.scale;
      if (t.bias) z = z + t.bias[j];
      if (t.saved.data) t.saved.data[i * t.saved.ld + j] = z;
      t.y.data[i * t.y.ld + j] = activate(t.activation, z, t.alpha);
      return;
    }
    case Finish::backward_input:
      t.y.data[i * t.y.ld + j] = activate_backward(t.activation, t.saved.data[i * t.saved.ld + j], sum, t.alpha);
      return;
    case Finish::store:
      t.y.data[i * t.y.ld + j] = t.scale * sum;
      return;
    case Finish::combine:
      t.y.data[i * t.y.ld + j] = fmaf(t.beta, t.y.data[i * t.y.ld + j], t.scale * sum);
      return;
    case Finish::update:
      update(t.update, i * t.y.ld + j, sum * t.scale);
      return;
  }
}

}  // namespace mlpfast::cuda
