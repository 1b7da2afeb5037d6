// Which rows of a batch a thread takes, and how it loads them.
#include <algorithm>
#include <cstring>

#include "cpu/backend.h"

namespace mlpfast::cpu {

template <class T>
void Backend<T>::begin(const Batch& batch) {
  batch_ = batch;
  bytes_ = takes_bytes(batch.rows);
  tiles_ = bytes_ || multiplies_tiles(batch.rows);
  by_columns_ = !tiles_ && shares_columns(batch.rows);
  by_layers_ = !tiles_ && !by_columns_ && shares_layers(batch.rows);
  job_.finite[static_cast<std::size_t>(team_.rank())] = true;
  weight_ = batch_weight();
  slab_taken_ = 0;
  slabs_ = bytes_ || meets() ? 1 : tiles_ ? slabs_of(batch.rows) : 0;
  if (slabs_ > 0) return;
  unit_rows_ = rows_at_a_time(batch.rows);
  team_.deal(team_.share((batch.rows + unit_rows_ - 1) / unit_rows_));
}

/// Slabs of a height that spares the caches of all members.
template <class T>
int Backend<T>::slabs_of(int64_t rows) const {
  constexpr int64_t least_rows = 256, slab_bytes = 1 << 20;
  int64_t width = 0;
  for (int l = 0; l < layers(); ++l) width = std::max(width, spec_.inputs(l) + spec_.outputs(l));
  const int64_t height = std::max(least_rows, slab_bytes / (width * int64_t(sizeof(T)))) * team_.size();
  return static_cast<int>((rows + height - 1) / height);
}

/// Many units let fast cores take over much; but weights beyond L2 are read again for each.
template <class T>
int64_t Backend<T>::rows_at_a_time(int64_t rows) const {
  constexpr int64_t units = 16, least_work = 1 << 20, least_rows = 24;
  const int64_t even = (rows + team_.size() - 1) / team_.size(),
                least = fits_cache<T>(spec_) ? std::max(least_rows, least_work / spec_.parameters()) : uncached_rows,
                tile = table_.tile_rows[table_.tile_vectors - 1];
  return (std::min(even, std::max(least, even / units)) + tile - 1) / tile * tile;
}

template <class T>
bool Backend<T>::next_rows() {
  if (slabs_ > 0) {
    if (slab_taken_ == slabs_) return false;
    const int64_t unit = tiles_ ? strip : 1;
    slab_ = share(batch_.rows, unit, slabs_, slab_taken_++);
    loss_rows_ = team_.share(slab_, unit);
    rows_ = by_columns_ ? slab_ : loss_rows_;
    return true;
  }
  int64_t unit;
  if (!team_.take(unit)) return false;
  slab_ = loss_rows_ = rows_ = {unit * unit_rows_, std::min(batch_.rows, (unit + 1) * unit_rows_)};
  return true;
}

template <class T>
void Backend<T>::load() {
  if (bytes_) {
    load_bytes();
  } else {
    load_features();
  }
}

template <class T>
template <class Load>
void Backend<T>::load_rows(Load&& load_row) {
  const Examples<T>& examples = job_.examples;
  constexpr int64_t ahead = 8;
  int64_t sources[ahead];
  const auto find = [&](int64_t i) {
    const int64_t source = examples.shuffle ? (*examples.shuffle)(batch_.first + i) : batch_.first + i;
    examples.features.prefetch_row(source);
    if (examples.labels) __builtin_prefetch(examples.labels + source);
    sources[i % ahead] = source;
  };
  for (int64_t i = loss_rows_.begin; i < std::min(loss_rows_.end, loss_rows_.begin + ahead); ++i) find(i);
  for (int64_t i = loss_rows_.begin; i < loss_rows_.end; ++i) {
    const int64_t source = sources[i % ahead];
    load_row(i, source);
    if (examples.labels) work_.label[i] = examples.labels[source];
    if (examples.sample_weight) work_.row_weight[i] = examples.sample_weight[source];
    if (i + ahead < loss_rows_.end) find(i + ahead);
  }
}

template <class T>
void Backend<T>::load_features() {
  const T shift = static_cast<T>(spec_.input_shift);
  load_rows([&](int64_t i, int64_t source) {
    job_.examples.features.load_row(table_, source, shift, work_.activation[0].row(i));
  });
}

/// For the first layer's product, and, in training, the transpose for its gradient.
template <class T>
void Backend<T>::load_bytes() {
  const int64_t k = spec_.inputs(0);
  const ByteRows x = ByteRows::plain(k, work_.images[0].x);
  load_rows([&](int64_t i, int64_t source) {
    std::memcpy(x.data + i * x.ld, job_.examples.features.row(source), static_cast<std::size_t>(k));
  });
  if (!work_.images[0].x_turned) return;
  const ByteRows turned = ByteRows::turned(batch_.rows, work_.images[0].x_turned);
  for (int64_t s = rows_.begin / strip; s * strip < rows_.end; ++s) turn_strip(*job_.tiles, x, k, s, turned);
}

template class Backend<float>;
template class Backend<double>;

}  // namespace mlpfast::cpu
