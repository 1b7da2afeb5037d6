// The training step, evaluation and prediction, written once for every machine. A backend B is one thread's view of a
// CPU team, or a CUDA stream. On the CPU each thread takes rows of the batch, one lot after the other, until none are
// left. Where rows are too few, threads share columns instead and layer_sync() is a barrier. Where a product takes its
// operands in another form, split_weights() and split_gradients() make it, and meet.
#pragma once
#include "network/spec.h"

namespace mlpfast::network {

/// Takes a batch through all layers, some rows at a time; finish() follows each lot.
template <class B, class Finish>
void forward_pass(B& b, const typename B::Batch& batch, const Finish& finish) {
  b.begin(batch);
  while (b.next_rows()) {
    b.load();
    for (int l = 0; l < b.layers(); ++l) {
      b.layer_sync();
      b.forward(l);
    }
    b.layer_sync();
    finish();
  }
}

/// Loss, and its gradient with respect to every layer's outputs.
template <class B>
void loss_pass(B& b, const typename B::Batch& batch) {
  b.split_weights(batch);
  forward_pass(b, batch, [&] {
    b.loss();
    for (int l = b.layers() - 1; l > 0; --l) {
      b.layer_sync();
      b.backward_input(l);
    }
  });
  b.sync();
}

template <class B>
void weight_pass(B& b, UpdateMode mode) {
  b.split_gradients();
  for (int l = 0; l < b.layers(); ++l) b.backward_weights(l, mode);
}

/// One optimizer step; false, and no weight touched, where the loss is not finite.
template <class B>
bool train_step(B& b, const typename B::Batch& batch, UpdateMode mode) {
  loss_pass(b, batch);
  if (!b.loss_is_finite()) return false;
  weight_pass(b, mode);
  if (mode == UpdateMode::store) {
    b.sync();
    b.update();
  }
  b.sync();
  return true;
}

/// Loss and the stored gradients of all parameters.
template <class B>
void gradients(B& b, const typename B::Batch& batch) {
  loss_pass(b, batch);
  weight_pass(b, UpdateMode::store);
  b.sync();
}

template <class B>
void evaluate(B& b, const typename B::Batch& batch) {
  forward_pass(b, batch, [&] { b.loss(); });
  b.sync();
}

template <class B>
void predict(B& b, const typename B::Batch& batch) {
  forward_pass(b, batch, [] {});
  b.sync();
}

}  // namespace mlpfast::network
