// Networks and update rules as Python passes them, plain data, on their way into C++; the same for every device.
#pragma once
#include "bindings/checks.h"
#include "network/spec.h"
#include "ops/optimizer.h"

namespace mlpfast::bindings {

/// (sizes, activation names, alphas, input_scale, input_shift, precision)
network::Spec spec_from(const py::tuple& plain);

/// An array changed in place, of at least so many numbers; null for None.
template <class T>
T* flat_array(py::handle value, int64_t size, const char* name);

template <class T>
struct Rule {
  ops::Optimizer optimizer;
  ops::StepScalars<T> scalars;
  T* slots[ops::max_slots];
};

/// (name, [slots], (lr, momentum, nesterov, weight_decay)); each slot has a number for each parameter.
template <class T>
Rule<T> rule_from(const py::tuple& plain, int64_t parameters);

}  // namespace mlpfast::bindings
