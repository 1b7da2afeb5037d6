#include "cuda/backend.h"

#include "cuda/head.h"

namespace mlpfast::cuda {
namespace {

Matrix<const float> constant(Matrix<float> m) { return {m.data, m.ld}; }

}  // namespace

void Backend::load() {
  // A recorded batch comes once the last one is counted, while weights are updated, into the other array of inputs.
  Graph* const graph = counted_.empty() ? nullptr : Graph::recorded();
  const Graph::Nodes before = graph ? graph->last() : Graph::Nodes{};
  if (graph) graph->wait_for(counted_);
  const bool by_control = job_.rule && !job_.examples.gathered;
  gather({.from = job_.examples,
          .control = by_control ? job_.control : nullptr,
          .first = batch_.first,
          .shift = static_cast<float>(spec_.input_shift),
          .x = inputs(0),
          .label = arrays_.label,
          .row_weight = arrays_.row_weight},
         batch_.rows, job_.stream);
  if (weighted() && job_.examples.labels)
    weigh_batch({arrays_.label}, spec_.sizes.back(), job_.examples.class_weight,
                job_.examples.sample_weight ? arrays_.row_weight : nullptr, batch_.rows, true, &job_.control->batch,
                job_.stream);
  if (graph) graph->wait_also_for(before);
}

void Backend::multiply(GemmArgs args, Layout layout, const GemmScratch& scratch) const {
  args.plan = plan_gemm(args.m, args.n, args.k, spec_.precision);
  args.scratch = scratch;
  gemm(args, layout, job_.stream);
}

GemmArgs Backend::forward_product(int l) const {
  const auto out = static_cast<std::size_t>(l) + 1;
  return {.m = batch_.rows,
          .n = spec_.outputs(l),
          .k = spec_.inputs(l),
          .a = constant(inputs(l)),
          .b = weights(l),
          .finish = Finish::forward,
          .y = arrays_.activation[out],
          .saved = spec_.saves_input(l) ? arrays_.saved[out] : Matrix<float>{},
          .bias = job_.parameters + spec_.bias_at(l),
          .scale = static_cast<float>(spec_.scale(l)),
          .alpha = static_cast<float>(spec_.alpha(l)),
          .activation = spec_.activation(l)};
}

GemmArgs Backend::backward_product(int l) const {
  const auto below = static_cast<std::size_t>(l);
  return {.m = batch_.rows,
          .n = spec_.inputs(l),
          .k = spec_.outputs(l),
          .a = constant(arrays_.gradient[below + 1]),
          .b = weights(l),
          .finish = Finish::backward_input,
          .y = arrays_.gradient[below],
          .saved = arrays_.saved[below],
          .alpha = static_cast<float>(spec_.alpha(l - 1)),
          .activation = spec_.activation(l - 1)};
}

bool Backend::has_head() const {
  const int last = layers() - 1;
  return training() && head_fits(spec_.inputs(last), spec_.outputs(last));
}

void Backend::forward(int l) {
  if (l + 1 < layers() || !has_head()) multiply(forward_product(l), Layout::nn, arrays_.scratch);
}

void Backend::loss() {
  const CrossEntropyArgs args{.rows = batch_.rows,
                              .cols = spec_.sizes.back(),
                              .logits = constant(arrays_.activation.back()),
                              .labels = {arrays_.label},
                              .class_weight = job_.examples.class_weight,
                              .row_weight = job_.examples.sample_weight ? arrays_.row_weight : nullptr,
                              .totals = &job_.control->batch,
                              .weighted = weighted(),
                              .divisor = static_cast<double>(batch_.rows),
                              .d_logits = training() ? arrays_.gradient.back() : Matrix<float>{},
                              .loss = arrays_.loss,
                              .correct = arrays_.correct,
                              .control = job_.control};
  const int last = layers() - 1;
  if (has_head()) {
    head({forward_product(last), args, last > 0 ? backward_product(last) : GemmArgs{}}, job_.stream);
  } else {
    cross_entropy(args, job_.stream);
  }
  if (!job_.rule) return;
  Graph* const graph = Graph::recorded();
  const Graph::Nodes before = graph ? graph->last() : Graph::Nodes{};
  count_batch(arrays_.loss, arrays_.correct, batch_.rows, weighted(), job_.control, job_.stream);
  if (!graph) return;
  counted_ = graph->last();  // for which the next batch alone waits
  graph->wait_for(before);
}

void Backend::backward_input(int l) {
  if (l + 1 < layers() || !has_head()) multiply(backward_product(l), Layout::nt, arrays_.scratch);
}

Update Backend::update_at(int64_t offset) const {
  Update rule = *job_.rule;
  rule.w = job_.parameters + offset;
  for (float*& slot : rule.slots) slot = slot ? slot + offset : nullptr;
  return rule;
}

void Backend::backward_weights(int l, network::UpdateMode mode) {
  const auto below = static_cast<std::size_t>(l);
  const bool store = mode == network::UpdateMode::store;
  const int64_t n = spec_.outputs(l);
  const Matrix<const float> dy = constant(arrays_.gradient[below + 1]);
  branch();
  const bool alone = arrays_.of_weights[below].parts != nullptr;
  if (Graph* const graph = Graph::recorded(); graph && alone) graph->wait_also_for(alone_);
  multiply({.m = spec_.inputs(l),
            .n = n,
            .k = batch_.rows,
            .a = constant(inputs(l)),
            .b = dy,
            .finish = store ? Finish::store : Finish::update,
            .y = {store ? job_.parameter_gradient + spec_.weights_at(l) : nullptr, n},
            .scale = static_cast<float>(spec_.scale(l)),
            .update = store ? Update{} : update_at(spec_.weights_at(l))},
           Layout::tn, arrays_.of_weights[below]);
  if (Graph* const graph = Graph::recorded(); graph && alone) alone_ = graph->last();
  branch();
  bias_gradient({.rows = batch_.rows,
                 .cols = n,
                 .dy = dy,
                 .db = store ? job_.parameter_gradient + spec_.bias_at(l) : nullptr,
                 .update = store ? Update{} : update_at(spec_.bias_at(l)),
                 .scratch = arrays_.of_biases[below]},
                job_.stream);
}

void Backend::update() { update_all(update_at(0), job_.parameter_gradient, spec_.parameters(), job_.stream); }

}  // namespace mlpfast::cuda
