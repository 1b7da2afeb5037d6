// Which rows of a batch a thread takes, and how it loads them.
#include <algorithm>

#include "cpu/backend.h"

namespace mlpfast::cpu {

template <class T>
void Backend<T>::begin(const network::Batch& batch) {
  batch_ = batch;
  bytes_ = takes_bytes(batch.rows);
  const bool once = !job_.training() && !job_.examples.shuffle;  // each row is read, in this order
  in_place_ = once && !bytes_ ? job_.examples.features.in_place(spec_.input_shift) : Matrix<const T>{};
  job_.finite[static_cast<std::size_t>(team_.rank())] = true;
  weight_ = batch_weight();
  const Plan chosen = plan(batch.rows);
  first_taken_ = false;
  if (blocks_ && !meets(chosen.sharing)) {
    lots_.whole(team_, batch.rows);
    load();
    sync();
    forward(0);
    sync();
    first_taken_ = true;
  }
  lots_.begin(team_, batch.rows, chosen);
}

template <class T>
Plan Backend<T>::plan(int64_t rows) const {
  if (takes_bytes(rows)) return {Sharing::strips, strip_size};
  if (multiplies_tiles(rows)) return {Sharing::strips, strip_size, slabs_of(rows)};
  if (shares_columns(rows)) return {Sharing::columns};
  if (shares_layers(rows)) return {Sharing::layers};
  return {Sharing::rows, rows_at_a_time(rows)};
}

/// Slabs of a height that spares the caches of all members.
template <class T>
int Backend<T>::slabs_of(int64_t rows) const {
  constexpr int64_t least_rows = 256, slab_bytes = 1 << 20;
  int64_t width = 0;
  for (int l = 0; l < layers(); ++l) width = std::max(width, spec_.inputs(l) + spec_.outputs(l));
  const int64_t height = std::max(least_rows, slab_bytes / (width * int64_t(sizeof(T)))) * team_.size();
  return static_cast<int>(ceil_div(rows, height));
}

/// Many units let fast cores take over much; but weights beyond L2 are read again for each.
template <class T>
int64_t Backend<T>::rows_at_a_time(int64_t rows) const {
  constexpr int64_t units = 16, least_work = 1 << 20, least_rows = 24;
  const int64_t even = ceil_div(rows, team_.size()),
                least = fits_cache<T>(spec_) ? std::max(least_rows, least_work / spec_.parameters()) : uncached_rows,
                tile = table_.tile_rows[table_.tile_vectors - 1];
  return round_up(std::min(even, std::max(least, even / units)), tile);
}

template <class T>
bool Backend<T>::next_rows() {
  return lots_.next(team_);
}

template <class T>
void Backend<T>::load() {
  if (first_taken_) return;
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
  const Range rows = lots_.own();
  constexpr int64_t ahead = 8, near = 3;  // rows until a row whose beginning, and whose rest, is fetched
  int64_t sources[ahead];
  const auto find = [&](int64_t i) {
    const int64_t source = examples.shuffle ? (*examples.shuffle)(batch_.first + i) : batch_.first + i;
    examples.features.prefetch_row(source);
    if (examples.labels) __builtin_prefetch(examples.labels + source);
    sources[i % ahead] = source;
  };
  for (int64_t i = rows.begin; i < std::min(rows.end, rows.begin + ahead); ++i) find(i);
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    const int64_t source = sources[i % ahead];
    load_row(i, source, sources[std::min(i + near, rows.end - 1) % ahead]);
    if (examples.labels) work_.label[i] = examples.labels[source];
    if (examples.sample_weight) work_.row_weight[i] = examples.sample_weight[source];
    if (i + ahead < rows.end) find(i + ahead);
  }
}

template <class T>
void Backend<T>::load_features() {
  if (in_place_.data) return load_rows([](int64_t, int64_t, int64_t) {});  // labels and weights alone
  load_rows([&](int64_t i, int64_t source, int64_t next) {
    job_.examples.features.load_row(table_, source, next, spec_.input_shift, work_.activation[0].row(i));
  });
}

/// For the first layer's product, and, in training, the transpose for its gradient.
template <class T>
void Backend<T>::load_bytes() {
  const int64_t k = spec_.inputs(0);
  const ByteRows x = ByteRows::plain(k, work_.rows);
  load_rows([&](int64_t i, int64_t source, int64_t next) {
    job_.examples.features.copy_row(source, next, x.data + i * x.ld);
  });
  if (!work_.images[0].x_turned) return;
  const ByteRows turned = ByteRows::turned(batch_.rows, work_.images[0].x_turned);
  for (int64_t s = lots_.own().begin / strip_size; s * strip_size < lots_.own().end; ++s)
    turn_strip(*job_.tiles, x, k, s, turned);
}

template void Backend<float>::begin(const network::Batch&);
template bool Backend<float>::next_rows();
template int Backend<float>::slabs_of(int64_t) const;
template void Backend<float>::load();
template void Backend<double>::begin(const network::Batch&);
template bool Backend<double>::next_rows();
template int Backend<double>::slabs_of(int64_t) const;
template void Backend<double>::load();

}  // namespace mlpfast::cpu
