#include "cpu/backend.h"

#include <algorithm>
#include <cmath>

#include "cpu/softmax_xent.h"

namespace mlpfast::cpu {

template <class T>
Backend<T>::Backend(Team& team, Job<T>& job)
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
  return {.m = rows,
          .n = n,
          .k = k,
          .a = l == 0 && in_place_.data ? in_place_.at(batch_.first, 0) : constant(work_.activation[in]),
          .b = {job_.parameters + spec_.weights_at(l), n},
          .c = work_.activation[in + 1],
          .parts = parts_of<T>(spec_, rows, n, k)};
}

template <class T>
Gemm<T> Backend<T>::backward_problem(int l, int64_t rows) const {
  const auto below = static_cast<std::size_t>(l);
  const int64_t n = spec_.inputs(l), k = spec_.outputs(l);
  return {.m = rows,
          .n = n,
          .k = k,
          .a = constant(work_.gradient[below + 1]),
          .b = {job_.parameters + spec_.weights_at(l), k},
          .transpose_b = true,
          .c = work_.gradient[below],
          .parts = parts_of<T>(spec_, rows, n, k)};
}

template <class T>
Gemm<T> Backend<T>::weights_problem(int l) const {
  const auto below = static_cast<std::size_t>(l);
  const int64_t m = spec_.inputs(l), n = spec_.outputs(l), k = batch_.rows;
  // A batch too large for tiles leaves no room for the images of a smaller last one.
  const int parts = work_.images[below].x_turned ? parts_of<T>(spec_, m, n, k) : 0;
  Matrix<T> sums{};
  if (k > max_block_k) sums = {work_.passes + spec_.weights_at(l), n};
  return {.m = m,
          .n = n,
          .k = k,
          .a = constant(work_.activation[below]),
          .b = constant(work_.gradient[below + 1]),
          .transpose_a = true,
          .c = sums,
          .parts = parts};
}

template <class T>
bool Backend<T>::multiplies_tiles(int64_t rows) const {
  for (int l = 0; l < layers(); ++l)
    if (forward_problem(l, rows).parts > 0 || (l > 0 && backward_problem(l, rows).parts > 0)) return true;
  return false;
}

template <class T>
bool Backend<T>::takes_bytes(int64_t rows) const {
  const void* turned = work_.images[0].x_turned;  // a larger batch may have left no room
  const bool training = job_.training();
  constexpr double most_shift = 1 << 16;  // sums of shifted bytes stay within float32
  return job_.examples.features.bytes && std::abs(spec_.input_shift) <= most_shift &&
         first_layer_takes_bytes<T>(spec_, rows, training) && work_.rows && (!training || turned);
}

template <class T>
void Backend<T>::multiply_bytes(const Problem& problem, const ByteRows& x, bool weights, Epilogue<T> epilogue) {
  if constexpr (sizeof(T) == sizeof(float))
    cpu::multiply_bytes(team_, table_, *job_.tiles,
                        {.gemm = problem,
                         .a = x,
                         .shift = static_cast<float>(spec_.input_shift),
                         .precision = spec_.precision,
                         .of_weights = weights,
                         .digits = work_.images[0].digits},
                        epilogue);
}

template <class T>
void Backend<T>::forward(int l) {
  if (l == 0 && first_taken_) return;
  const auto in = static_cast<std::size_t>(l), out = in + 1;
  const Matrix<T> y = work_.activation[out], saved = spec_.saves_input(l) ? work_.saved[out] : Matrix<T>{};
  const Problem problem = forward_problem(l, batch_.rows);
  const T* bias = job_.parameters + spec_.bias_at(l);
  const T scale = static_cast<T>(spec_.scale(l)), alpha = static_cast<T>(spec_.alpha(l));
  const auto kernel = table_.forward[static_cast<int>(spec_.activation(l))];
  const auto finish = [&](const Tile<T>& t) {
    kernel({t.rows, t.cols, constant(t.sum), bias + t.j, scale, alpha, saved.data ? saved.at(t.i, t.j) : saved,
            y.at(t.i, t.j)});
  };
  if (waits_[in]) return outer_forward(l, Epilogue<T>(finish));
  if (owns(l)) return multiply_blocks(problem, true, Epilogue<T>(finish));
  const LayerImages& images = work_.images[in];
  if (l > 0 || !bytes_)
    return multiply_rows(problem, images.weights, images_of_input(l), copied(work_.weights, l, batch_.rows),
                         Epilogue<T>(finish));
  team_.barrier();  // others loaded some of its rows
  multiply_bytes(problem, ByteRows::plain(problem.k, work_.rows), true, Epilogue<T>(finish));
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
  const Range rows = lots_.own();
  CrossEntropyArgs<T> args{};
  args.cols = spec_.sizes.back();
  args.logits = constant(logits);
  args.labels = work_.label;
  args.class_weight = job_.examples.class_weight;
  args.row_weight = job_.examples.sample_weight ? work_.row_weight : nullptr;
  args.gradient_scale = weight_ > 0 ? 1 / weight_ : 0;
  if (job_.training()) args.d_logits = work_.gradient.back();
  args.loss = work_.loss;
  args.correct = work_.correct;
  table_.cross_entropy(rows_of(args, rows.begin, rows.size()));
  bool finite = true;
  for (int64_t i = rows.begin; i < rows.end; ++i) finite &= std::isfinite(work_.loss[i]);
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
  multiply_rows(problem, images.weights_turned, images_of_gradient(l), copied(work_.weights_turned, l, batch_.rows),
                Epilogue<T>(finish));
}

/// Between the two barriers of a step. The first thread also adds up the batch's metrics, and looks at the clock.
template <class T>
bool Backend<T>::loss_is_finite() {
  const bool finite = std::find(job_.finite.begin(), job_.finite.end(), 0) == job_.finite.end();
  if (finite && team_.rank() == 0) {
    add_metrics();
    job_.expired = now() > job_.deadline;
  }
  return finite;
}

template <class T>
void Backend<T>::add_metrics() {
  for (int64_t i = 0; i < batch_.rows; ++i) {
    job_.metrics.loss += static_cast<double>(work_.loss[i]);
    job_.metrics.correct += work_.correct[i];
  }
  job_.metrics.weight += weight_;
  job_.metrics.rows += batch_.rows;
}

template class Backend<float>;
template class Backend<double>;

}  // namespace mlpfast::cpu
