#include "cpu/workspace.h"

#include <sys/mman.h>

#include <algorithm>

#include "cpu/bytes.h"
#include "cpu/column_blocks.h"
#include "cpu/thread_count.h"
#include "cpu/tiles.h"

namespace mlpfast::cpu {

/// Hands out pieces of a block, or only counts where there is none; every piece starts on a cache line.
template <class T>
struct Workspace<T>::Carver {
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

namespace {

int64_t image_bytes(int64_t outer, int64_t k, int parts) { return parts ? SplitImage::bytes(outer, k, parts) : 0; }

/// Fewer rows, or weights, are not read often enough for a copy.
constexpr int64_t least_rows = 96, least_weights = 1 << 14;

}  // namespace

template <class T>
int parts_of(const network::Spec& spec, int64_t m, int64_t n, int64_t k) {
  return sizeof(T) == sizeof(float) ? tile_parts(m, n, k, spec.precision) : 0;
}

template <class T>
bool first_layer_takes_bytes(const network::Spec& spec, int64_t rows, bool training) {
  const int64_t k = spec.inputs(0), n = spec.outputs(0);
  return sizeof(T) == sizeof(float) && bytes_pay(rows, n, k, spec.precision) &&
         (!training || bytes_pay(k, n, rows, spec.precision));
}

/// Whether members should own columns of the first layer's weights: of few enough to be moved there and back in a
/// fraction of a call, for few enough rows, which all members read. Products on tiles have images of the weights.
template <class T>
bool blocks_pay(const network::Spec& spec, int64_t batch) {
  const int64_t m = spec.inputs(0), n = spec.outputs(0), most_bytes = batch == 1 ? 16 << 20 : 4 << 20,
                most_rows = fits_cache<T>(spec) ? n : 2 * n;
  const bool tiles =
      parts_of<T>(spec, batch, n, m) || parts_of<T>(spec, m, n, batch) || first_layer_takes_bytes<T>(spec, batch, true);
  return n >= waiting_cols && m * n * int64_t(sizeof(T)) <= most_bytes && batch <= most_rows && !tiles;
}

/// Bytes that a block of so many numbers starts and ends at multiples of: a large one lies in huge pages.
template <class T>
int64_t alignment(int64_t size) {
  constexpr int64_t line = 64, huge_page = 2 << 20;
  return size * int64_t(sizeof(T)) >= huge_page ? huge_page : line;
}

template <class T>
Workspace<T>::Workspace(const network::Spec& spec, int64_t batch, Purpose purpose)
    : spec_(spec), batch_(batch), purpose_(purpose) {
  used_ = carve(nullptr);
}

template <class T>
int64_t Workspace<T>::size() const {
  const int64_t unit = alignment<T>(used_) / int64_t(sizeof(T));
  return round_up(used_, unit) + unit;
}

template <class T>
void Workspace<T>::place(T* block) {
  const int64_t unit = alignment<T>(used_);
  T* const start = reinterpret_cast<T*>(round_up(reinterpret_cast<std::intptr_t>(block), unit));
  if (unit > 64) madvise(start, static_cast<std::size_t>(round_up(used_ * int64_t(sizeof(T)), unit)), MADV_HUGEPAGE);
  carve(start);
}

template <class T>
int64_t Workspace<T>::carve(T* block) {
  Carver carver{block};
  const auto layers = static_cast<std::size_t>(spec_.layers());
  for (auto* places : {&activation, &saved, &gradient}) places->resize(layers + 1);
  for (auto* copies : {&weights, &weights_turned}) copies->resize(layers);
  images.resize(layers);
  previous.resize(layers);
  for (int l = 0; l <= spec_.layers(); ++l) {
    const auto at = static_cast<std::size_t>(l);
    const int64_t width = spec_.sizes[at];
    const Matrix<T> y = activation[at] = carver.matrix(batch_, width);
    saved[at] = l > 0 && spec_.saves_input(l - 1) ? carver.matrix(batch_, width) : y;
    // The logits' gradient takes the logits' place.
    const bool apart = purpose_ == Purpose::training && l > 0 && l < spec_.layers();
    gradient[at] = apart ? carver.matrix(batch_, width) : y;
  }
  if (purpose_ == Purpose::training) {
    for (std::size_t l = 0; l < layers; ++l) previous[l] = carver.template take<T>(spec_.sizes[l]);
    sums = carver.template take<T>(*std::max_element(spec_.sizes.begin(), spec_.sizes.end()));
  }
  loss = carver.template take<T>(batch_);
  row_weight = carver.template take<T>(batch_);
  label = carver.template take<std::int32_t>(batch_);
  correct = carver.template take<std::uint8_t>(batch_);
  int64_t row_bytes = 0;
  for (int l = 0; l < spec_.layers(); ++l) row_bytes = std::max(row_bytes, carve_operands(l, carver));
  rows = row_bytes ? carver.template take<char>(row_bytes) : nullptr;
  if (purpose_ == Purpose::training && blocks_pay<T>(spec_, batch_))
    blocks = carver.template take<T>(ColumnBlocks<T>::size(spec_.inputs(0), spec_.outputs(0)));
  if (purpose_ == Purpose::training && batch_ > max_block_k) passes = carver.template take<T>(spec_.parameters());
  return carver.used;
}

template <class T>
int64_t Workspace<T>::carve_operands(int l, Carver& carver) {
  const auto at = static_cast<std::size_t>(l);
  const int64_t m = spec_.inputs(l), n = spec_.outputs(l), batch = batch_;
  const bool training = purpose_ == Purpose::training;
  const int forward = parts_of<T>(spec_, batch, n, m), turned = training && l > 0 ? parts_of<T>(spec_, batch, m, n) : 0,
            weights_gradient = training ? parts_of<T>(spec_, m, n, batch) : 0;
  const bool bytes = l == 0 && first_layer_takes_bytes<T>(spec_, batch, training);
  const auto take = [&](int64_t size) -> void* { return size ? carver.template take<char>(size) : nullptr; };
  LayerImages& image = images[at];
  image = {};
  int64_t x_turned = image_bytes(m, batch, weights_gradient);
  if (bytes && training) x_turned = std::max(x_turned, ByteRows::turned_bytes(m, batch));
  image.x_turned = take(x_turned);
  if (bytes)
    image.digits = take(std::max(digit_bytes(n, m, max_threads), training ? digit_bytes(n, batch, max_threads) : 0));
  image.dy_turned = take(image_bytes(n, batch, weights_gradient));
  image.weights = take(image_bytes(n, m, forward));
  image.weights_turned = take(image_bytes(m, n, turned));
  const auto offset = static_cast<std::uintptr_t>(spec_.weights_at(l)) * sizeof(T);
  const bool much = fits_cache<T>(spec_) && batch >= least_rows && m * n >= least_weights,
             badly = lies_badly(active_table<T>(), offset, n, false);
  weights[at] = much && badly && !forward && !bytes ? carver.matrix(m, n) : Matrix<T>{};
  weights_turned[at] = much && training && l > 0 && !turned ? carver.matrix(n, m) : Matrix<T>{};
  return std::max(
      {image_bytes(batch, m, forward), image_bytes(batch, n, turned), bytes ? ByteRows::plain_bytes(batch, m) : 0});
}

template int parts_of<float>(const network::Spec&, int64_t, int64_t, int64_t);
template bool first_layer_takes_bytes<float>(const network::Spec&, int64_t, bool);
template class Workspace<float>;
template int parts_of<double>(const network::Spec&, int64_t, int64_t, int64_t);
template bool first_layer_takes_bytes<double>(const network::Spec&, int64_t, bool);
template class Workspace<double>;

}  // namespace mlpfast::cpu
