// Row-wise kernels over whole arrays: activations, their gradients, bias, column sums. Threads share rows, or columns
// where a kernel has them in one row or sums them.
#pragma once
#include "cpu/dispatch.h"

namespace mlpfast::cpu {

// In multiply-adds: a number read and written takes ten, with the exponential of some activations forty.
inline constexpr double work_per_number = 16, work_per_summand = 4;

template <class T>
void forward(ops::Activation activation, const ForwardArgs<T>& args);
template <class T>
void backward(ops::Activation activation, const BackwardArgs<T>& args);
template <class T>
void column_sums(int64_t rows, int64_t cols, Matrix<const T> x, T* sums);

}  // namespace mlpfast::cpu
