#include "cuda/workspace.h"

#include <algorithm>

#include "cuda/elementwise.h"
#include "cuda/tensor.h"

namespace mlpfast::cuda {
namespace {

int64_t pitch(int64_t cols) { return (cols + 31) / 32 * 32; }

/// Hands out pieces of a block, or only counts where there is none.
struct Carver {
  float* block;
  int64_t used = 0;

  float* take(int64_t numbers) {
    float* const piece = block ? block + used : nullptr;
    used += pitch(numbers);
    return piece;
  }
  Matrix<float> matrix(int64_t rows, int64_t ld) { return {take(rows * ld), ld}; }
};

}  // namespace

Workspace::Workspace(const network::Spec& spec, int64_t batch, bool training, bool recorded)
    : spec_(spec), batch_(batch), training_(training), recorded_(recorded), size_(carve(nullptr)) {}

int64_t Workspace::carve(float* block) {
  Carver carver{block};
  for (auto* places : {&activation, &saved, &gradient}) places->resize(spec_.sizes.size());
  for (int l = 0; l <= spec_.layers(); ++l) {
    const auto at = static_cast<std::size_t>(l);
    const int64_t width = spec_.sizes[at];
    const int64_t ld = l < spec_.layers() ? pitch(width) : width;  // outputs lie as the caller gets them
    const Matrix<float> y = activation[at] = carver.matrix(batch_, ld);
    saved[at] = l > 0 && spec_.saves_input(l - 1) ? carver.matrix(batch_, ld) : y;
    // The logits' gradient takes the logits' place.
    gradient[at] = training_ && l > 0 && l < spec_.layers() ? carver.matrix(batch_, ld) : y;
  }
  other_inputs = recorded_ ? carver.matrix(batch_, activation[0].ld) : activation[0];
  loss = carver.take(batch_);
  row_weight = carver.take(batch_);
  label = reinterpret_cast<std::int32_t*>(carver.take(batch_));
  correct = reinterpret_cast<std::uint8_t*>(carver.take(batch_));
  const auto layers = static_cast<std::size_t>(spec_.layers());
  of_weights.resize(training_ ? layers : 0);
  of_biases.resize(training_ ? layers : 0);
  const auto room = [&](int64_t parts, int64_t partial) {
    char* const images = parts > 0 ? reinterpret_cast<char*>(carver.take(parts / int64_t(sizeof(float)))) : nullptr;
    return GemmScratch{images, carver.take(partial),
                       partial > 0 ? reinterpret_cast<unsigned*>(carver.take(most_tiles)) : nullptr};
  };
  const auto parts_of = [&](int64_t m, int64_t n, int64_t k) {
    return tensor_bytes(m, n, k, plan_gemm(m, n, k, spec_.precision).parts);
  };
  // A smaller last batch may be sliced where this one is not.
  const auto sliced = [&](int64_t k) { return most_slices(k, spec_.precision) > 1 ? most_partial : 0; };
  int64_t parts = 0, partial = 0, of_gradients = 0;
  for (int l = 0; l < spec_.layers(); ++l) {
    const int64_t in = spec_.inputs(l), out = spec_.outputs(l);
    parts = std::max({parts, parts_of(batch_, out, in), training_ && l > 0 ? parts_of(batch_, in, out) : 0});
    partial = std::max({partial, sliced(in), sliced(out)});
    if (!training_) continue;
    of_gradients = std::max(of_gradients, parts_of(in, out, batch_));
    of_weights[static_cast<std::size_t>(l)] = room(0, sliced(batch_));
    of_biases[static_cast<std::size_t>(l)] = room(0, bias_partial(batch_, out));
  }
  scratch = room(parts, partial);
  char* const shared = room(of_gradients, 0).parts;
  for (int l = 0; training_ && l < spec_.layers(); ++l)
    if (parts_of(spec_.inputs(l), spec_.outputs(l), batch_) > 0) of_weights[static_cast<std::size_t>(l)].parts = shared;
  return carver.used;
}

}  // namespace mlpfast::cuda
