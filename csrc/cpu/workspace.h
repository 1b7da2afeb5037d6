// The arrays of one batch: inputs and outputs of each layer, their gradients, and the images of split operands.
#pragma once
#include <vector>

#include "cpu/gemm.h"
#include "network/spec.h"

namespace mlpfast::cpu {

/// Parts that a product's operands are split into, 0 where FMAs compute it.
template <class T>
int parts_of(const network::Spec& spec, int64_t m, int64_t n, int64_t k);

/// Whether uint8 features go through the first layer as bytes.
template <class T>
bool first_layer_takes_bytes(const network::Spec& spec, int64_t rows, bool training);

/// Whether all weights stay in a core's L2.
template <class T>
bool fits_cache(const network::Spec& spec) {
  return spec.parameters() * int64_t(sizeof(T)) <= 1 << 20;
}

/// Outputs of a layer from which its update may wait for the next example. With fewer, a product keeps its sums in
/// registers, which is faster than one pass over the weights.
inline constexpr int64_t waiting_cols = 64;

/// Memory for the split operands of a layer's products, none where FMAs compute them.
struct LayerImages {
  void *x_turned, *dy_turned;      // for the gradient of the weights; features may be bytes
  void *weights, *weights_turned;  // for the outputs, for the gradient of the inputs
  void* digits;                    // of the numbers that bytes are multiplied by
};

/// Training needs gradients of activations.
enum class Purpose { training, evaluation };

/// Arrays for one batch; they have no memory before place(). The spec must outlive it.
template <class T>
class Workspace {
 public:
  Workspace(const network::Spec& spec, int64_t batch, Purpose purpose);
  /// Numbers needed.
  int64_t size() const;
  /// Carves the arrays from a block of size() numbers.
  void place(T* block);

  std::vector<Matrix<T>> activation;  // [layers + 1]: inputs, outputs of each layer
  std::vector<Matrix<T>> saved;       // [layers + 1]: what the backward pass of the layer before reads
  std::vector<Matrix<T>> gradient;    // [layers + 1]: with respect to activation
  std::vector<T*> previous;           // [layers]: inputs of the example before, whose update waits
  T* sums = nullptr;                  // of a row of any layer
  T* blocks = nullptr;                // for Backend::own_columns(), where it pays
  T* passes = nullptr;                // [parameters]: sums of weights' gradients that take more passes than one
  T* loss;                            // [batch]
  T* row_weight;                      // [batch]
  std::int32_t* label;                // [batch]
  std::uint8_t* correct;              // [batch]
  void* rows;                         // image of the rows that a product is about to take; features may be bytes
  std::vector<LayerImages> images;    // [layers]
  // [layers]: copies of the weights for FMAs, null where these read them as they lie
  std::vector<Matrix<T>> weights, weights_turned;

 private:
  struct Carver;

  int64_t carve(T* block);
  /// The memory that a layer's products take besides; bytes for its rows.
  int64_t carve_operands(int l, Carver& carver);

  const network::Spec& spec_;
  int64_t batch_;
  Purpose purpose_;
  int64_t used_ = 0;
};

}  // namespace mlpfast::cpu
