// Images of the split operands of products by tiles, each made once a step, and the product of a batch's rows.
#include "cpu/backend.h"

namespace mlpfast::cpu {

/// This thread's share of a product of the batch: rows, or columns where b's image is the larger, which then stays in
/// the cache of who split it.
template <class T>
void Backend<T>::multiply_rows(Problem problem, void* a, void* b, const RowImages& images, Matrix<T> copy,
                               Epilogue<T> epilogue) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (problem.parts > 0) {
      const SplitImage left(problem.m, problem.k, problem.parts, a), right(problem.n, problem.k, problem.parts, b);
      const Range strips{lots_.lot().begin / strip_size, ceil_div(lots_.lot().end, strip_size)},
          own = team_.share(strips);
      for (int64_t i = own.begin; images && i < own.end; ++i) images.write(*job_.tiles, problem.a, i, problem.k);
      split_a(*job_.tiles, left, {problem.a, false, true, bool(images)}, own);
      const bool by_rows = problem.m >= problem.n;
      if (!by_rows) team_.barrier();  // as when splitting late: others split some of the rows
      if (splits_late(problem))
        return multiply_unsplit(team_, table_, *job_.tiles, problem, left, {problem.b, problem.transpose_b, true},
                                right, strips, epilogue);
      return multiply_tiles(team_, table_, *job_.tiles, problem, left, right, strips, by_rows, epilogue);
    }
  }
  if (copy.data) {
    problem.b = constant(copy);
    problem.transpose_b = false;
    problem.laid_out = true;
  }
  if (lots_.sharing() == Sharing::layers) return gemm_by_team(team_, table_, problem, lots_.lot(), epilogue);
  gemm_part(table_, problem, lots_.multiplied(), columns_of(problem.n), epilogue);
}

template <class T>
void Backend<T>::prepare_weights(const network::Batch& batch) {
  bool any = false;
  const auto copy = [&](const Problem& p, Matrix<T> to) {
    if (!to.data) return;
    lay_out(team_, table_, p, to);
    any = true;
  };
  const auto split = [&](const Problem& p, void* memory) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (p.parts == 0 || !memory || splits_late(p)) return;
      const SplitImage image(p.n, p.k, p.parts, memory);
      split_b(*job_.tiles, image, {p.b, p.transpose_b, true}, team_.share(image.count()));
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
void Backend<T>::prepare_gradients() {
  if constexpr (sizeof(T) == sizeof(float)) {
    bool any = false;
    for (int l = bytes_ ? 1 : 0; l < layers(); ++l) {
      const Problem p = weights_problem(l);
      if (p.parts == 0) continue;
      const LayerImages& images = work_.images[static_cast<std::size_t>(l)];
      const SplitImage x(p.m, p.k, p.parts, images.x_turned), dy(p.n, p.k, p.parts, images.dy_turned);
      split_a(*job_.tiles, x, {p.a, true, false, images_of_input(l).both()}, team_.share(x.count()));
      split_b(*job_.tiles, dy, {p.b, false, false, images_of_gradient(l).both()}, team_.share(dy.count()));
      any = true;
    }
    if (any) team_.barrier();
  }
}

template <class T>
RowImages Backend<T>::images_of_input(int l) const {
  RowImages images;
  if constexpr (sizeof(T) == sizeof(float)) {
    const LayerImages& memory = work_.images[static_cast<std::size_t>(l)];
    const Problem forward = forward_problem(l, batch_.rows);
    if (forward.parts != 1) return images;
    images.add({forward.m, forward.k, 1, memory.x}, Layout::of_a(false));
    if (!job_.training()) return images;
    const Problem weights = weights_problem(l);
    if (weights.parts == 1) images.add({weights.m, weights.k, 1, memory.x_turned}, Layout::of_a(true));
  }
  return images;
}

template <class T>
RowImages Backend<T>::images_of_gradient(int l) const {
  RowImages images;
  if constexpr (sizeof(T) == sizeof(float)) {
    const LayerImages& memory = work_.images[static_cast<std::size_t>(l)];
    const Problem backward = backward_problem(l, batch_.rows), weights = weights_problem(l);
    if (l == 0 || backward.parts != 1) return images;
    images.add({backward.m, backward.k, 1, memory.dy}, Layout::of_a(false));
    if (weights.parts == 1) images.add({weights.n, weights.k, 1, memory.dy_turned}, Layout::of_b(false));
  }
  return images;
}

template void Backend<float>::multiply_rows(Problem, void*, void*, const RowImages&, Matrix<float>, Epilogue<float>);
template void Backend<float>::prepare_weights(const network::Batch&);
template void Backend<float>::prepare_gradients();
template RowImages Backend<float>::images_of_input(int) const;
template RowImages Backend<float>::images_of_gradient(int) const;
template void Backend<double>::multiply_rows(Problem, void*, void*, const RowImages&, Matrix<double>, Epilogue<double>);
template void Backend<double>::prepare_weights(const network::Batch&);
template void Backend<double>::prepare_gradients();
template RowImages Backend<double>::images_of_input(int) const;
template RowImages Backend<double>::images_of_gradient(int) const;

}  // namespace mlpfast::cpu
