// The last layer of a small network in training: its outputs, their loss, and the gradients of outputs and inputs. All
// of it concerns single rows, so one kernel does it, where three would wait for each other.
#pragma once
#include "cuda/softmax_xent.h"

namespace mlpfast::cuda {

/// Of the kinds Finish::forward and Finish::backward_input; backward.m is 0 where there is no layer before.
struct HeadArgs {
  GemmArgs forward;
  CrossEntropyArgs loss;
  GemmArgs backward;
};

/// Whether weights of so many inputs and outputs, and some rows, lie in a block's shared memory.
bool head_fits(int64_t inputs, int64_t outputs);

/// With head_fits().
void head(const HeadArgs& args, cudaStream_t stream);

}  // namespace mlpfast::cuda
