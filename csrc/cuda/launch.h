// Launching a kernel, in this one place: the tests' host shim has a header of the same name, which runs it on the CPU.
#pragma once
#include <cuda_runtime.h>

#include <tuple>

#include "cuda/device.h"

namespace mlpfast::cuda {

template <class... P, class... A>
void launch(void (*kernel)(P...), Grid grid, cudaStream_t stream, const A&... arguments) {
  std::tuple<P...> given(arguments...);  // as the kernel has them
  std::apply(
      [&](auto&... each) {
        void* pointers[] = {&each...};
        cudaKernelNodeParams node{};
        node.func = reinterpret_cast<void*>(kernel);
        node.gridDim = dim3(static_cast<unsigned>(grid.blocks));
        node.blockDim = dim3(static_cast<unsigned>(grid.threads));
        node.sharedMemBytes = static_cast<unsigned>(grid.shared);
        node.kernelParams = pointers;
        constexpr int unasked = 48 << 10;
        if (grid.shared > unasked) {
          const WhileCapturing allowed;
          check(cudaFuncSetAttribute(node.func, cudaFuncAttributeMaxDynamicSharedMemorySize, grid.shared),
                "asking for shared memory");
        }
        if (Graph* const graph = Graph::recorded()) return graph->add(node);
        check(cudaLaunchKernel(node.func, node.gridDim, node.blockDim, pointers, node.sharedMemBytes, stream),
              "launching a kernel");
      },
      given);
}

}  // namespace mlpfast::cuda
