// The training step, evaluation and prediction, written once for every machine. A backend B is one thread's view of a
// CPU team, or a CUDA stream. On the CPU each thread takes rows of the batch, one lot after the other, until none are
// left. Where rows are too few, threads share columns instead and layer_sync() is a barrier. Where a product takes its
// operands in another form, prepare_weights() and prepare_gradients() make it, and meet.
#pragma once
#include "network/spec.h"

namespace mlpfast::network {

/// Rows of the epoch's order, or as they lie where there is none.
struct Batch {
  std::int64_t first, rows;
};

/// What a machine does for a step.
template <class B>
concept Backend = requires(B b, const Batch& batch, int l, UpdateMode mode) {
  static_cast<int>(b.layers());
  b.prepare_weights(batch);               // brings weights into the forms that products take them in
  b.begin(batch);                         // no lot is taken yet; all rows may go through the first layer here
  static_cast<bool>(b.next_rows());       // takes the next lot; false where none is left
  b.load();                               // its features and labels, if begin() has not
  b.forward(l);                           // outputs of layer l, if begin() has not made them
  b.loss();                               // and its gradient, where one is wanted
  b.backward_input(l);                    // gradient of the outputs of the layer before
  static_cast<bool>(b.loss_is_finite());  // of the whole batch
  b.prepare_gradients();                  // as prepare_weights()
  b.backward_weights(l, mode);            // of weights and biases
  b.update();                             // by the stored gradients
  b.sync();                               // what was asked before is done for what is asked after
  b.layer_sync();                         // the same, where layers are shared
};

/// Takes a batch through all layers, some rows at a time; finish() follows each lot.
template <Backend B, class Finish>
void forward_pass(B& b, const Batch& batch, const Finish& finish) {
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
template <Backend B>
void loss_pass(B& b, const Batch& batch) {
  b.prepare_weights(batch);
  forward_pass(b, batch, [&] {
    b.loss();
    for (int l = b.layers() - 1; l > 0; --l) {
      b.layer_sync();
      b.backward_input(l);
    }
  });
  b.sync();
}

template <Backend B>
void weight_pass(B& b, UpdateMode mode) {
  b.prepare_gradients();
  for (int l = 0; l < b.layers(); ++l) b.backward_weights(l, mode);
}

/// One optimizer step; false, and no weight touched, where the loss is not finite.
template <Backend B>
bool train_step(B& b, const Batch& batch, UpdateMode mode) {
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
template <Backend B>
void gradients(B& b, const Batch& batch) {
  loss_pass(b, batch);
  weight_pass(b, UpdateMode::store);
  b.sync();
}

template <Backend B>
void evaluate(B& b, const Batch& batch) {
  forward_pass(b, batch, [&] { b.loss(); });
  b.sync();
}

template <Backend B>
void predict(B& b, const Batch& batch) {
  forward_pass(b, batch, [] {});
  b.sync();
}

}  // namespace mlpfast::network
