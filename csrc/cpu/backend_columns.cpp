// Columns of the first layer's weights that members of the team own for the length of a native call.
#include <algorithm>
#include <utility>

#include "cpu/backend.h"
#include "cpu/gemm_units.h"

namespace mlpfast::cpu {

/// move(array, own, n): of n numbers of the parameters or their slots.
template <class T>
template <class Move>
void Backend<T>::move_columns(const Move& move) {
  const Range cols = columns(0);
  const int64_t ld = spec_.outputs(0), offset = spec_.weights_at(0) + cols.begin;
  for (int a = 0; a < ColumnBlocks<T>::arrays; ++a) {
    T* const array = a == 0 ? job_.parameters : job_.optimization->slots[a - 1];
    for (int64_t i = 0; array && cols.size() > 0 && i < spec_.inputs(0); ++i)
      move(array + offset + i * ld, blocks_.at(a, i, cols.begin).data, cols.size());
  }
}

template <class T>
void Backend<T>::own_columns() {
  blocks_ = ColumnBlocks<T>(work_.blocks, spec_.inputs(0), spec_.outputs(0), team_.size());
  move_columns([](const T* array, T* own, int64_t n) { std::copy_n(array, n, own); });
}

template <class T>
void Backend<T>::end() {
  for (int l = 0; l < layers(); ++l) {
    const auto at = static_cast<std::size_t>(l);
    if (std::exchange(waits_[at], 0)) outer_update(l, 1, {work_.previous[at], 0}, {0, spec_.inputs(l)}, columns(l));
  }
  if (blocks_) move_columns([](T* array, const T* own, int64_t n) { std::copy_n(own, n, array); });
  blocks_ = {};
}

template <class T>
void Backend<T>::multiply_blocks(const Problem& problem, bool by_weights, Epilogue<T> epilogue) {
  const Units units = block_units(table_, problem, blocks_.width(), team_.size());
  const int64_t count = units.count(), down = units.down(), rank = team_.rank();
  team_.deal({std::min(count, rank * down), std::min(count, (rank + 1) * down)});
  for (int64_t unit; team_.take(unit);) {
    const Range cols = units.cols(unit);
    const auto finish = [&](Tile<T> tile) {
      tile.j += cols.begin;
      epilogue(tile);
    };
    Problem part = problem;
    part.n = cols.size();
    part.laid_out = by_weights;
    part.b = by_weights ? constant(blocks_.at(0, 0, cols.begin)) : problem.b.at(0, cols.begin);
    if (part.c.data) part.c = problem.c.at(0, cols.begin);
    WeightsUpdate<T> update;
    if (problem.update) {
      update = {problem.update->optimizer, weights_update_args(0, {0, problem.m}, cols)};
      part.update = &update;
    }
    gemm_part(table_, part, units.rows(unit), {0, part.n}, Epilogue<T>(finish));
  }
}

template void Backend<float>::own_columns();
template void Backend<float>::end();
template void Backend<float>::multiply_blocks(const Problem&, bool, Epilogue<float>);
template void Backend<double>::own_columns();
template void Backend<double>::end();
template void Backend<double>::multiply_blocks(const Problem&, bool, Epilogue<double>);

}  // namespace mlpfast::cpu
