#include "bindings/checks.h"

#include <cstring>

#include "bindings/scalars.h"

namespace mlpfast::bindings {
namespace {

constexpr int aligned_flag = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int writeable_flag = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

std::string dtype_text(const py::array& array) { return py::str(array.dtype()); }

/// Of type T in native byte order.
template <class T>
bool native(const py::array& array) {
  return py::dtype::of<T>().is(array.dtype()) || array.dtype().equal(py::dtype::of<T>());
}

/// NumPy's array of a value; but for ragged lists, whatever the value's own code raises passes through.
py::array as_array(py::handle value, const char* function, const char* name) {
  if (py::isinstance<py::array>(value)) return py::reinterpret_borrow<py::array>(value);
  try {
    return py::module_::import("numpy").attr("asarray")(value).cast<py::array>();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError)) throw;
    throw value_error(function, std::string(name) + " is no array: " + std::string(py::str(error.value())));
  }
}

bool is_float(const py::dtype& dtype, std::size_t bytes) {
  return dtype.kind() == 'f' && static_cast<std::size_t>(dtype.itemsize()) == bytes;
}

/// The array behind a value that is read: float32 or float64 in any byte order, or numbers that are no array yet.
template <class T>
py::array readable(py::handle value, const char* function, const char* name) {
  const py::array array = as_array(value, function, name);
  const py::dtype dtype = array.dtype();
  const bool listed = !py::isinstance<py::array>(value) && (dtype.kind() == 'i' || dtype.kind() == 'u');
  if (dtype.kind() == 'O' && !py::isinstance<py::array>(value))
    throw type_error(function, std::string(name) + " is of type " + Py_TYPE(value.ptr())->tp_name +
                                   " (dtype object), expected an array of float32 or float64");
  if (!listed && !is_float(dtype, 4) && !is_float(dtype, 8))
    throw type_error(function, std::string(name) + " has dtype " + dtype_text(array) +
                                   ", expected float32 or float64; convert it with .astype(numpy." + dtype_name<T>() +
                                   ")");
  return array;
}

/// The array behind a value that is written: of type T.
template <class T>
py::array writable(py::handle value, const char* function, const char* name) {
  const py::array array = py::reinterpret_borrow<py::array>(value);
  if (!is_float(array.dtype(), sizeof(T)))
    throw type_error(function, std::string(name) + " has dtype " + dtype_text(array) + ", expected " + dtype_name<T>() +
                                   ", in which this call computes");
  const auto complain = [&](const std::string& what) {
    throw value_error(function,
                      std::string(name) + " " + what + "; pass a writeable C-contiguous array of " + dtype_name<T>());
  };
  if (!(array.flags() & writeable_flag)) complain("is read-only");
  if (!(array.flags() & py::array::c_style)) complain("is not C-contiguous");
  if (!(array.flags() & aligned_flag)) complain("is not aligned");
  if (!native<T>(array)) complain("has swapped bytes");
  return array;
}

std::string dimensions_text(int ndim) { return std::to_string(ndim) + (ndim == 1 ? " dimension" : " dimensions"); }

void require_ndim(const py::array& array, int ndim, const char* function, const char* name) {
  if (ndim >= 0 && array.ndim() != ndim)
    throw value_error(function, std::string(name) + " must have " + dimensions_text(ndim) + ", got shape " +
                                    shape_text(shape_of(array)));
}

/// How labels are made of an array that is of another dtype or has two dimensions.
std::string label_advice(const py::array& array, const char* name) {
  if (array.ndim() == 2)
    return (array.shape(1) == 1 ? "pass " : "of one-hot rows pass ") + std::string(name) +
           (array.shape(1) == 1 ? ".ravel()" : ".argmax(axis=1)");
  if (std::strchr("USO", array.dtype().kind()))
    return "number the classes with numpy.unique(" + std::string(name) + ", return_inverse=True)[1]";
  return "convert whole numbers with .astype(numpy.int64)";
}

template <class T>
py::array contiguous(const py::array& array) {
  constexpr int flags = py::array::c_style | py::array::forcecast | aligned_flag;
  return py::array_t<T, flags>(array);  // throws what NumPy raises, MemoryError above all
}

}  // namespace

bool is_float64_array(py::handle value) {
  return py::isinstance<py::array>(value) && is_float(py::reinterpret_borrow<py::array>(value).dtype(), 8);
}

Extent::Extent(const py::array& array) : first(static_cast<const char*>(array.data())), last(first) {
  if (array.size() == 0) return;
  for (py::ssize_t d = 0; d < array.ndim(); ++d) {
    const py::ssize_t reach = (array.shape(d) - 1) * array.strides(d);
    const char*& end = reach < 0 ? first : last;
    end += reach;
  }
  last += array.itemsize();
}

py::value_error value_error(const char* function, const std::string& text) {
  return py::value_error(std::string(function) + ": " + text);
}

py::type_error type_error(const char* function, const std::string& text) {
  return py::type_error(std::string(function) + ": " + text);
}

std::string shape_text(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

Shape shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

/// Not by Python's method, whose call takes a tenth of that of a small kernel.
py::array view(const py::array& array) {
  PyObject* const seen = py::detail::npy_api::get().PyArray_View_(array.ptr(), nullptr, nullptr);
  if (!seen) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(seen);
}

template <class T>
Input<T> array_input(py::handle value, const char* function, const char* name, int ndim) {
  const py::array array = readable<T>(value, function, name);
  require_ndim(array, ndim, function, name);
  return {contiguous<T>(array), Extent(array)};
}

template <class T>
Input<T> matrix_input(py::handle value, const char* function, const char* name) {
  const py::array array = readable<T>(value, function, name);
  require_ndim(array, 2, function, name);
  constexpr py::ssize_t item = sizeof(T);
  if (native<T>(array) && (array.flags() & aligned_flag)) {
    const auto lies = [&](int along, int across) {
      return array.strides(along) == item && array.strides(across) >= array.shape(along) * item &&
             array.strides(across) % item == 0;
    };
    if (lies(1, 0)) return {array, Extent(array)};
    if (lies(0, 1)) return {array, Extent(array), true};
  }
  return {contiguous<T>(array), Extent(array)};
}

void require_shape(const py::array& array, const Shape& shape, const char* function, const char* name,
                   const char* why) {
  if (shape_of(array) != shape)
    throw value_error(function, std::string(name) + " has shape " + shape_text(shape_of(array)) + ", expected " +
                                    shape_text(shape) + " " + why);
}

template <class T>
py::array new_array(const Shape& shape, const char* function) {
  py::ssize_t bytes = sizeof(T);
  for (const py::ssize_t n : shape)
    if (n && __builtin_mul_overflow(bytes, n, &bytes))
      throw value_error(function, "the result would have shape " + shape_text(shape) + ", too large for any memory");
  return py::array_t<T>(shape);
}

template <class T>
py::array output(py::handle out, const Shape& shape, const char* function, std::initializer_list<Extent> inputs,
                 std::initializer_list<Extent> same) {
  if (out.is_none()) return new_array<T>(shape, function);
  if (!py::isinstance<py::array>(out))
    throw type_error(function,
                     "out must be a NumPy array, got " + std::string(py::str(py::type::of(out).attr("__name__"))));
  const py::array array = writable<T>(out, function, "out");
  require_shape(array, shape, function, "out", "of the result");
  const Extent written(array);
  const auto refuse = [&](const char* what) {
    throw value_error(function,
                      std::string("out overlaps ") + what + "; pass another array, or out=None for a new one");
  };
  for (const Extent& input : inputs)
    if (written.overlaps(input)) refuse("an input in memory");
  for (const Extent& input : same)
    if (written.overlaps(input) && written != input) refuse("a part of an input in memory");
  return array;
}

template <class T>
py::array in_place(py::handle value, const char* function, const char* name) {
  if (!py::isinstance<py::array>(value))
    throw type_error(function,
                     std::string(name) + " is changed in place and must be a NumPy array of " + dtype_name<T>());
  return writable<T>(value, function, name);
}

void label_input(py::handle value, int64_t rows, int64_t classes, py::handle ignore_index, const char* function,
                 const char* name, std::int32_t* to) {
  const bool ignoring = !ignore_index.is_none();  // asked first: it may be code of the user's, which changes the labels
  const int64_t ignored = ignoring ? integer_argument(ignore_index, function, "ignore_index") : 0;
  if (rows > 0 && classes > INT32_MAX)
    throw value_error(function, std::to_string(classes) + " classes are too many; at most 2^31 - 1 can be told apart");
  const py::array array = as_array(value, function, name);
  if (array.dtype().kind() != 'i' && array.dtype().kind() != 'u')
    throw type_error(function, std::string(name) + " must be integers, got dtype " + dtype_text(array) + "; " +
                                   label_advice(array, name));
  if (array.ndim() == 2)
    require_shape(array, {rows}, function, name, ("(one label for each row); " + label_advice(array, name)).c_str());
  require_shape(array, {rows}, function, name, "(one label for each row)");
  const bool is_unsigned = array.dtype().kind() == 'u';  // beyond int64 it wraps to a negative number
  const auto narrow = [&](const auto& labels) {
    const auto* const from = labels.data();
    const auto last = static_cast<std::uint64_t>(classes - 1);
    std::uint64_t signs = 0;  // of labels below 0, or beyond the last
    for (int64_t i = 0; i < rows; ++i) {
      const auto label = static_cast<std::uint64_t>(from[i]);
      to[i] = static_cast<std::int32_t>(label);
      signs |= label | (last - label);
    }
    if (signs >> 63 == 0 && !ignoring) return;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t label = from[i];
      if (ignoring && label == ignored && !(is_unsigned && label < 0)) {
        to[i] = -1;
      } else if (label < 0 || label >= classes) {
        throw value_error(
            function, std::string(name) + "[" + std::to_string(i) + "] is " +
                          (is_unsigned ? std::to_string(static_cast<std::uint64_t>(label)) : std::to_string(label)) +
                          ", outside 0 .. " + std::to_string(classes - 1) + " of the " + std::to_string(classes) +
                          " classes");
      }
    }
  };
  constexpr int as_lie = py::array::c_style | py::array::forcecast | aligned_flag;
  if (array.itemsize() + is_unsigned <= int64_t(sizeof(std::int32_t))) {
    narrow(py::array_t<std::int32_t, as_lie>(array));
  } else {
    narrow(py::array_t<int64_t, as_lie>(array));
  }
}

template Input<float> array_input<float>(py::handle, const char*, const char*, int);
template Input<double> array_input<double>(py::handle, const char*, const char*, int);
template Input<float> matrix_input<float>(py::handle, const char*, const char*);
template Input<double> matrix_input<double>(py::handle, const char*, const char*);
template py::array new_array<float>(const Shape&, const char*);
template py::array new_array<double>(const Shape&, const char*);
template py::array output<float>(py::handle, const Shape&, const char*, std::initializer_list<Extent>,
                                 std::initializer_list<Extent>);
template py::array output<double>(py::handle, const Shape&, const char*, std::initializer_list<Extent>,
                                  std::initializer_list<Extent>);
template py::array in_place<float>(py::handle, const char*, const char*);
template py::array in_place<double>(py::handle, const char*, const char*);

}  // namespace mlpfast::bindings
