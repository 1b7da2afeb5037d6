#include "cpu/features.h"

#include <cstring>
#include <type_traits>

namespace mlpfast::cpu {
namespace {

template <class T, class S>
void load(const KernelTable<T>&, int64_t n, const char* row, T shift, T* y) {
  if constexpr (std::is_same_v<S, T>) {
    if (shift == 0) {
      std::memcpy(y, row, static_cast<std::size_t>(n) * sizeof(T));
      return;
    }
  }
  const S* x = reinterpret_cast<const S*>(row);
  for (int64_t j = 0; j < n; ++j) y[j] = static_cast<T>(x[j]) - shift;
}

template <class T>
void load_bytes(const KernelTable<T>& table, int64_t n, const char* row, T shift, T* y) {
  table.load_uint8(n, reinterpret_cast<const std::uint8_t*>(row), shift, y);
}

template <class T>
struct Row {
  const char* dtype;
  decltype(Features<T>::load) load;
};

template <class T>
constexpr Row<T> loaders[] = {
    {"uint8", load_bytes<T>},           {"bool", load_bytes<T>},
    {"int8", load<T, std::int8_t>},     {"int16", load<T, std::int16_t>},
    {"uint16", load<T, std::uint16_t>}, {"int32", load<T, std::int32_t>},
    {"uint32", load<T, std::uint32_t>}, {"int64", load<T, std::int64_t>},
    {"uint64", load<T, std::uint64_t>}, {"float32", load<T, float>},
    {"float64", load<T, double>},
};

}  // namespace

template <class T>
decltype(Features<T>::load) feature_loader(const char* dtype) {
  for (const Row<T>& row : loaders<T>)
    if (std::strcmp(row.dtype, dtype) == 0) return row.load;
  return nullptr;
}

template decltype(Features<float>::load) feature_loader<float>(const char*);
template decltype(Features<double>::load) feature_loader<double>(const char*);

}  // namespace mlpfast::cpu
