// Hyper-parameters on their way to an update rule, checked.
#pragma once
#include <limits>

#include "bindings/checks.h"

namespace mlpfast::bindings {

inline double require_rate(double value, const char* function, const char* name) {
  if (!(value >= 0 && value <= std::numeric_limits<float>::max()))
    throw value_error(
        function, std::string(name) + " is " + std::to_string(value) + "; it must be a float32 number, not negative");
  return value;
}

template <class T>
ops::StepScalars<T> sgd_scalars(double lr, double momentum, bool nesterov, double weight_decay, const char* function) {
  require_rate(lr, function, "lr");
  require_rate(momentum, function, "momentum");
  require_rate(weight_decay, function, "weight_decay");
  if (nesterov && momentum == 0) throw value_error(function, "nesterov needs momentum above 0");
  return {static_cast<T>(lr), static_cast<T>(weight_decay), static_cast<T>(momentum), nesterov};
}

}  // namespace mlpfast::bindings
