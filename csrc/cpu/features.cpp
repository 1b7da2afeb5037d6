#include "cpu/features.h"

#include <cstring>
#include <type_traits>

namespace mlpfast::cpu {
namespace {

/// Numbers that T may not hold are shifted before they are rounded: features may all be far from 0. The lines of `next`
/// are fetched at the same pace: all at once they would keep this row's waiting.
template <class T, class S>
void load(const KernelTable<T>&, int64_t n, const char* row, const char* next, double shift, T* y) {
  constexpr bool fits = sizeof(S) < 4 || std::is_same_v<S, float>;
  using Exact = std::conditional_t<fits, T, double>;
  constexpr int64_t line = 64 / sizeof(S);
  const S* x = reinterpret_cast<const S*>(row);
  const auto part = [&](int64_t first, int64_t count) {
    if constexpr (std::is_same_v<S, T>) {
      if (shift == 0) {
        std::memcpy(y + first, row + first * int64_t(sizeof(S)), static_cast<std::size_t>(count) * sizeof(T));
        return;
      }
    }
    for (int64_t j = first; j < first + count; ++j)
      y[j] = static_cast<T>(static_cast<Exact>(x[j]) - static_cast<Exact>(shift));
  };
  int64_t j = 0;
  for (; j + line <= n; j += line) {
    __builtin_prefetch(next + j * int64_t(sizeof(S)));
    part(j, line);
  }
  part(j, n - j);
}

template <class T>
void load_bytes(const KernelTable<T>& table, int64_t n, const char* row, const char*, double shift, T* y) {
  table.load_uint8(n, reinterpret_cast<const std::uint8_t*>(row), static_cast<T>(shift), y);
}

template <class T>
struct Row {
  char kind;
  int64_t bytes;
  decltype(Features<T>::load) load;
};

template <class T>
constexpr Row<T> loaders[] = {
    {'u', 1, load_bytes<T>},          {'b', 1, load_bytes<T>},          {'i', 1, load<T, std::int8_t>},
    {'i', 2, load<T, std::int16_t>},  {'u', 2, load<T, std::uint16_t>}, {'i', 4, load<T, std::int32_t>},
    {'u', 4, load<T, std::uint32_t>}, {'i', 8, load<T, std::int64_t>},  {'u', 8, load<T, std::uint64_t>},
    {'f', 4, load<T, float>},         {'f', 8, load<T, double>},
};

}  // namespace

template <class T>
decltype(Features<T>::load) feature_loader(char kind, int64_t bytes) {
  for (const Row<T>& row : loaders<T>)
    if (row.kind == kind && row.bytes == bytes) return row.load;
  return nullptr;
}

template <class T>
Matrix<const T> Features<T>::in_place(double shift) const {
  constexpr int64_t size = sizeof(T);
  const auto address = reinterpret_cast<std::intptr_t>(data);
  if (load != cpu::load<T, T> || shift != 0 || address % size != 0 || row_bytes % size != 0) return {};
  return {reinterpret_cast<const T*>(data), row_bytes / size};
}

template Matrix<const float> Features<float>::in_place(double) const;
template Matrix<const double> Features<double>::in_place(double) const;
template decltype(Features<float>::load) feature_loader<float>(char, int64_t);
template decltype(Features<double>::load) feature_loader<double>(char, int64_t);

}  // namespace mlpfast::cpu
