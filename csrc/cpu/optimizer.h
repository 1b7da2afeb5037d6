// One optimizer step over a flat parameter array; threads share its length.
#pragma once
#include "cpu/dispatch.h"

namespace mlpfast::cpu {

inline constexpr double work_per_parameter = 12;  // in multiply-adds

template <class T>
void update(ops::Optimizer optimizer, const UpdateArgs<T>& args);

/// Columns first .. of a one-row update.
template <class T>
UpdateArgs<T> columns_of(UpdateArgs<T> args, int64_t first, int64_t cols) {
  args.cols = cols;
  args.dw.data += first;
  args.w.data += first;
  for (T*& slot : args.slots)
    if (slot) slot += first;
  return args;
}

}  // namespace mlpfast::cpu
