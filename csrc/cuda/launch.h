// Launching a kernel, in this one place: the tests' host shim has a header of the same name, which runs it on the CPU.
#pragma once
#include <cuda_runtime.h>

#include "cuda/device.h"

namespace mlpfast::cuda {

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 blocks, unsigned threads, cudaStream_t stream, const A&... arguments) {
  cudaLaunchConfig_t how{};
  how.gridDim = blocks;
  how.blockDim = dim3(threads);
  how.stream = stream;
  check(cudaLaunchKernelEx(&how, kernel, arguments...), "launching a kernel");
}

}  // namespace mlpfast::cuda
