#include "cpu/workspace.h"

#include <sys/mman.h>

#include <algorithm>

#include "cpu/bytes.h"
#include "cpu/tiles.h"

namespace mlpfast::cpu {
namespace {

/// Hands out pieces of a block, or only counts where there is none; every piece starts on a cache line.
template <class T>
struct Carver {
  T* block;
  int64_t used = 0;

  template <class U>
  U* take(int64_t n) {
    constexpr int64_t line = 64 / sizeof(T);
    U* piece = block ? reinterpret_cast<U*>(block + used) : nullptr;
    used += (n * int64_t(sizeof(U)) / int64_t(sizeof(T)) + line) / line * line;
    return piece;
  }
  Matrix<T> matrix(int64_t rows, int64_t cols) {
    const int64_t ld = pitch<T>(cols);
    return {take<T>(rows * ld), ld};
  }
};

int64_t image_bytes(int64_t outer, int64_t k, int parts) { return parts ? SplitImage::bytes(outer, k, parts) : 0; }

/// Fewer rows, or weights, are not read often enough for a copy.
constexpr int64_t least_rows = 96, least_weights = 1 << 14;

template <class T>
int64_t carve(const network::Spec& spec, int64_t batch, Purpose purpose, T* block, Workspace<T>& work) {
  const bool training = purpose == Purpose::training;
  Carver<T> carver{block};
  for (int l = 0; l <= spec.layers(); ++l) {
    const int64_t width = spec.sizes[static_cast<std::size_t>(l)];
    work.activation.push_back(carver.matrix(batch, width));
    work.saved.push_back(l > 0 && spec.saves_input(l - 1) ? carver.matrix(batch, width) : work.activation.back());
    // The logits' gradient takes the logits' place.
    const bool apart = training && l > 0 && l < spec.layers();
    work.gradient.push_back(apart ? carver.matrix(batch, width) : work.activation.back());
  }
  work.loss = carver.template take<T>(batch);
  work.row_weight = carver.template take<T>(batch);
  work.label = carver.template take<std::int32_t>(batch);
  work.correct = carver.template take<std::uint8_t>(batch);
  for (int l = 0; l < spec.layers(); ++l) {
    const int64_t m = spec.inputs(l), n = spec.outputs(l);
    const int forward = parts_of<T>(spec, batch, n, m), turned = training && l > 0 ? parts_of<T>(spec, batch, m, n) : 0,
              gradient = training ? parts_of<T>(spec, m, n, batch) : 0;
    const auto take = [&](int64_t size) -> void* { return size ? carver.template take<char>(size) : nullptr; };
    LayerImages images{};
    if (l == 0 && takes_bytes<T>(spec, batch, training)) {
      images.x = take(std::max(image_bytes(batch, m, forward), ByteRows::plain_bytes(batch, m)));
      if (training) images.x_turned = take(std::max(image_bytes(m, batch, gradient), ByteRows::turned_bytes(m, batch)));
      const int64_t backward = training ? digit_bytes(n, batch, max_threads) : 0;
      images.digits = take(std::max(digit_bytes(n, m, max_threads), backward));
    } else {
      images.x = take(image_bytes(batch, m, forward));
      images.x_turned = take(image_bytes(m, batch, gradient));
    }
    images.dy = take(std::max(image_bytes(batch, n, turned), image_bytes(n, batch, gradient)));
    images.weights = take(image_bytes(n, m, forward));
    images.weights_turned = take(image_bytes(m, n, turned));
    work.images.push_back(images);
    const bool by_fma = !forward && !(l == 0 && takes_bytes<T>(spec, batch, training)),
               by_fma_turned = training && l > 0 && !turned;
    const bool much = fits_cache<T>(spec) && batch >= least_rows && m * n >= least_weights;
    const bool copied = much && by_fma && lies_badly<T>(static_cast<std::uintptr_t>(spec.weights_at(l)) * sizeof(T), n);
    work.weights.push_back(copied ? carver.matrix(m, n) : Matrix<T>{});
    work.weights_turned.push_back(much && by_fma_turned ? carver.matrix(n, m) : Matrix<T>{});
  }
  return carver.used;
}

}  // namespace

template <class T>
int parts_of(const network::Spec& spec, int64_t m, int64_t n, int64_t k) {
  return sizeof(T) == sizeof(float) ? tile_parts(m, n, k, spec.precision) : 0;
}

template <class T>
bool takes_bytes(const network::Spec& spec, int64_t rows, bool training) {
  const int64_t k = spec.inputs(0), n = spec.outputs(0);
  return sizeof(T) == sizeof(float) && takes_bytes(rows, n, k, spec.precision) &&
         (!training || takes_bytes(k, n, rows, spec.precision));
}

/// A large block starts on a huge page.
template <class T>
int64_t alignment(int64_t size) {
  constexpr int64_t line = 64, huge_page = 2 << 20;
  return size * int64_t(sizeof(T)) >= huge_page ? huge_page : line;
}

template <class T>
int64_t Workspace<T>::size(const network::Spec& spec, int64_t batch, Purpose purpose) {
  Workspace counted;
  const int64_t size = carve<T>(spec, batch, purpose, nullptr, counted);
  return size + alignment<T>(size) / int64_t(sizeof(T));
}

template <class T>
Workspace<T>::Workspace(const network::Spec& spec, int64_t batch, Purpose purpose, T* block) {
  Workspace counted;
  const int64_t size = carve<T>(spec, batch, purpose, nullptr, counted), unit = alignment<T>(size);
  T* const start = reinterpret_cast<T*>((reinterpret_cast<std::intptr_t>(block) + unit - 1) / unit * unit);
  if (unit > 64) madvise(start, static_cast<std::size_t>(size) * sizeof(T), MADV_HUGEPAGE);
  carve(spec, batch, purpose, start, *this);
}

template int parts_of<float>(const network::Spec&, int64_t, int64_t, int64_t);
template bool takes_bytes<float>(const network::Spec&, int64_t, bool);
template class Workspace<float>;
template int parts_of<double>(const network::Spec&, int64_t, int64_t, int64_t);
template bool takes_bytes<double>(const network::Spec&, int64_t, bool);
template class Workspace<double>;

}  // namespace mlpfast::cpu
