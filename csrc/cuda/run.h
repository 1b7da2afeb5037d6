// Whole native calls on a GPU, as cpu/run.h has them on a CPU. A session keeps on the device what several calls need:
// the examples, and arrays for one batch. The parameters stay the caller's: each call brings and fetches them.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "network/metrics.h"
#include "network/spec.h"
#include "ops/optimizer.h"
#include "ops/random.h"

namespace mlpfast::cuda {

using std::int64_t;

/// Examples row by row without gaps, in the host's memory; the features may lie on the device, ready on the legacy
/// default stream. The null ones are not given.
struct GivenExamples {
  const void* features;
  bool bytes;  // or float32
  bool on_device;
  int64_t rows;
  const std::int32_t* labels;
  const float* sample_weight;
  const float* class_weight;

  int64_t bytes_of_a_feature() const { return bytes ? 1 : sizeof(float); }
};

/// Parameters and slots are read, and written with what training made of them, at the end.
struct TrainingRun {
  int64_t first, batch;  // continues at row `first`, in batches
  bool drop_last;
  network::UpdateMode mode;
  double seconds;                 // after each so many, or soon after,
  std::function<bool()> goes_on;  // is asked; where it says no, the run returns
  bool shuffled;                  // else in the order of the rows
  ops::Shuffle shuffle{1, 0, 0};
  ops::UpdateRule<float> rule;
  float* parameters;
  network::Metrics metrics;  // of the epoch's rows before
};

struct TrainingResult {
  int64_t next;  // the first row not trained on; the batch that diverged begins there
  bool diverged;
  network::Metrics metrics;
};

class Session {
 public:
  /// For batches of up to so many rows; `training` for gradients too. The examples must outlive it: what of them does
  /// not fit the device, or is needed once, comes chunk by chunk. Throws Error where the device cannot.
  Session(const network::Spec& spec, const GivenExamples& examples, int64_t batch, bool training);
  ~Session();

  int64_t rows() const;
  int64_t batch() const;
  /// The spec may have another scale and shift of the inputs than before.
  TrainingResult train(const network::Spec& spec, const TrainingRun& run);
  /// The gradient of all rows as one batch; of each row the loss, and whether it is predicted.
  void gradients(const float* parameters, float* gradient, float* loss, std::uint8_t* correct);
  void evaluate(const float* parameters, float* loss, std::uint8_t* correct);
  /// Of each row the outputs before the loss's link; `outputs` may lie on the device.
  void predict(const float* parameters, float* outputs);

 private:
  struct State;
  void train_resident(const TrainingRun& run, int64_t end);
  void train_fed(const TrainingRun& run, int64_t end);
  bool goes_on(const TrainingRun& run);
  bool train_steps(const TrainingRun& run, int64_t steps);
  void keep_pace(const TrainingRun& run, double seconds);
  template <class Pass>
  void in_chunks(const float* parameters, const Pass& pass);
  std::unique_ptr<State> state_;
};

/// Rows that are evaluated or predicted at a time.
int64_t chunk_rows(const network::Spec& spec);

}  // namespace mlpfast::cuda
