// The arrays of one batch on the device: inputs and outputs of each layer, their gradients, and what products take.
#pragma once
#include <vector>

#include "cuda/gemm.h"
#include "network/spec.h"

namespace mlpfast::cuda {

/// They have no memory before place(). The spec must outlive it.
class Workspace {
 public:
  /// Training needs gradients of activations; a recorded one brings a batch while the last one is still needed.
  Workspace(const network::Spec& spec, int64_t batch, bool training, bool recorded);
  /// Numbers needed.
  int64_t size() const { return size_; }
  /// Carves the arrays from a block of size() numbers.
  void place(float* block) { carve(block); }

  std::vector<Matrix<float>> activation;  // [layers + 1]: inputs, outputs of each layer
  Matrix<float> other_inputs;             // of every second batch of a recorded training, else the same
  std::vector<Matrix<float>> saved;       // [layers + 1]: what the backward pass of the layer before reads
  std::vector<Matrix<float>> gradient;    // [layers + 1]: with respect to activation
  float* loss;                            // [batch]
  float* row_weight;                      // [batch]
  std::int32_t* label;                    // [batch]
  std::uint8_t* correct;                  // [batch]
  GemmScratch scratch;                    // of a product of the batch's rows
  // [layers]: of the gradients of weights, and of biases, all of which may be computed at the same time, but for
  // products on tensor cores, each of which fills a GPU: they have the same `parts`
  std::vector<GemmScratch> of_weights, of_biases;

 private:
  int64_t carve(float* block);

  const network::Spec& spec_;
  int64_t batch_;
  bool training_, recorded_;
  int64_t size_;
};

}  // namespace mlpfast::cuda
