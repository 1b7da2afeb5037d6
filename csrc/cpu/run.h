// Whole native calls: many training steps, gradients of one batch, evaluation, prediction. They allocate nothing that
// outlives them, and let go of the CPU every so often so that the caller can look after signals.
#pragma once
#include "cpu/backend.h"

namespace mlpfast::cpu {

struct TrainingRun {
  int64_t first, rows, batch;  // continues at row `first` of `rows`, in batches
  bool drop_last;
  network::UpdateMode mode;
  double seconds;  // returns after the step that passes this time
};

struct TrainingResult {
  int64_t next;  // the first row not trained on; the batch that diverged begins there
  bool diverged;
};

template <class T>
TrainingResult train(typename Backend<T>::Job& job, const TrainingRun& run);
template <class T>
void gradients(typename Backend<T>::Job& job, int64_t rows);

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
};

template <class T>
void forward(const ForwardRun<T>& run);

/// Members of a team for batches of this size.
int step_threads(const network::Spec& spec, int64_t batch);

}  // namespace mlpfast::cpu
