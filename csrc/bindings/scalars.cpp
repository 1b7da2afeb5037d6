#include "bindings/scalars.h"

#include "network/spec.h"

namespace mlpfast::bindings {
namespace {

bool is_a(py::handle value, const char* module, const char* type) {
  return py::isinstance(value, py::module_::import(module).attr(type));
}

/// A Python or NumPy number; huge ones are infinite.
double number_of(py::handle value, const char* function, const char* argument) {
  if (PyFloat_Check(value.ptr())) return PyFloat_AS_DOUBLE(value.ptr());
  if (PyBool_Check(value.ptr()) || !is_a(value, "numbers", "Real"))
    throw type_error(function, unfit(value, argument, "a real number"));
  const double number = PyFloat_AsDouble(value.ptr());
  if (!PyErr_Occurred()) return number;
  if (!PyErr_ExceptionMatches(PyExc_OverflowError)) throw py::error_already_set();
  PyErr_Clear();
  return std::numeric_limits<double>::infinity();
}

}  // namespace

std::string unfit(py::handle value, const char* argument, const std::string& expected) {
  const py::str text(py::repr(value)[py::slice(0, 200, 1)]);
  return std::string(argument) + " is " + std::string(text) + "; it must be " + expected;
}

template <class T>
T real_argument(py::handle value, const char* function, const char* argument, T least) {
  constexpr T largest = std::numeric_limits<T>::max();
  const double number = number_of(value, function, argument);
  if (number >= least && number <= largest) return static_cast<T>(number);
  throw value_error(
      function, unfit(value, argument,
                      std::string("a finite ") + dtype_name<T>() + " number" + (least == 0 ? ", not negative" : "")));
}

int64_t integer_argument(py::handle value, const char* function, const char* argument) {
  if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr()))
    throw type_error(function, unfit(value, argument, "an integer"));
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index && !PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
  if (!index) PyErr_Clear(), throw type_error(function, unfit(value, argument, "an integer"));  // an array, say
  int overflow = 0;
  const int64_t number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow) throw value_error(function, unfit(value, argument, "an integer of 64 bits"));
  return number;
}

bool flag_argument(py::handle value, const char* function, const char* argument) {
  if (PyBool_Check(value.ptr())) return value.is(py::handle(Py_True));
  if (is_a(value, "numpy", "bool_")) return PyObject_IsTrue(value.ptr());
  throw type_error(function, unfit(value, argument, "True or False"));
}

std::string_view text_of(py::handle value) {
  if (!PyUnicode_Check(value.ptr())) return {};
  Py_ssize_t size = 0;
  if (const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size)) return {text, static_cast<std::size_t>(size)};
  PyErr_Clear();  // half of a surrogate pair
  return {};
}

ops::Activation activation_argument(py::handle name, const char* function, const char* argument) {
  return static_cast<ops::Activation>(
      choice_argument(name, ops::activations, function, argument, std::mem_fn(&ops::ActivationInfo::name)));
}

template <class T>
T alpha_argument(ops::Activation activation, py::handle alpha, const char* function) {
  const ops::ActivationInfo& info = ops::activations[static_cast<int>(activation)];
  if (alpha.is_none()) return static_cast<T>(info.default_alpha);
  if (!info.has_alpha) throw value_error(function, std::string("activation '") + info.name + "' takes no alpha");
  return real_argument<T>(alpha, function, "alpha");
}

network::Precision precision_argument(py::handle name, const char* function) {
  return static_cast<network::Precision>(choice_argument(name, network::precisions, function, "precision"));
}

template <class T>
ops::StepScalars<T> sgd_scalars(py::handle lr, py::handle momentum, py::handle nesterov, py::handle weight_decay,
                                const char* function) {
  ops::StepScalars<T> scalars{
      real_argument<T>(lr, function, "lr", 0), real_argument<T>(weight_decay, function, "weight_decay", 0),
      real_argument<T>(momentum, function, "momentum", 0), flag_argument(nesterov, function, "nesterov")};
  if (scalars.nesterov && scalars.momentum == 0) throw value_error(function, "nesterov needs momentum above 0");
  return scalars;
}

template float real_argument<float>(py::handle, const char*, const char*, float);
template double real_argument<double>(py::handle, const char*, const char*, double);
template float alpha_argument<float>(ops::Activation, py::handle, const char*);
template double alpha_argument<double>(ops::Activation, py::handle, const char*);
template ops::StepScalars<float> sgd_scalars<float>(py::handle, py::handle, py::handle, py::handle, const char*);
template ops::StepScalars<double> sgd_scalars<double>(py::handle, py::handle, py::handle, py::handle, const char*);

}  // namespace mlpfast::bindings
