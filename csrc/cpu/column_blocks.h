// The first layer's weights, and what the optimizer keeps for them, in blocks of columns: one for each member of a
// team, in memory of its own for the length of a native call. In the array a row of one member's columns ends where
// another's begins, and what one core writes the other's prefetches fetch: each write then waits for the other core.
#pragma once
#include <algorithm>

#include "cpu/gemm.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {

template <class T>
class ColumnBlocks {
 public:
  static constexpr int arrays = 1 + ops::max_slots;

  ColumnBlocks() = default;
  ColumnBlocks(T* memory, int64_t rows, int64_t cols, int members)
      : memory_(memory), rows_(rows), cols_(cols), width_(width(cols, members)) {}
  /// Numbers of memory, for any number of members.
  static int64_t size(int64_t rows, int64_t cols) {
    int64_t most = 0;
    for (int members = 1; members <= std::min<int64_t>(max_threads, ceil_div(cols, line)); ++members) {
      const int64_t wide = width(cols, members);
      most = std::max(most, ceil_div(cols, wide) * pitch<T>(wide));
    }
    return arrays * rows * most;
  }
  static int64_t width(int64_t cols, int members) { return round_up(ceil_div(cols, members), line); }

  explicit operator bool() const { return memory_ != nullptr; }
  int64_t width() const { return width_; }
  /// Of the whole array, those of a member; it may have none.
  Range cols(int member) const { return {std::min(cols_, member * width_), std::min(cols_, (member + 1) * width_)}; }
  /// Of the weights (array 0) or a slot (from 1 on): what begins at row i and column j, and ends with j's block. A
  /// member without columns must not look there.
  Matrix<T> at(int array, int64_t i, int64_t j) const {
    const int64_t ld = pitch<T>(width_), block = j / width_;
    return Matrix<T>{memory_ + (block * arrays + array) * rows_ * ld, ld}.at(i, j % width_);
  }

 private:
  static constexpr int64_t line = 64 / sizeof(T);  // of cache: no two members write to one

  T* memory_ = nullptr;
  int64_t rows_ = 0, cols_ = 0, width_ = 1;
};

}  // namespace mlpfast::cpu
