// In place of csrc/cuda/launch.h: runs the kernel on the CPU, at once or when the recording is launched.
#pragma once
#include "cuda/device.h"

namespace mlpfast::cuda {
template <class... P, class... A>
void launch(void (*kernel)(P...), Grid grid, cudaStream_t stream, const A&... arguments) {
  const auto device = static_cast<char*>(stream) - shim::streams;
  if (device >= 0 && device != current_device()) throw std::logic_error("a stream of another device");
  const shim::Step run = [=] { shim::run(grid.blocks, grid.threads, grid.shared, [&] { kernel(arguments...); }); };
  if (Graph* const graph = Graph::recorded()) return graph->add(run);
  run();
}
}  // namespace mlpfast::cuda
