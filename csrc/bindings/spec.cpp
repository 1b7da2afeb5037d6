#include "bindings/spec.h"

#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/scalars.h"

namespace mlpfast::bindings {

using network::Spec;

Spec spec_from(const py::tuple& plain) {
  const auto number = [](py::handle value, const char* name) {
    real_argument<float>(value, "MLP", name);  // floats must hold it, float64 networks take all of it
    return real_argument<double>(value, "MLP", name);
  };
  Spec spec{plain[0].cast<std::vector<int64_t>>(), {},
            plain[2].cast<std::vector<double>>(),  number(plain[3], "input_scale"),
            number(plain[4], "input_shift"),       precision_argument(plain[5], "MLP")};
  for (const py::handle name : plain[1]) spec.activations.push_back(activation_argument(name, "MLP"));
  if (spec.sizes.size() < 2 || spec.activations.size() + 2 != spec.sizes.size() ||
      spec.alphas.size() != spec.activations.size() || *std::min_element(spec.sizes.begin(), spec.sizes.end()) < 1)
    throw value_error("network",
                      "a spec needs two positive sizes, and an activation and an alpha for each hidden layer");
  return spec;
}

template <class T>
T* flat_array(py::handle value, int64_t size, const char* name) {
  if (value.is_none()) return nullptr;
  py::array array = in_place<T>(value, "network", name);
  if (array.size() < size)
    throw value_error("network", std::string(name) + " has " + std::to_string(array.size()) + " numbers, needs " +
                                     std::to_string(size));
  return pointer<T>(array);
}

template <class T>
ops::UpdateRule<T> rule_from(const py::tuple& plain, int64_t parameters) {
  const auto name = plain[0].cast<std::string>();
  const auto slots = plain[1].cast<std::vector<py::object>>();
  const auto [lr, momentum, nesterov, weight_decay] =
      plain[2].cast<std::tuple<py::object, py::object, py::object, py::object>>();
  const auto* info = std::find_if(std::begin(ops::optimizers), std::end(ops::optimizers),
                                  [&](const ops::OptimizerInfo& row) { return name == row.name; });
  if (info == std::end(ops::optimizers) || static_cast<std::size_t>(info->slots) != slots.size())
    throw value_error("network", "no optimizer '" + name + "' with " + std::to_string(slots.size()) + " slots");
  ops::UpdateRule<T> rule{static_cast<ops::Optimizer>(info - std::begin(ops::optimizers)),
                          sgd_scalars<T>(lr, momentum, nesterov, weight_decay, "SGD"),
                          {}};
  for (std::size_t s = 0; s < slots.size(); ++s) rule.slots[s] = flat_array<T>(slots[s], parameters, "slot");
  return rule;
}

Progress::Progress(py::handle value) : array_(in_place<double>(value, "network", "progress")) {
  require_shape(array_, {6}, "network", "progress", "of a trainer");
  at_ = pointer<double>(array_);
}

network::Metrics Progress::metrics() const {
  if (row() == 0) return {};
  return {at_[2], at_[3], static_cast<int64_t>(at_[4]), static_cast<int64_t>(at_[5])};
}

void Progress::advance(int64_t row, const network::Metrics& sums) {
  const double values[] = {static_cast<double>(row), sums.loss, sums.weight, static_cast<double>(sums.correct),
                           static_cast<double>(sums.rows)};
  std::copy(std::begin(values), std::end(values), at_ + 1);
}

py::tuple metrics_tuple(const network::Metrics& m) { return py::make_tuple(m.loss, m.weight, m.correct, m.rows); }

template float* flat_array<float>(py::handle, int64_t, const char*);
template ops::UpdateRule<float> rule_from<float>(const py::tuple&, int64_t);
template double* flat_array<double>(py::handle, int64_t, const char*);
template ops::UpdateRule<double> rule_from<double>(const py::tuple&, int64_t);

}  // namespace mlpfast::bindings
