// Row-wise kernels over whole arrays: activations, their gradients, bias, column sums. Threads share rows, or columns
// where a kernel has them in one row or sums them.
#pragma once
#include "cpu/dispatch.h"

namespace mlpfast::cpu {

inline constexpr double work_per_number = 4;  // a number moved costs about as much as four multiply-adds

template <class T>
void forward(ops::Activation activation, const ForwardArgs<T>& args);
template <class T>
void backward(ops::Activation activation, const BackwardArgs<T>& args);
template <class T>
void column_sums(int64_t rows, int64_t cols, Matrix<const T> x, T* sums);

}  // namespace mlpfast::cpu
