// Networks and update rules as Python passes them, plain data, on their way into C++; the same for every device.
#pragma once
#include "bindings/checks.h"
#include "network/metrics.h"
#include "network/spec.h"
#include "ops/optimizer.h"

namespace mlpfast::bindings {

/// (sizes, activation names, alphas, input_scale, input_shift, precision)
network::Spec spec_from(const py::tuple& plain);

/// An array changed in place, of at least so many numbers; null for None.
template <class T>
T* flat_array(py::handle value, int64_t size, const char* name);

/// (name, [slots], (lr, momentum, nesterov, weight_decay)); each slot has a number for each parameter.
template <class T>
ops::UpdateRule<T> rule_from(const py::tuple& plain, int64_t parameters);

/// A trainer's place: complete epochs, row, and the epoch's sums of loss, weight, correct, rows.
class Progress {
 public:
  explicit Progress(py::handle value);
  int64_t row() const { return static_cast<int64_t>(at_[1]); }
  /// Of the epoch's rows before; one chain of sums an epoch, wherever the clock cuts it.
  network::Metrics metrics() const;
  void advance(int64_t row, const network::Metrics& sums);

 private:
  py::array array_;
  double* at_;
};

py::tuple metrics_tuple(const network::Metrics& m);

}  // namespace mlpfast::bindings
