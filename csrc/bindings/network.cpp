// The training step, evaluation and prediction over a model's flat parameter array. Called by mlpfast.model and
// mlpfast.trainer, which have checked what users passed; here only what would crash is checked again.
#include <pybind11/stl.h>

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "bindings/checks.h"
#include "bindings/register.h"
#include "bindings/spec.h"
#include "cpu/run.h"
#include "cpu/spare.h"

namespace mlpfast::bindings {
namespace {

using network::Spec;

/// Examples as C++ sees them; `kept` holds what they lie in.
template <class T>
struct ExampleInput {
  std::vector<py::object> kept;
  cpu::Examples<T> examples{};
  int64_t rows;

  ExampleInput(const Spec& spec, const py::array& x, py::handle labels, py::handle sample_weight,
               py::handle class_weight) {
    if (x.ndim() != 2 || x.shape(1) != spec.sizes.front() ||
        (x.size() > 1 && x.shape(1) > 1 && x.strides(1) != x.itemsize()))
      throw value_error("network", "x has shape " + shape_text(shape_of(x)) + ", expected rows of " +
                                       std::to_string(spec.sizes.front()) + " adjacent features");
    const py::dtype dtype = x.dtype();
    const bool swapped = dtype.byteorder() == '>' || dtype.byteorder() == '<';  // the machine's own is '='
    examples.features = {static_cast<const char*>(x.data()), x.strides(0), x.shape(1),
                         swapped ? nullptr : cpu::feature_loader<T>(dtype.kind(), dtype.itemsize()),
                         dtype.itemsize() == 1 && dtype.kind() != 'i'};
    if (!examples.features.load)
      throw type_error("network", "no reader for features of dtype " + std::string(py::str(dtype)));
    rows = x.shape(0);
    kept.push_back(x);
    if (!labels.is_none()) {
      const auto y = py::array_t<std::int32_t, py::array::c_style>(py::reinterpret_borrow<py::object>(labels));
      require_shape(y, {rows}, "network", "y", "(one label for each row of x)");
      examples.labels = y.data();  // from labels(), which checked the range
      kept.push_back(y);
    }
    if (!sample_weight.is_none())
      examples.sample_weight = keep_weights(sample_weight, rows, "sample_weight", "(one for each row of x)");
    if (!class_weight.is_none())
      examples.class_weight = keep_weights(class_weight, spec.sizes.back(), "class_weight", "(one for each class)");
  }

 private:
  const T* keep_weights(py::handle value, int64_t size, const char* name, const char* why) {
    const Input<T> weights = array_input<T>(value, "network", name, 1);
    require_shape(weights.array, {size}, "network", name, why);
    kept.push_back(weights.array);
    return weights.data();
  }
};

template <class T>
std::size_t workspace_bytes(const cpu::Workspace<T>& workspace) {
  return static_cast<std::size_t>(workspace.size()) * sizeof(T);
}

template <class T>
cpu::Job<T> job_of(const Spec& spec, const ExampleInput<T>& input, int64_t batch, py::handle parameters,
                   py::handle gradient, const cpu::Spare& memory) {
  cpu::Workspace<T> workspace(spec, batch, cpu::Purpose::training);
  if (memory.bytes() < workspace_bytes(workspace))
    throw value_error("network", "the workspace was made for a smaller batch or network");
  workspace.place(memory.as<T>());
  return {.spec = spec,
          .examples = input.examples,
          .workspace = std::move(workspace),
          .parameters = flat_array<T>(parameters, spec.parameters(), "parameters"),
          .parameter_gradient = flat_array<T>(gradient, spec.parameters(), "gradient"),
          .table = cpu::active_table<T>(),
          .tiles = cpu::active_isa().tiles};
}

/// rule: (name, [slots], (lr, momentum, nesterov, weight_decay)); order: (seed, epoch) or None; progress: epochs, row,
/// and the epoch's sums of loss, weight, correct, rows, advanced here; how: (batch, drop_last, fused, seconds).
/// False where the batch at the new row has a loss that is not finite.
template <class T>
bool train(py::handle parameters, const py::tuple& plain_spec, py::handle gradient, const py::tuple& rule,
           const py::array& x, py::handle labels, py::handle sample_weight, py::handle class_weight, py::handle order,
           const cpu::Spare& workspace, py::handle progress_value, const py::tuple& how) {
  const Spec spec = spec_from(plain_spec);
  ExampleInput<T> input(spec, x, labels, sample_weight, class_weight);
  Progress progress(progress_value);
  cpu::TrainingRun run{progress.row(),
                       input.rows,
                       how[0].cast<int64_t>(),
                       how[1].cast<bool>(),
                       how[2].cast<bool>() ? network::UpdateMode::fused : network::UpdateMode::store,
                       how[3].cast<double>()};
  if (run.batch < 1 || run.first < 0)
    throw value_error("network", "batch must be positive, the first row not negative");
  std::optional<ops::Shuffle> shuffle;
  if (!order.is_none()) {
    const auto [seed, epoch] = order.cast<std::pair<std::uint64_t, std::uint64_t>>();
    input.examples.shuffle = &shuffle.emplace(run.rows, seed, epoch);
  }
  auto job = job_of(spec, input, run.batch, parameters, gradient, workspace);
  if (!job.parameter_gradient && run.mode == network::UpdateMode::store)
    throw value_error("network", "a step that is not fused needs an array for the gradient");

  const ops::UpdateRule<T> optimization = rule_from<T>(rule, spec.parameters());
  job.optimization = &optimization;
  job.metrics = progress.metrics();

  cpu::TrainingResult result;
  without_gil([&] { result = cpu::train(job, run); });
  progress.advance(result.next, job.metrics);
  return !result.diverged;
}

/// Metrics of all rows as one batch; their gradient is stored.
template <class T>
py::tuple gradients(py::handle parameters, const py::tuple& plain_spec, py::handle gradient, const py::array& x,
                    py::handle labels, const cpu::Spare& workspace) {
  const Spec spec = spec_from(plain_spec);
  const ExampleInput<T> input(spec, x, labels, py::none(), py::none());
  auto job = job_of(spec, input, input.rows, parameters, gradient, workspace);
  if (!job.parameter_gradient || input.rows < 1)
    throw value_error("network", "gradients need a row and an array for them");
  without_gil([&] { cpu::gradients(job, input.rows); });
  return metrics_tuple(job.metrics);
}

/// Takes all rows through the layers, signals being looked after now and then.
template <class T>
void forward(const cpu::ForwardRun<T>& run) {
  const double work = static_cast<double>(run.spec.parameters()) * static_cast<double>(run.rows);
  for (int64_t next = 0; next < run.rows;) {
    without_gil(work, [&] { next = cpu::forward(run, next); });
    if (next < run.rows && PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

constexpr double seconds_per_call = 0.1;

/// Outputs before the loss's link, [rows, sizes[-1]].
template <class T>
py::array predict(py::handle parameters, const py::tuple& plain_spec, const py::array& x) {
  const Spec spec = spec_from(plain_spec);
  const ExampleInput<T> input(spec, x, py::none(), py::none(), py::none());
  const T* weights = flat_array<T>(parameters, spec.parameters(), "parameters");
  py::array outputs = new_array<T>({input.rows, spec.sizes.back()}, "MLP");
  forward<T>({spec, input.examples, weights, input.rows, nullptr, nullptr, pointer<T>(outputs), seconds_per_call});
  return outputs;
}

/// (loss sum, weight, correct, rows) of labelled examples.
template <class T>
py::tuple evaluate(py::handle parameters, const py::tuple& plain_spec, const py::array& x, py::handle labels) {
  const Spec spec = spec_from(plain_spec);
  const ExampleInput<T> input(spec, x, labels, py::none(), py::none());
  const T* weights = flat_array<T>(parameters, spec.parameters(), "parameters");
  const auto rows = static_cast<std::size_t>(input.rows);
  std::vector<T> loss(rows);
  std::vector<std::uint8_t> correct(rows);
  forward<T>({spec, input.examples, weights, input.rows, loss.data(), correct.data(), nullptr, seconds_per_call});
  network::Metrics metrics{0, static_cast<double>(rows), 0, input.rows};
  for (std::size_t i = 0; i < rows; ++i) {
    metrics.loss += static_cast<double>(loss[i]);
    metrics.correct += correct[i];
  }
  return metrics_tuple(metrics);
}

/// What train and gradients need besides: for the CPU memory, for a GPU the examples too.
template <class T>
cpu::Spare workspace(py::handle, const py::tuple& plain_spec, int64_t batch, py::handle, py::handle, py::handle,
                     py::handle) {
  const Spec spec = spec_from(plain_spec);
  const std::size_t bytes = workspace_bytes(cpu::Workspace<T>(spec, batch, cpu::Purpose::training));
  try {
    return cpu::Spare(bytes);
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, ("MLP: a batch of " + std::to_string(batch) + " rows takes " +
                                        std::to_string(bytes) + " bytes of memory; take fewer rows at a time")
                                           .c_str());
    throw py::error_already_set();
  }
}

/// Row numbers in the order of an epoch.
py::array_t<int64_t> shuffled(int64_t rows, std::uint64_t seed, std::uint64_t epoch) {
  const ops::Shuffle shuffle(rows, seed, epoch);
  py::array_t<int64_t> order(rows);
  for (int64_t i = 0; i < rows; ++i) order.mutable_data()[i] = shuffle(i);
  return order;
}

}  // namespace

void register_network(py::module_& m) {
  py::class_<cpu::Spare>(m, "Workspace", py::module_local());
  m.def("train", by_first_array(train<float>, train<double>));
  m.def("gradients", by_first_array(gradients<float>, gradients<double>));
  m.def("predict", by_first_array(predict<float>, predict<double>));
  m.def("evaluate", by_first_array(evaluate<float>, evaluate<double>));
  m.def("shuffled", shuffled);
  m.def("labels", [](py::handle y, int64_t rows, int64_t classes, const std::string& function) {
    py::array_t<std::int32_t> checked(rows);
    label_input(y, rows, classes, py::none(), function.c_str(), "y", checked.mutable_data());
    return checked;
  });
  m.def("workspace", by_first_array(workspace<float>, workspace<double>));
}

}  // namespace mlpfast::bindings
