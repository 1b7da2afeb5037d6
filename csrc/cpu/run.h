// Whole native calls: many training steps, gradients of one batch, evaluation, prediction. They keep no
// state, and but for gradients they return after some seconds, so that the caller can handle signals.
#pragma once
#include "cpu/backend.h"

namespace mlpfast::cpu {

struct TrainingRun {
  int64_t first, rows, batch;  // continues at row `first` of `rows`, in batches
  bool drop_last;
  network::UpdateMode mode;
  double seconds;  // returns after the step during which they ran out
};

struct TrainingResult {
  int64_t next;  // the first row not trained on; the batch that diverged begins there
  bool diverged;
};

template <class T>
TrainingResult train(Job<T>& job, const TrainingRun& run);
template <class T>
void gradients(Job<T>& job, int64_t rows);

/// The first `rows` examples: metrics of labelled examples, or outputs before the loss's link (either may be null).
template <class T>
struct ForwardRun {
  const network::Spec& spec;
  const Examples<T>& examples;
  const T* parameters;
  int64_t rows;
  T* loss;                // [rows]
  std::uint8_t* correct;  // [rows]
  T* outputs;             // [rows, sizes.back()]
  double seconds;         // returns after the rows during which they ran out
};

/// From row `first` on; returns the row to continue from.
template <class T>
int64_t forward(const ForwardRun<T>& run, int64_t first);

}  // namespace mlpfast::cpu
