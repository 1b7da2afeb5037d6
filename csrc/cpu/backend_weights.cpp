// What follows the loss: gradients of the weights and their updates. Of single examples these wait for the next one.
#include <algorithm>
#include <utility>

#include "cpu/backend.h"

namespace mlpfast::cpu {

template <class T>
UpdateArgs<T> Backend<T>::flat_update_args(int64_t offset, int64_t cols, const T* dw) const {
  const ops::UpdateRule<T>& rule = *job_.optimization;
  UpdateArgs<T> args{.rows = 1,
                     .cols = cols,
                     .dw = {dw, cols},
                     .scale = 1,
                     .w = {job_.parameters + offset, cols},
                     .slots = {},
                     .scalars = rule.scalars};
  for (int s = 0; s < ops::max_slots; ++s) args.slots[s] = rule.slots[s] ? rule.slots[s] + offset : nullptr;
  return args;
}

/// Of a block of a layer's weights, without dw.
template <class T>
UpdateArgs<T> Backend<T>::weights_update_args(int l, Range rows, Range cols) const {
  const int64_t ld = spec_.outputs(l), offset = spec_.weights_at(l) + rows.begin * ld + cols.begin;
  UpdateArgs<T> args = flat_update_args(offset, cols.size(), nullptr);
  args.rows = rows.size();
  args.scale = static_cast<T>(spec_.scale(l));
  args.w.ld = ld;
  if (owns(l)) {
    args.w = blocks_.at(0, rows.begin, cols.begin);
    for (int s = 0; s < ops::max_slots; ++s) args.slots[s] = blocks_.at(1 + s, rows.begin, cols.begin).data;
  }
  return args;
}

template <class T>
void Backend<T>::finish_weights(int l, const Tile<T>& tile, network::UpdateMode mode) const {
  if (mode == network::UpdateMode::store) {
    const Matrix<T> dw{job_.parameter_gradient + spec_.weights_at(l), spec_.outputs(l)};
    const T scale = static_cast<T>(spec_.scale(l));
    table_.combine({tile.rows, tile.cols, constant(tile.sum), scale, 0, dw.at(tile.i, tile.j)});
  } else {
    UpdateArgs<T> args = weights_update_args(l, {tile.i, tile.i + tile.rows}, {tile.j, tile.j + tile.cols});
    args.dw = constant(tile.sum);
    apply(args);
  }
}

/// Of few examples; their gradient passes through registers only.
template <class T>
void Backend<T>::outer_update(int l, int64_t examples, Matrix<T> x, Range rows, Range cols) const {
  const Matrix<T> dy = work_.gradient[static_cast<std::size_t>(l) + 1];
  OuterUpdateArgs<T> args{weights_update_args(l, rows, cols), examples, constant(x.at(0, rows.begin)),
                          constant(dy.at(0, cols.begin))};
  table_.outer_update[static_cast<int>(job_.optimization->optimizer)](args);
}

/// The update of the example before on the way.
template <class T>
void Backend<T>::outer_forward(int l, Epilogue<T> epilogue) {
  const auto in = static_cast<std::size_t>(l);
  const Range rows{0, spec_.inputs(l)}, cols = columns(l);
  T* const sums = work_.sums + cols.begin;
  table_.outer_forward[static_cast<int>(job_.optimization->optimizer)](
      {weights_update_args(l, rows, cols), work_.previous[in], work_.gradient[in + 1].data + cols.begin,
       work_.activation[in].data, sums});
  epilogue({0, cols.begin, 1, cols.size(), {sums, cols.size()}});
  waits_[in] = false;
}

template <class T>
void Backend<T>::backward_weights(int l, network::UpdateMode mode) {
  const Problem problem = weights_problem(l);
  const LayerImages& images = work_.images[static_cast<std::size_t>(l)];
  const auto finish = [&](const Tile<T>& t) { finish_weights(l, t, mode); };
  if (l == 0 && bytes_) {
    multiply_bytes(problem, ByteRows::turned(problem.k, images.x_turned), false, Epilogue<T>(finish));
    return bias_gradient(l, mode);
  }
  if constexpr (sizeof(T) == sizeof(float)) {
    if (problem.parts > 0) {
      const SplitImage x(problem.m, problem.k, problem.parts, images.x_turned),
          dy(problem.n, problem.k, problem.parts, images.dy_turned);
      multiply_tiles(team_, table_, *job_.tiles, problem, x, dy, {0, x.count()}, false, Epilogue<T>(finish));
      return bias_gradient(l, mode);
    }
  }
  if (batch_.rows == 1 && may_wait(l) && mode == network::UpdateMode::fused) {
    if (team_.rank() == 0) std::copy_n(problem.a.data, problem.m, work_.previous[static_cast<std::size_t>(l)]);
    waits_[static_cast<std::size_t>(l)] = true;
  } else if (batch_.rows <= most_outer_examples && mode == network::UpdateMode::fused) {
    const bool by_rows = problem.m >= problem.n && !owns(l);
    const Range rows = by_rows ? team_.share(problem.m) : Range{0, problem.m};
    const Range cols = owns(l) ? columns(l) : by_rows ? Range{0, problem.n} : team_.share(problem.n, table_.lanes);
    outer_update(l, batch_.rows, work_.activation[static_cast<std::size_t>(l)], rows, cols);
  } else {
    Problem product = problem;
    WeightsUpdate<T> update;
    if (mode == network::UpdateMode::fused) {
      update = {job_.optimization->optimizer, weights_update_args(l, {0, problem.m}, {0, problem.n})};
      product.update = &update;
    }
    if (owns(l)) {
      multiply_blocks(product, false, Epilogue<T>(finish));
    } else {
      gemm_by_team(team_, table_, product, {0, problem.m}, Epilogue<T>(finish));
    }
  }
  bias_gradient(l, mode);
}

template <class T>
void Backend<T>::bias_gradient(int l, network::UpdateMode mode) {
  const Matrix<T> dy = work_.gradient[static_cast<std::size_t>(l) + 1];
  const Range mine = team_.share(spec_.outputs(l), table_.lanes);
  constexpr int64_t most = 256;
  alignas(64) T sums[most];
  for (int64_t j = mine.begin; j < mine.end; j += most) {
    const int64_t cols = std::min(most, mine.end - j), offset = spec_.bias_at(l) + j;
    T* db = mode == network::UpdateMode::store ? job_.parameter_gradient + offset : sums;
    table_.column_sums(batch_.rows, cols, constant(dy.at(0, j)), db);
    if (mode == network::UpdateMode::store) continue;
    apply(flat_update_args(offset, cols, db));
  }
}

template <class T>
void Backend<T>::update() {
  const Range mine = team_.share(spec_.parameters(), 64);
  apply(flat_update_args(mine.begin, mine.size(), job_.parameter_gradient + mine.begin));
}

template void Backend<float>::outer_update(int, int64_t, Matrix<float>, Range, Range) const;
template void Backend<float>::outer_forward(int, Epilogue<float>);
template void Backend<float>::backward_weights(int, network::UpdateMode);
template void Backend<float>::update();
template void Backend<double>::outer_update(int, int64_t, Matrix<double>, Range, Range) const;
template void Backend<double>::outer_forward(int, Epilogue<double>);
template void Backend<double>::backward_weights(int, network::UpdateMode);
template void Backend<double>::update();

}  // namespace mlpfast::cpu
