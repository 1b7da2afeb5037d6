// Images of the split operands of products by tiles, each made once a step, and the product of a batch's rows.
#include "cpu/backend.h"

namespace mlpfast::cpu {

/// This thread's share of a product of the batch: rows, or columns where b's image is the larger, which then stays in
/// the cache of who split it. Its rows are split here, at one part into both `images`.
template <class T>
void Backend<T>::multiply_rows(Problem problem, void* weights, const std::optional<RowImages>& images, Matrix<T> copy,
                               Epilogue<T> epilogue) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (problem.parts > 0) {
      const SplitImage left = image_of_rows(problem), right(problem.n, problem.k, problem.parts, weights);
      const Range strips{left.first, left.first + left.count()}, own = team_.share(strips);
      if (images)
        for (int64_t i = own.begin; i < own.end; ++i) images->write(*job_.tiles, problem.a, i);
      split_a(*job_.tiles, left, {problem.a, false, true, images.has_value()}, own);
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

/// Images that forward() or backward_input() wrote are judged only.
template <class T>
void Backend<T>::prepare_gradients() {
  if constexpr (sizeof(T) == sizeof(float)) {
    bool any = false;
    for (int l = bytes_ ? 1 : 0; l < layers(); ++l) {
      const Problem p = weights_problem(l);
      if (p.parts == 0) continue;
      const LayerImages& images = work_.images[static_cast<std::size_t>(l)];
      const SplitImage x(p.m, p.k, p.parts, images.x_turned), dy(p.n, p.k, p.parts, images.dy_turned);
      split_a(*job_.tiles, x, {p.a, true, false, images_of_input(l).has_value()}, team_.share(x.count()));
      split_b(*job_.tiles, dy, {p.b, false, false, images_of_gradient(l).has_value()}, team_.share(dy.count()));
      any = true;
    }
    if (any) team_.barrier();
  }
}

template <class T>
std::optional<RowImages> Backend<T>::images_of_input(int l) const {
  if constexpr (sizeof(T) == sizeof(float)) {
    const Problem rows = forward_problem(l, batch_.rows);
    if (rows.parts != 1 || !job_.training()) return {};
    const Problem p = weights_problem(l);
    void* const turned = work_.images[static_cast<std::size_t>(l)].x_turned;
    if (p.parts == 1) return RowImages{image_of_rows(rows), {p.m, p.k, 1, turned}, Layout::of_a(true)};
  }
  return {};
}

template <class T>
std::optional<RowImages> Backend<T>::images_of_gradient(int l) const {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (l == 0) return {};
    const Problem rows = backward_problem(l, batch_.rows), p = weights_problem(l);
    void* const turned = work_.images[static_cast<std::size_t>(l)].dy_turned;
    if (rows.parts == 1 && p.parts == 1)
      return RowImages{image_of_rows(rows), {p.n, p.k, 1, turned}, Layout::of_b(false)};
  }
  return {};
}

template void Backend<float>::multiply_rows(Problem, void*, const std::optional<RowImages>&, Matrix<float>,
                                            Epilogue<float>);
template void Backend<float>::prepare_weights(const network::Batch&);
template void Backend<float>::prepare_gradients();
template std::optional<RowImages> Backend<float>::images_of_input(int) const;
template std::optional<RowImages> Backend<float>::images_of_gradient(int) const;
template void Backend<double>::multiply_rows(Problem, void*, const std::optional<RowImages>&, Matrix<double>,
                                             Epilogue<double>);
template void Backend<double>::prepare_weights(const network::Batch&);
template void Backend<double>::prepare_gradients();
template std::optional<RowImages> Backend<double>::images_of_input(int) const;
template std::optional<RowImages> Backend<double>::images_of_gradient(int) const;

}  // namespace mlpfast::cpu
