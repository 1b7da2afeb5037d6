// What a network is, as plain data: layer l maps sizes[l] inputs to sizes[l + 1] outputs by a weight matrix [in, out]
// and a bias [out]. All parameters lie in one flat array: w1, b1, w2, b2, ...
#pragma once
#include <cstdint>
#include <vector>

#include "ops/activation.h"

namespace mlpfast::network {

/// Accuracy levels of a matrix product of float32, the strictest first.
enum class Precision { ieee, highest, high, medium };
inline constexpr const char* precisions[] = {"ieee", "highest", "high", "medium"};

/// Whether gradients are applied tile by tile as they are computed, or stored first. Both give the same bits.
enum class UpdateMode { fused, store };

struct Spec {
  std::vector<std::int64_t> sizes;
  std::vector<ops::Activation> activations;  // of the hidden layers; the last layer's outputs go to the loss
  std::vector<double> alphas;                // their parameters, 0 where they have none
  double input_scale, input_shift;           // the network sees (x - shift) * scale
  Precision precision;

  int layers() const { return static_cast<int>(sizes.size()) - 1; }
  std::int64_t inputs(int l) const { return sizes[static_cast<std::size_t>(l)]; }
  std::int64_t outputs(int l) const { return sizes[static_cast<std::size_t>(l) + 1]; }
  bool last(int l) const { return l + 1 == layers(); }
  ops::Activation activation(int l) const {
    return last(l) ? ops::Activation::identity : activations[static_cast<std::size_t>(l)];
  }
  double scale(int l) const { return l == 0 ? input_scale : 1; }
  double alpha(int l) const { return last(l) ? 0 : alphas[static_cast<std::size_t>(l)]; }
  bool saves_input(int l) const { return ops::activations[static_cast<int>(activation(l))].saves == ops::Saves::input; }

  std::int64_t weights_at(int l) const {
    std::int64_t offset = 0;
    for (int i = 0; i < l; ++i) offset += (inputs(i) + 1) * outputs(i);
    return offset;
  }
  std::int64_t bias_at(int l) const { return weights_at(l) + inputs(l) * outputs(l); }
  std::int64_t parameters() const { return weights_at(layers()); }
};

}  // namespace mlpfast::network
