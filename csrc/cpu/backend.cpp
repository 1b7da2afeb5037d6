#include "cpu/backend.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cpu/softmax_xent.h"

namespace mlpfast::cpu {

template <class T>
Backend<T>::Backend(Team& team, Job& job)
    : team_(team),
      job_(job),
      spec_(job.spec),
      work_(job.workspace),
      table_(job.table),
      waits_(job.waits.data() + static_cast<std::size_t>(team.rank()) * job.waits_pitch()) {}

template <class T>
Gemm<T> Backend<T>::forward_problem(int l, int64_t rows) const {
  const auto in = static_cast<std::size_t>(l);
  const int64_t n = spec_.outputs(l), k = spec_.inputs(l);
  return {rows,
          n,
          k,
          constant(work_.activation[in]),
          {job_.parameters + spec_.weights_at(l), n},
          false,
          false,
          work_.activation[in + 1],
          parts_of<T>(spec_, rows, n, k)};
}

template <class T>
Gemm<T> Backend<T>::backward_problem(int l, int64_t rows) const {
  const auto below = static_cast<std::size_t>(l);
  const int64_t n = spec_.inputs(l), k = spec_.outputs(l);
  return {rows,
          n,
          k,
          constant(work_.gradient[below + 1]),
          {job_.parameters + spec_.weights_at(l), k},
          false,
          true,
          work_.gradient[below],
          parts_of<T>(spec_, rows, n, k)};
}

template <class T>
Gemm<T> Backend<T>::weights_problem(int l) const {
  const auto below = static_cast<std::size_t>(l);
  const int64_t m = spec_.inputs(l), n = spec_.outputs(l), k = batch_.rows;
  // A batch too large for tiles leaves no room for the images of a smaller last one.
  const int parts = work_.images[below].x_turned ? parts_of<T>(spec_, m, n, k) : 0;
  Matrix<T> sums{};  // of more passes than one over the batch
  if (k > max_block_k) sums = {job_.parameter_gradient + spec_.weights_at(l), n};
  return {m, n, k, constant(work_.activation[below]), constant(work_.gradient[below + 1]), true, false, sums, parts};
}

/// This thread's share of a product of the batch: rows, or columns where b's image is the larger, which then stays in
/// the cache of who split it.
template <class T>
void Backend<T>::multiply_rows(Problem problem, void* a, void* b, Matrix<T> copy, Epilogue<T> epilogue) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (problem.parts > 0) {
      const SplitImage left(problem.m, problem.k, problem.parts, a), right(problem.n, problem.k, problem.parts, b);
      const Range strips{slab_.begin / strip, (slab_.end + strip - 1) / strip};
      split_a(*job_.tiles, left, problem.a, false, team_.share(strips));
      const bool by_rows = problem.m >= problem.n;
      if (!by_rows) team_.barrier();
      return multiply_tiles(team_, table_, *job_.tiles, problem, left, right, strips, by_rows, epilogue);
    }
  }
  if (copy.data) {
    problem.b = constant(copy);
    problem.transpose_b = false;
    problem.laid_out = true;
  }
  if (by_layers_) return gemm_by_team(team_, table_, problem, slab_, epilogue);
  gemm_part(table_, problem, rows_, columns(problem.n), epilogue);
}

template <class T>
bool Backend<T>::multiplies_tiles(int64_t rows) const {
  for (int l = 0; l < layers(); ++l)
    if (forward_problem(l, rows).parts > 0 || (l > 0 && backward_problem(l, rows).parts > 0)) return true;
  return false;
}

template <class T>
bool Backend<T>::takes_bytes(int64_t rows) const {
  const LayerImages& images = work_.images[0];  // a larger batch may have left no room
  const bool training = job_.optimization || job_.parameter_gradient;
  constexpr double most_shift = 1 << 16;  // sums of shifted bytes stay within float32
  return job_.examples.features.bytes && std::abs(spec_.input_shift) <= most_shift &&
         cpu::takes_bytes<T>(spec_, rows, training) && images.x && (!training || images.x_turned);
}

template <class T>
void Backend<T>::split_weights(const Batch& batch) {
  bool any = false;
  const auto copy = [&](const Problem& p, Matrix<T> to) {
    if (!to.data) return;
    lay_out(team_, table_, p, to);
    any = true;
  };
  const auto split = [&](const Problem& p, void* memory) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (p.parts == 0 || !memory) return;
      const SplitImage image(p.n, p.k, p.parts, memory);
      split_b(*job_.tiles, image, p.b, p.transpose_b, team_.share(image.count()));
      any = true;
    }
  };
  for (int l = 0; l < layers(); ++l) {
    const LayerImages& images = work_.images[static_cast<std::size_t>(l)];
    const Problem forward = forward_problem(l, batch.rows);
    if (l > 0 || !takes_bytes(batch.rows)) split(forward, images.weights);
    copy(forward, copied(work_.weights, l, batch.rows));
    if (l == 0) continue;
    const Problem backward = backward_problem(l, batch.rows);
    split(backward, images.weights_turned);
    copy(backward, copied(work_.weights_turned, l, batch.rows));
  }
  if (any) team_.barrier();
}

template <class T>
void Backend<T>::split_gradients() {
  if constexpr (sizeof(T) == sizeof(float)) {
    bool any = false;
    for (int l = bytes_ ? 1 : 0; l < layers(); ++l) {
      const Problem p = weights_problem(l);
      if (p.parts == 0) continue;
      const LayerImages& images = work_.images[static_cast<std::size_t>(l)];
      const SplitImage x(p.m, p.k, p.parts, images.x_turned), dy(p.n, p.k, p.parts, images.dy);
      split_a(*job_.tiles, x, p.a, true, team_.share(x.count()));
      split_b(*job_.tiles, dy, p.b, false, team_.share(dy.count()));
      any = true;
    }
    if (any) team_.barrier();
  }
}

template <class T>
void Backend<T>::multiply_bytes(const Problem& problem, const ByteRows& x, bool weights, Epilogue<T> epilogue) {
  if constexpr (sizeof(T) == sizeof(float))
    cpu::multiply_bytes(team_, table_, *job_.tiles, problem, x, static_cast<float>(spec_.input_shift), spec_.precision,
                        weights, work_.images[0].digits, epilogue);
}

template <class T>
void Backend<T>::forward(int l) {
  const auto in = static_cast<std::size_t>(l), out = in + 1;
  const Matrix<T> y = work_.activation[out], saved = spec_.saves_input(l) ? work_.saved[out] : Matrix<T>{};
  const Problem problem = forward_problem(l, batch_.rows);
  const T* bias = job_.parameters + spec_.bias_at(l);
  const T scale = l == 0 ? static_cast<T>(spec_.input_scale) : T(1), alpha = static_cast<T>(spec_.alpha(l));
  const auto kernel = table_.forward[static_cast<int>(spec_.activation(l))];
  const auto finish = [&](const Tile<T>& t) {
    kernel({t.rows, t.cols, constant(t.sum), bias + t.j, scale, alpha, saved.data ? saved.at(t.i, t.j) : saved,
            y.at(t.i, t.j)});
  };
  if (waits_[in]) return outer_forward(l, Epilogue<T>(finish));
  const LayerImages& images = work_.images[in];
  if (l > 0 || !bytes_)
    return multiply_rows(problem, images.x, images.weights, copied(work_.weights, l, batch_.rows), Epilogue<T>(finish));
  team_.barrier();  // others loaded some of its rows
  multiply_bytes(problem, ByteRows::plain(problem.k, images.x), true, Epilogue<T>(finish));
}

/// What the batch's mean divides by; every thread finds the same number.
template <class T>
double Backend<T>::batch_weight() const {
  const Examples<T>& examples = job_.examples;
  if (!examples.sample_weight && !examples.class_weight) return static_cast<double>(batch_.rows);
  double sum = 0;
  for (int64_t i = 0; i < batch_.rows; ++i) {
    const int64_t source = examples.shuffle ? (*examples.shuffle)(batch_.first + i) : batch_.first + i;
    sum += weight_sum<T>(1, examples.labels + source, examples.class_weight,
                         examples.sample_weight ? examples.sample_weight + source : nullptr);
  }
  return sum;
}

template <class T>
void Backend<T>::loss() {
  const Matrix<T> logits = work_.activation.back();
  const int64_t rows = loss_rows_.size();
  CrossEntropyArgs<T> args{};
  args.cols = spec_.sizes.back();
  args.logits = constant(logits);
  args.labels = work_.label;
  args.class_weight = job_.examples.class_weight;
  args.row_weight = job_.examples.sample_weight ? work_.row_weight : nullptr;
  args.gradient_scale = weight_ > 0 ? 1 / weight_ : 0;
  if (job_.optimization || job_.parameter_gradient) args.d_logits = work_.gradient.back();
  args.loss = work_.loss;
  args.correct = work_.correct;
  table_.cross_entropy(rows_of(args, loss_rows_.begin, rows));
  bool finite = true;
  for (int64_t i = loss_rows_.begin; i < loss_rows_.end; ++i) finite &= std::isfinite(work_.loss[i]);
  job_.finite[static_cast<std::size_t>(team_.rank())] &= finite;
}

template <class T>
void Backend<T>::backward_input(int l) {
  const auto below = static_cast<std::size_t>(l);
  const Matrix<T> dx = work_.gradient[below], saved = work_.saved[below];
  const Problem problem = backward_problem(l, batch_.rows);
  const T alpha = static_cast<T>(spec_.alpha(l - 1));
  const auto kernel = table_.backward[static_cast<int>(spec_.activation(l - 1))];
  const auto finish = [&](const Tile<T>& t) {
    kernel({t.rows, t.cols, constant(t.sum), constant(saved.at(t.i, t.j)), alpha, dx.at(t.i, t.j)});
  };
  const LayerImages& images = work_.images[below];
  multiply_rows(problem, images.dy, images.weights_turned, copied(work_.weights_turned, l, batch_.rows),
                Epilogue<T>(finish));
}

/// Between the two barriers of a step. The first thread also adds up the batch's metrics, and looks at the clock.
template <class T>
bool Backend<T>::loss_is_finite() {
  const bool finite = std::find(job_.finite.begin(), job_.finite.end(), 0) == job_.finite.end();
  if (finite && team_.rank() == 0) {
    count();
    job_.expired = now() > job_.deadline;
  }
  return finite;
}

template <class T>
void Backend<T>::count() {
  for (int64_t i = 0; i < batch_.rows; ++i) {
    job_.metrics.loss += static_cast<double>(work_.loss[i]);
    job_.metrics.correct += work_.correct[i];
  }
  job_.metrics.weight += weight_;
  job_.metrics.rows += batch_.rows;
}

template <class T>
UpdateArgs<T> Backend<T>::update_args(int64_t offset, int64_t rows, Matrix<const T> dw, int64_t ld, T scale) const {
  const ops::UpdateRule<T>& how = *job_.optimization;
  UpdateArgs<T> args{rows, 0, dw, scale, {job_.parameters + offset, ld}, {}, how.scalars};
  for (int s = 0; s < ops::max_slots; ++s) args.slots[s] = how.slots[s] ? how.slots[s] + offset : nullptr;
  return args;
}

/// Of a block of a layer's weights, without dw.
template <class T>
UpdateArgs<T> Backend<T>::weights_update_args(int l, Range rows, Range cols) const {
  const int64_t ld = spec_.outputs(l), offset = spec_.weights_at(l) + rows.begin * ld + cols.begin;
  UpdateArgs<T> args = update_args(offset, rows.size(), {}, ld, l == 0 ? static_cast<T>(spec_.input_scale) : T(1));
  args.cols = cols.size();
  if (l == 0 && own_) {
    args.w = {own_, cols.size()};
    for (int s = 0; s < ops::max_slots; ++s) args.slots[s] = own_ + (1 + s) * rows.size() * cols.size();
  }
  return args;
}

template <class T>
void Backend<T>::finish_weights(int l, const Tile<T>& tile, network::UpdateMode mode) const {
  if (mode == network::UpdateMode::store) {
    const Matrix<T> dw{job_.parameter_gradient + spec_.weights_at(l), spec_.outputs(l)};
    const T scale = l == 0 ? static_cast<T>(spec_.input_scale) : T(1);
    table_.combine({tile.rows, tile.cols, constant(tile.sum), scale, 0, dw.at(tile.i, tile.j)});
  } else {
    UpdateArgs<T> args = weights_update_args(l, {tile.i, tile.i + tile.rows}, {tile.j, tile.j + tile.cols});
    args.dw = constant(tile.sum);
    table_.update[static_cast<int>(job_.optimization->optimizer)](args);
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
  const Range rows{0, spec_.inputs(l)}, cols = columns(spec_.outputs(l));
  T* const sums = work_.sums + cols.begin;
  table_.outer_forward[static_cast<int>(job_.optimization->optimizer)](
      {weights_update_args(l, rows, cols), work_.previous[in], work_.gradient[in + 1].data + cols.begin,
       work_.activation[in].data, sums});
  epilogue.call(epilogue.context, {0, cols.begin, 1, cols.size(), {sums, cols.size()}});
  waits_[in] = false;
}

/// move(array, own, n): of n numbers of the parameters or their slots.
template <class T>
template <class Move>
void Backend<T>::move_columns(const Move& move) {
  const Range cols = team_.share(spec_.outputs(0), table_.lanes);
  const int64_t ld = spec_.outputs(0), rows = spec_.inputs(0), offset = spec_.weights_at(0) + cols.begin;
  T* own = own_;
  const auto move_array = [&](T* array) {
    for (int64_t i = 0; array && i < rows; ++i) move(array + offset + i * ld, own + i * cols.size(), cols.size());
    own += rows * cols.size();
  };
  move_array(job_.parameters);
  for (T* const slot : job_.optimization->slots) move_array(slot);
}

template <class T>
void Backend<T>::own_columns() {
  const Range cols = team_.share(spec_.outputs(0), table_.lanes);
  own_ = work_.own + (1 + ops::max_slots) * spec_.inputs(0) * cols.begin;
  move_columns([](const T* array, T* own, int64_t n) { std::copy_n(array, n, own); });
}

template <class T>
void Backend<T>::end() {
  for (int l = 0; l < layers(); ++l) {
    const auto at = static_cast<std::size_t>(l);
    if (std::exchange(waits_[at], 0))
      outer_update(l, 1, {work_.previous[at], 0}, {0, spec_.inputs(l)}, columns(spec_.outputs(l)));
  }
  if (own_) move_columns([](T* array, const T* own, int64_t n) { std::copy_n(own, n, array); });
  own_ = nullptr;
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
          dy(problem.n, problem.k, problem.parts, images.dy);
      multiply_tiles(team_, table_, *job_.tiles, problem, x, dy, {0, x.count()}, false, Epilogue<T>(finish));
      return bias_gradient(l, mode);
    }
  }
  if (batch_.rows == 1 && may_wait(l) && mode == network::UpdateMode::fused) {
    if (team_.rank() == 0) std::copy_n(problem.a.data, problem.m, work_.previous[static_cast<std::size_t>(l)]);
    waits_[static_cast<std::size_t>(l)] = true;
  } else if (batch_.rows <= most_outer_examples && mode == network::UpdateMode::fused) {
    const bool by_rows = problem.m >= problem.n;
    const Range rows = by_rows ? team_.share(problem.m) : Range{0, problem.m};
    const Range cols = by_rows ? Range{0, problem.n} : team_.share(problem.n, table_.lanes);
    outer_update(l, batch_.rows, work_.activation[static_cast<std::size_t>(l)], rows, cols);
  } else {
    gemm_by_team(team_, table_, problem, {0, problem.m}, Epilogue<T>(finish));
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
    UpdateArgs<T> args = update_args(offset, 1, {db, cols}, cols, T(1));
    args.cols = cols;
    table_.update[static_cast<int>(job_.optimization->optimizer)](args);
  }
}

template <class T>
void Backend<T>::update() {
  const Range mine = team_.share(spec_.parameters(), 64);
  const int64_t cols = mine.size();
  UpdateArgs<T> args = update_args(mine.begin, 1, {job_.parameter_gradient + mine.begin, cols}, cols, T(1));
  args.cols = cols;
  table_.update[static_cast<int>(job_.optimization->optimizer)](args);
}

template class Backend<float>;
template class Backend<double>;

}  // namespace mlpfast::cpu
