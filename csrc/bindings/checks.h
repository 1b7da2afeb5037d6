// The checks of arrays on the C++ side, once: arrays of any layout become rows a kernel can read, outputs are refused
// unless a kernel can write them in place. Messages name the function, the argument, the shapes and the fix.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "cpu/dispatch.h"

namespace mlpfast::bindings {

namespace py = pybind11;
using cpu::Matrix;
using std::int64_t;
using Shape = std::vector<py::ssize_t>;

/// "name: text", to be thrown.
py::value_error value_error(const char* function, const std::string& text);
py::type_error type_error(const char* function, const std::string& text);
std::string shape_text(const Shape& shape);
template <class T>
const char* dtype_name() {
  return sizeof(T) == 4 ? "float32" : "float64";
}
Shape shape_of(const py::array& array);
/// Another array of the same memory, with a shape of its own.
py::array view(const py::array& array);

/// The memory an array can touch, from its first byte to behind its last; nothing for an empty array.
struct Extent {
  const char* first = nullptr;
  const char* last = nullptr;

  Extent() = default;
  explicit Extent(const py::array& array);
  bool operator==(const Extent&) const = default;
  bool overlaps(const Extent& other) const { return first < other.last && other.first < last; }
};

/// An array argument as it will be read. A view of our own: a user's code that runs between the checks and the kernel
/// may give the user's array object another shape.
template <class T>
struct Input {
  py::array array;
  Extent given;             // where the user's array lies, which may be copied
  bool transposed = false;  // stored with columns contiguous; only matrix_input returns such

  Input() = default;
  Input(const py::array& source, const Extent& where, bool by_columns = false)
      : array(view(source)), given(where), transposed(by_columns) {}
  const T* data() const { return static_cast<const T*>(array.data()); }
  int64_t size() const { return array.size(); }
  int64_t rows() const { return array.shape(0); }
  int64_t cols() const { return array.shape(1); }
  Matrix<const T> matrix() const {
    const int64_t ld = array.strides(transposed ? 1 : 0) / static_cast<int64_t>(sizeof(T));
    return {data(), ld};
  }
};

/// C-contiguous, aligned, native, of type T; copied where it is not. `ndim` -1 takes any number of dimensions.
template <class T>
Input<T> array_input(py::handle value, const char* function, const char* name, int ndim);
/// Two dimensions; rows or columns contiguous are taken as they lie.
template <class T>
Input<T> matrix_input(py::handle value, const char* function, const char* name);
/// Throws unless the input has this shape; `why` says where the shape comes from.
void require_shape(const py::array& array, const Shape& shape, const char* function, const char* name, const char* why);

template <class T>
py::array new_array(const Shape& shape, const char* function);
/// The array to write: a new one for None, else `out` where a kernel can write it and it overlaps none of `inputs`.
/// `same` lists those of them that may be the very same memory.
template <class T>
py::array output(py::handle out, const Shape& shape, const char* function, std::initializer_list<Extent> inputs,
                 std::initializer_list<Extent> same = {});
/// An argument changed in place.
template <class T>
py::array in_place(py::handle value, const char* function, const char* name);

/// Class labels, checked against [0, classes), as int32 to[rows]; `ignore_index` (None: nothing) becomes -1.
void label_input(py::handle value, int64_t rows, int64_t classes, py::handle ignore_index, const char* function,
                 const char* name, std::int32_t* to);

/// Whether a value is a NumPy array of float64. What else has numbers, lists above all, is content with float32.
bool is_float64_array(py::handle value);

/// The arrays of NumPy, in numbers of T. What a function of the kernels does with arrays is written over a class like
/// this, of one device, which also has the operations.
template <class T>
struct Host {
  using Number = T;

  Input<T> array(py::handle value, const char* function, const char* name, int ndim = -1) const {
    return array_input<T>(value, function, name, ndim);
  }
  Input<T> matrix(py::handle value, const char* function, const char* name) const {
    return matrix_input<T>(value, function, name);
  }
  py::array output(py::handle out, const Shape& shape, const char* function, std::initializer_list<Extent> inputs,
                   std::initializer_list<Extent> same = {}) const {
    return bindings::output<T>(out, shape, function, inputs, same);
  }
  py::array in_place(py::handle value, const char* function, const char* name) const {
    return bindings::in_place<T>(value, function, name);
  }
  /// What Python gets for an output, of which `out` was asked for.
  py::object result(const py::array& array, py::handle) const { return array; }
};

/// One function for Python of its float32 and float64 versions: float64 where any argument is an array of float64.
template <class R, class Single, class Double, class... Args>
auto by_any_array(R (*f32)(const Single&, Args...), R (*f64)(const Double&, Args...)) {
  return [=](Args... args) {
    const auto asks = [](const auto& value) {
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, py::handle>) return is_float64_array(value);
      return false;
    };
    return (asks(args) || ...) ? f64(Double{}, args...) : f32(Single{}, args...);
  };
}

/// The same, decided by the first argument, an array that is written.
template <class R, class Single, class Double, class... Args>
auto by_written_array(R (*f32)(const Single&, py::handle, Args...), R (*f64)(const Double&, py::handle, Args...)) {
  return [=](py::handle first, Args... args) {
    return is_float64_array(first) ? f64(Double{}, first, args...) : f32(Single{}, first, args...);
  };
}

/// The same of functions of a network, decided by the first argument, its parameters.
template <class R, class... Args>
auto by_first_array(R (*f32)(py::handle, Args...), R (*f64)(py::handle, Args...)) {
  return [=](py::handle first, Args... args) {
    return is_float64_array(first) ? f64(first, args...) : f32(first, args...);
  };
}

template <class T>
T* pointer(py::array& array) {
  return static_cast<T*>(array.mutable_data());
}

/// Runs f without Python's lock. Not by a destructor: at the interpreter's exit a daemon thread is unwound from where
/// it asks for the lock again, which a destructor may not let pass.
template <class F>
void without_gil(const F& f) {
  PyThreadState* state = PyEval_SaveThread();
  try {
    f();
  } catch (const std::exception&) {
    PyEval_RestoreThread(state);
    throw;
  }
  PyEval_RestoreThread(state);
}

/// The same where it is worth the trouble; `work` in multiply-adds.
template <class F>
void without_gil(double work, const F& f) {
  if (work < 1 << 17) return f();
  without_gil(f);
}

/// The same in a destructor: the interpreter may be ending.
template <class F>
void end_without_gil(const F& f) {
  if (Py_IsInitialized()) {
    without_gil(f);
  } else {
    f();
  }
}

}  // namespace mlpfast::bindings
