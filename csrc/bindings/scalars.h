// The checks of arguments that are not arrays: numbers, flags, names of a list. Messages name the function, the
// argument, what was passed and what would do.
#pragma once
#include <functional>
#include <limits>
#include <string_view>

#include "bindings/checks.h"
#include "network/spec.h"

namespace mlpfast::bindings {

/// "argument is VALUE; it must be EXPECTED", of whichever error.
std::string unfit(py::handle value, const char* argument, const std::string& expected);

/// A real number that T can hold, at least `least`.
template <class T>
T real_argument(py::handle value, const char* function, const char* argument, T least = -std::numeric_limits<T>::max());
int64_t integer_argument(py::handle value, const char* function, const char* argument);
bool flag_argument(py::handle value, const char* function, const char* argument);

/// The characters of a Python string; empty for anything else.
std::string_view text_of(py::handle value);

/// The position of a name in a list; `name_of` gives the name of a row.
template <class List, class NameOf = std::identity>
int choice_argument(py::handle value, const List& list, const char* function, const char* argument,
                    NameOf name_of = {}) {
  const std::string_view text = text_of(value);
  std::string known;
  int i = 0;
  for (const auto& row : list) {
    if (text == name_of(row)) return i;
    ++i;
  }
  for (const auto& row : list) known += std::string(known.empty() ? "" : ", ") + name_of(row);
  if (!PyUnicode_Check(value.ptr())) throw type_error(function, unfit(value, argument, "one of " + known));
  throw value_error(function,
                    std::string("unknown ") + argument + " " + std::string(py::repr(value)) + "; known are " + known);
}

ops::Activation activation_argument(py::handle name, const char* function, const char* argument = "activation");
/// The activation's parameter, its default for None.
template <class T>
T alpha_argument(ops::Activation activation, py::handle alpha, const char* function);
network::Precision precision_argument(py::handle name, const char* function);

/// The numbers of an update rule.
template <class T>
ops::StepScalars<T> sgd_scalars(py::handle lr, py::handle momentum, py::handle nesterov, py::handle weight_decay,
                                const char* function);

}  // namespace mlpfast::bindings
