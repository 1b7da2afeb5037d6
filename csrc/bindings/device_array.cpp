#include "bindings/device_array.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "bindings/dlpack.h"
#include "bindings/register.h"
#include "cuda/error.h"

namespace mlpfast::bindings {
namespace {

/// Of a stream as other libraries count them: the legacy default stream is 1.
py::int_ number_of(cudaStream_t stream) {
  const auto number = reinterpret_cast<std::intptr_t>(stream);
  return number == 0 ? 1 : number;
}

/// Of an object with __cuda_array_interface__, version 3 of which names the stream of its last writer.
py::array from_interface(py::handle value, const Place& place) {
  const py::dict said = value.attr("__cuda_array_interface__");
  if (said.contains("mask") && !said["mask"].is_none()) throw py::type_error("arrays with a mask are not taken");
  const py::dtype dtype{said["typestr"].cast<std::string>()};
  const auto shape = said["shape"].cast<Shape>();
  std::optional<Shape> strides;
  if (said.contains("strides") && !said["strides"].is_none()) strides = said["strides"].cast<Shape>();
  const auto [address, read_only] = said["data"].cast<std::pair<std::uintptr_t, bool>>();
  for (const py::ssize_t n : shape)
    if (n == 0) return describe(dtype, shape, strides, nullptr, value, read_only);
  if (address == 0) throw py::value_error("its memory is null");
  if (said.contains("stream") && !said["stream"].is_none()) {
    if (said["stream"].cast<std::intptr_t>() < 0) throw py::value_error("its stream is a negative number");
    cuda::order(stream_of(said["stream"]), place.stream);
  }
  return describe(dtype, shape, strides, reinterpret_cast<void*>(address), value, read_only);
}

py::array from_dlpack(py::handle value, const Place& place) {
  const py::object give = value.attr("__dlpack__");
  const py::int_ stream = place.in_order ? py::int_(-1) : number_of(place.stream);  // -1: there is nothing to wait for
  try {
    return from_capsule(give(py::arg("stream") = stream, py::arg("max_version") = py::make_tuple(1, 1)));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return from_capsule(give(py::arg("stream") = stream));  // a producer of before version 1
}

bool has(py::handle value, const char* attribute) { return py::hasattr(py::type::of(value), attribute); }

}  // namespace

cudaStream_t stream_of(py::handle number) {
  const auto value = number.is_none() ? 0 : number.cast<std::intptr_t>();
  return reinterpret_cast<cudaStream_t>(value == 1 ? 0 : value);
}

namespace {

/// Memory that cannot be given back while a graph is recorded; lent, before the device is idle.
struct PutOff {
  Place last;
  void* data;
  int64_t bytes;
  bool lent;
};

std::vector<PutOff>& put_off() {
  static auto* const all = new std::vector<PutOff>;  // the interpreter may end before the process
  return *all;
}

}  // namespace

void give_back(const Place& place, bool all) {
  constexpr int64_t most_lent = 1 << 26, least_bytes = 1 << 18;  // a loop waits once in up to 256 arrays
  if (put_off().empty() || cuda::is_capturing(place.stream)) return;
  int64_t lent = 0;
  for (const PutOff& one : put_off())
    if (one.lent && one.last.device == place.device) lent += std::max(one.bytes, least_bytes);
  bool idle = lent > (all ? 0 : most_lent);  // or will be
  const auto goes = [&](const PutOff& one) {
    return one.last.device == place.device && (one.lent ? idle : !cuda::is_capturing(one.last.stream));
  };
  if (std::ranges::none_of(put_off(), goes)) return;
  const std::vector<PutOff> given = std::exchange(put_off(), {});
  try {
    if (idle) without_gil(cuda::synchronize);
  } catch (const cuda::Error&) {  // another thread records a graph
    idle = false;
  }
  for (const PutOff& one : given) {
    if (goes(one)) {
      cuda::release(one.data, one.lent ? place.stream : one.last.stream);  // the last may be gone, and does not matter
    } else {
      put_off().push_back(one);
    }
  }
}

/// Memory that is given back on the stream that last used it; where another library had it on another one, or that
/// stream records a graph which the memory is no part of, later.
struct DeviceArray::Storage {
  Place last;
  void* data;  // null where it is another library's
  int64_t bytes = 0;
  bool recorded = false, lent = false;
  bool shared = false;  // with another library, on the stream `last`

  explicit Storage(const Place& place) : last(place), data(nullptr) {}
  Storage(int64_t size, const Place& place)
      : last(place),
        data(cuda::allocate(size, place.stream)),
        bytes(size),
        recorded(cuda::is_capturing(place.stream)) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage() {
    if (!data) return;
    try {
      const cuda::OnDevice here(last.device);
      if (lent || (!recorded && cuda::is_capturing(last.stream))) {
        put_off().push_back({last, data, bytes, lent});
      } else {
        cuda::release(data, last.stream);
      }
    } catch (const cuda::Error&) {  // the process ends, or is not the one that had a GPU
    }
  }
};

DeviceArray::DeviceArray(const py::dtype& dtype, const Shape& shape, const Place& place) {
  py::ssize_t bytes = dtype.itemsize();
  for (const py::ssize_t n : shape)
    if (n && __builtin_mul_overflow(bytes, n, &bytes))
      throw py::value_error("an array of shape " + shape_text(shape) + " is too large for any memory");
  storage_ = std::make_shared<Storage>(bytes, place);
  const py::capsule owner(new std::shared_ptr<Storage>(storage_),
                          [](void* kept) { delete static_cast<std::shared_ptr<Storage>*>(kept); });
  header_ = describe(dtype, shape, {}, storage_->data, owner);
}

DeviceArray::DeviceArray(const py::array& array, const Place& place)
    : DeviceArray(array.dtype(), shape_of(array), place) {
  const void* const from = array.data();
  const auto bytes = static_cast<std::size_t>(array.nbytes());
  without_gil([&] {
    const cuda::WhileCapturing allowed;
    if (bytes > 0)
      cuda::check(cudaMemcpyAsync(storage_->data, from, bytes, cudaMemcpyHostToDevice, place.stream), "copying");
    cuda::check(cudaStreamSynchronize(place.stream), "copying");
  });
}

DeviceArray DeviceArray::view(const py::array& header, const Place& place) {
  return {std::make_shared<Storage>(place), header};
}

DeviceArray DeviceArray::reshape(const py::args& shape) const { return {storage_, header_.attr("reshape")(*shape)}; }

int DeviceArray::device() const { return storage_->last.device; }

void DeviceArray::bring(const Place& place) const {
  Storage& its = *storage_;
  its.lent |= its.shared && its.last.stream != place.stream;
  if (cuda::order(its.last.stream, place.stream)) its.last = place;
}

py::array DeviceArray::numpy() const {
  cuda::require_device();
  const cuda::OnDevice here(device());
  py::array array(header_.dtype(), shape_of(header_));
  const cudaStream_t stream = storage_->last.stream;
  const void* const from = header_.data();
  void* const to = array.mutable_data();
  const auto bytes = static_cast<std::size_t>(array.nbytes());
  without_gil([&] {
    const cuda::WhileCapturing allowed;
    if (bytes > 0) cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copying");
    cuda::check(cudaStreamSynchronize(stream), "copying");
  });
  raise_label_fault(storage_->last);
  return array;
}

py::object DeviceArray::item() const {
  if (header_.size() != 1) throw py::value_error("only a DeviceArray of one number is a number");
  return numpy().attr("item")();
}

py::capsule DeviceArray::dlpack(py::handle stream, py::handle max_version, py::handle where, py::handle copy) const {
  if (!where.is_none() && !py::make_tuple(static_cast<int>(Memory::gpu), device()).equal(where))
    throw py::buffer_error("__dlpack__: a DeviceArray is not brought to another device; use numpy()");
  if (copy.is(py::handle(Py_True))) throw py::buffer_error("__dlpack__: a DeviceArray does not copy itself");
  const bool is_integer = PyLong_Check(stream.ptr()) && !PyBool_Check(stream.ptr());
  if (!stream.is_none() && !is_integer) throw py::type_error("__dlpack__: stream must be None or an integer");
  const std::intptr_t number = stream.is_none() ? 1 : PyLong_AsSsize_t(stream.ptr());
  if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (number == 0) throw py::value_error("__dlpack__: stream 0 is ambiguous; pass 1 for the legacy default stream");
  if (number < -1) throw py::value_error("__dlpack__: stream is " + std::to_string(number) + ", no stream's number");
  const bool waits = number != -1;
  std::pair<int, int> version{0, 0};
  try {
    if (!max_version.is_none()) version = max_version.cast<std::pair<int, int>>();
  } catch (const py::cast_error&) {
    throw py::type_error("__dlpack__: max_version must be None or a tuple (major, minor)");
  }
  cuda::require_device();
  const cuda::OnDevice here(device());
  if (waits) cuda::order(storage_->last.stream, stream_of(stream));
  storage_->shared = true;
  if (!waits || stream_of(stream) != storage_->last.stream) storage_->lent = true;
  return to_capsule(header_, Memory::gpu, device(), version.first >= 1);
}

py::dict DeviceArray::cuda_array_interface() const {
  storage_->lent = true;
  py::dict said;
  const auto address = header_.size() ? reinterpret_cast<std::uintptr_t>(header_.data()) : 0;
  said["shape"] = header_.attr("shape");
  said["typestr"] = header_.dtype().attr("str");
  said["data"] = py::make_tuple(address, false);
  said["strides"] = py::none();
  said["stream"] = number_of(storage_->last.stream);
  said["version"] = 3;
  return said;
}

int device_of(py::handle value) {
  if (py::isinstance<DeviceArray>(value)) return value.cast<const DeviceArray&>().device();
  if (py::isinstance<py::array>(value)) return -1;
  if (has(value, "__dlpack_device__")) {
    const auto [memory, id] = value.attr("__dlpack_device__")().cast<std::pair<std::int32_t, int>>();
    const auto where = static_cast<Memory>(memory);
    return where == Memory::gpu || where == Memory::gpu_managed ? id : -1;
  }
  if (!has(value, "__cuda_array_interface__")) return -1;
  const py::dict said = value.attr("__cuda_array_interface__");
  const auto address = said["data"].cast<std::pair<std::uintptr_t, bool>>().first;
  return address ? cuda::device_of(reinterpret_cast<const void*>(address)) : 0;
}

py::array header_of(py::handle value, const Place& place, const char* function, const char* name) {
  const auto unreadable = [&](const std::string& why) {
    const auto type = py::str(py::type::of(value).attr("__name__")).cast<std::string>();
    return type_error(function, std::string(name) + " of type " + type + " cannot be read: " + why);
  };
  int device = -1;
  py::array array;
  try {
    device = device_of(value);
    if (device == place.device && !py::isinstance<DeviceArray>(value))
      array = has(value, "__dlpack__") ? from_dlpack(value, place) : from_interface(value, place);
  } catch (const py::error_already_set& error) {
    for (PyObject* const kind :
         {PyExc_BufferError, PyExc_TypeError, PyExc_ValueError, PyExc_AttributeError, PyExc_LookupError})
      if (error.matches(kind)) throw unreadable(py::str(error.value()));
    throw;  // what is wrong with the GPU, say
  } catch (const py::builtin_exception& error) {
    throw unreadable(error.what());
  }
  if (device < 0)
    throw value_error(function, std::string(name) + " lies in the host's memory, other arrays on GPU " +
                                    std::to_string(place.device) + "; bring all to one device");
  if (device != place.device)
    throw value_error(function, std::string(name) + " lies on GPU " + std::to_string(device) +
                                    ", other arrays on GPU " + std::to_string(place.device) +
                                    "; bring all to one device");
  if (py::isinstance<DeviceArray>(value)) {
    const auto& ours = value.cast<const DeviceArray&>();
    ours.bring(place);
    return ours.header();
  }
  const auto module = py::str(py::type::of(value).attr("__module__")).cast<std::string>();
  if (module.starts_with("jax")) array.attr("setflags")(py::arg("write") = false);  // nobody may write them
  constexpr int flags = py::array::c_style | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  if ((array.flags() & flags) != flags || !array.dtype().attr("isnative").cast<bool>())
    throw value_error(function, std::string(name) + " is not contiguous, or not aligned; pass a contiguous copy");
  return array;
}

void register_device_array(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray", py::module_local())
      .def_property_readonly("shape", [](const DeviceArray& a) { return py::object(a.header().attr("shape")); })
      .def_property_readonly("dtype", [](const DeviceArray& a) { return a.header().dtype(); })
      .def_property_readonly("ndim", [](const DeviceArray& a) { return a.header().ndim(); })
      .def_property_readonly("size", [](const DeviceArray& a) { return a.header().size(); })
      .def_property_readonly("device", &DeviceArray::device)
      .def("reshape", &DeviceArray::reshape)
      .def("numpy", &DeviceArray::numpy)
      .def("__array__",
           [](const DeviceArray&, const py::args&, const py::kwargs&) -> py::object {
             throw py::type_error("a DeviceArray lies on a GPU; use numpy() for a copy in the host's memory");
           })
      .def("__float__", [](const DeviceArray& a) { return py::float_(a.item()); })
      .def("__bool__", [](const DeviceArray& a) { return py::bool_(a.item()); })
      .def("__format__",
           [](const DeviceArray& a, const py::str& how) -> py::object {
             if (a.header().ndim() > 0 || py::len(how) == 0) return py::str(py::repr(py::cast(a)));
             return a.item().attr("__format__")(how);
           })
      .def("__len__",
           [](const DeviceArray& a) {
             if (a.header().ndim() == 0) throw py::type_error("a DeviceArray without dimensions has no length");
             return a.header().shape(0);
           })
      .def("__repr__",
           [](const DeviceArray& a) {
             return "DeviceArray(shape=" + shape_text(shape_of(a.header())) +
                    ", dtype=" + std::string(py::str(a.header().dtype())) + ", GPU " + std::to_string(a.device()) + ")";
           })
      .def("__dlpack_device__",
           [](const DeviceArray& a) { return py::make_tuple(static_cast<int>(Memory::gpu), a.device()); })
      .def("__dlpack__", &DeviceArray::dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def_property_readonly("__cuda_array_interface__", &DeviceArray::cuda_array_interface);
  m.def("view", [](py::handle value, const std::string& function, const std::string& name) {
    if (py::isinstance<DeviceArray>(value)) return value.cast<DeviceArray>();
    const Place place{nullptr, std::max(0, device_of(value))};
    cuda::require_device(place.device);
    const cuda::OnDevice here(place.device);
    return DeviceArray::view(header_of(value, place, function.c_str(), name.c_str()), place);
  });
  m.def("from_numpy", [](const py::array& contiguous) {
    cuda::require_device();
    const Place place{nullptr, cuda::current_device()};
    give_back(place);
    return with_room(place, [&] { return DeviceArray(contiguous, place); });
  });
}

}  // namespace mlpfast::bindings
