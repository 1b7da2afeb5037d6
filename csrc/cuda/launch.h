// Launching a kernel, in this one place: the tests' host shim has a header of the same name, which runs it on the CPU.
#pragma once
#include <cuda_runtime.h>

#include <tuple>

#include "cuda/device.h"

namespace mlpfast::cuda {

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 blocks, unsigned threads, cudaStream_t stream, const A&... arguments) {
  std::tuple<P...> given(arguments...);  // as the kernel has them
  std::apply(
      [&](auto&... each) {
        void* pointers[] = {&each...};
        cudaKernelNodeParams node{};
        node.func = reinterpret_cast<void*>(kernel);
        node.gridDim = blocks;
        node.blockDim = dim3(threads);
        node.kernelParams = pointers;
        if (Graph* const graph = Graph::recorded()) return graph->add(node);
        check(cudaLaunchKernel(node.func, node.gridDim, node.blockDim, pointers, 0, stream), "launching a kernel");
      },
      given);
}

}  // namespace mlpfast::cuda
