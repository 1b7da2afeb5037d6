// The backend of network/step.h on a GPU: each call launches kernels into one stream, which orders them; a recording of
// them says what need not wait. Whether a loss is finite is looked at on the device, where the kernels that follow then
// leave the weights alone.
#pragma once
#include <utility>

#include "cuda/elementwise.h"
#include "cuda/workspace.h"
#include "network/step.h"

namespace mlpfast::cuda {

class Backend {
 public:
  struct Job {
    const network::Spec& spec;
    Examples examples;
    const Workspace& arrays;
    float* parameters;
    float* parameter_gradient;  // may be null where no step stores it
    const Update* rule;         // of training; its w is not read
    Control* control;
    cudaStream_t stream;
  };

  explicit Backend(const Job& job) : job_(job), spec_(job.spec), arrays_(job.arrays) {}

  int layers() const { return spec_.layers(); }
  void prepare_weights(const network::Batch&) {}
  void begin(const network::Batch& batch) {
    batch_ = batch;
    taken_ = false;
    second_ = !second_;
  }
  bool next_rows() { return !std::exchange(taken_, true); }
  void load();
  void forward(int l);
  void loss();
  void backward_input(int l);
  /// Always true: kernels that come after a loss that was not finite do nothing.
  bool loss_is_finite() { return true; }
  void prepare_gradients() {
    alone_.clear();
    fork();
  }
  void backward_weights(int l, network::UpdateMode mode);
  void update();
  /// A stream keeps the order anyway.
  void sync() {
    if (Graph* const graph = Graph::recorded()) graph->join();
  }
  void layer_sync() {}

 private:
  /// Whether gradients are wanted.
  bool training() const { return job_.rule || job_.parameter_gradient; }
  /// Whether one kernel does what concerns the last layer: loss() asks for it, its forward() and backward_input() for
  /// nothing.
  bool has_head() const;
  GemmArgs forward_product(int l) const;
  GemmArgs backward_product(int l) const;
  /// Inputs of a layer. Of the first there are two arrays: the next batch comes while the last one is still needed.
  Matrix<float> inputs(int l) const {
    return l == 0 && second_ ? arrays_.other_inputs : arrays_.activation[static_cast<std::size_t>(l)];
  }
  bool weighted() const { return job_.examples.sample_weight || job_.examples.class_weight; }
  Matrix<const float> weights(int l) const { return {job_.parameters + spec_.weights_at(l), spec_.outputs(l)}; }
  Update update_at(int64_t offset) const;
  void multiply(GemmArgs args, Layout layout, const GemmScratch& scratch) const;
  /// What is asked for in branches works at the same time, where it is recorded.
  static void fork() {
    if (Graph* const graph = Graph::recorded()) graph->fork();
  }
  static void branch() {
    if (Graph* const graph = Graph::recorded()) graph->branch();
  }

  const Job& job_;
  const network::Spec& spec_;
  const Workspace& arrays_;
  network::Batch batch_{};
  bool taken_ = false, second_ = true;  // begin() turns to the other array of inputs
  Graph::Nodes counted_;                // the last batch, where it is recorded: the next one may come
  Graph::Nodes alone_;                  // the last product that shares scratch memory with others
};

}  // namespace mlpfast::cuda
