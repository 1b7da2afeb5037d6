// Rows of a user's feature array, of any real dtype, on their way into the network's dtype: y = x - shift.
#pragma once
#include <cstring>

#include "cpu/dispatch.h"

namespace mlpfast::cpu {

/// Where row i of the features lies, and how to read it.
template <class T>
struct Features {
  const char* data;
  int64_t row_bytes, cols;
  void (*load)(const KernelTable<T>&, int64_t n, const char* row, const char* next, double shift, T* y);
  bool bytes;  // 0 .. 255

  static constexpr int64_t line = 64;  // bytes

  /// The beginning of a row that will be read soon; load_row(), copy_row() or the machine itself fetch the rest.
  void prefetch_row(int64_t i) const {
    constexpr int64_t most = 512;  // bytes
    for (int64_t at = 0; at < row_bytes && at < most; at += line) __builtin_prefetch(row(i) + at);
  }
  const char* row(int64_t i) const { return data + i * row_bytes; }
  /// Row i; meanwhile `next`, which will be read soon, is fetched, unless its numbers are single bytes.
  void load_row(const KernelTable<T>& table, int64_t i, int64_t next, double shift, T* y) const {
    load(table, cols, row(i), row(next), shift, y);
  }
  /// The bytes of row i as they are, and the lines of `next` at the same pace.
  void copy_row(int64_t i, int64_t next, std::uint8_t* to) const {
    int64_t j = 0;
    for (; j + line <= cols; j += line) {
      __builtin_prefetch(row(next) + j);
      std::memcpy(to + j, row(i) + j, line);
    }
    std::memcpy(to + j, row(i) + j, static_cast<std::size_t>(cols - j));
  }
  /// The rows where they lie, if loading them would change no number; else null.
  Matrix<const T> in_place(double shift) const;
};

/// The reader of a NumPy dtype of this kind and size, such as u, 1 for uint8; null where there is none.
template <class T>
decltype(Features<T>::load) feature_loader(char kind, int64_t bytes);

}  // namespace mlpfast::cpu
