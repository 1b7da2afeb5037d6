#include "bindings/dlpack.h"

#include <algorithm>
#include <memory>
#include <string>

namespace mlpfast::bindings {
namespace {

struct Device {
  std::int32_t type, id;
};
struct Dtype {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  Dtype dtype;
  std::int64_t *shape, *strides;  // in elements; no strides: C-contiguous
  std::uint64_t byte_offset;
};
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};
struct ManagedVersioned {
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

template <class M>
struct Abi;
template <>
struct Abi<Managed> {
  static constexpr const char *name = "dltensor", *used = "used_dltensor";
};
template <>
struct Abi<ManagedVersioned> {
  static constexpr const char *name = "dltensor_versioned", *used = "used_dltensor_versioned";
};

constexpr std::uint64_t read_only = 1, is_copied = 2;  // what is written to a copy is lost
constexpr std::uint8_t bfloat = 4;
constexpr struct {
  char kind;
  std::uint8_t code;
} dtypes[] = {{'i', 0}, {'u', 1}, {'f', 2}, {'c', 5}, {'b', 6}};

py::dtype numpy_dtype(Dtype dtype) {
  for (const auto& row : dtypes)
    if (row.code == dtype.code && dtype.lanes == 1 && dtype.bits % 8 == 0)
      return py::dtype(std::string(1, row.kind) + std::to_string(dtype.bits / 8));
  if (dtype.code == bfloat) throw py::type_error("its dtype is bfloat16; convert it to float32");
  throw py::type_error("its dtype (DLPack code " + std::to_string(dtype.code) + ", " + std::to_string(dtype.bits) +
                       " bits) is unknown here; convert it to float32");
}

template <class M>
py::array adopt(py::handle capsule) {
  auto* const managed = static_cast<M*>(PyCapsule_GetPointer(capsule.ptr(), Abi<M>::name));
  if (!managed) throw py::error_already_set();
  if constexpr (std::is_same_v<M, ManagedVersioned>)
    if (managed->major > 1) throw py::buffer_error("it came in a later version of DLPack than 1");
  const Tensor& tensor = managed->tensor;
  const auto memory = static_cast<Memory>(tensor.device.type);
  if (memory != Memory::gpu && memory != Memory::gpu_managed)
    throw py::buffer_error("it said that it is on a GPU, and gave memory of another device");
  const py::dtype dtype = numpy_dtype(tensor.dtype);  // before the capsule is ours
  if (PyCapsule_SetName(capsule.ptr(), Abi<M>::used) != 0) throw py::error_already_set();
  const py::capsule owner(managed, [](void* taken) {
    auto* const m = static_cast<M*>(taken);
    if (m->deleter) m->deleter(m);
  });
  const std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  std::optional<std::vector<py::ssize_t>> strides;
  if (tensor.strides) {
    strides.emplace(tensor.strides, tensor.strides + tensor.ndim);
    for (py::ssize_t& stride : *strides) stride *= dtype.itemsize();
  }
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (!tensor.data && !empty) throw py::buffer_error("its memory is null");
  void* const data = tensor.data ? static_cast<char*>(tensor.data) + tensor.byte_offset : nullptr;
  bool sealed = false;
  if constexpr (std::is_same_v<M, ManagedVersioned>) sealed = managed->flags & (read_only | is_copied);
  return describe(dtype, shape, strides, data, owner, sealed);
}

template <class M>
struct Export {
  M managed{};
  py::array array;
  std::vector<std::int64_t> shape, strides;
};

template <class M>
py::capsule lend(const py::array& array, Memory memory, int device) {
  auto lent = std::make_unique<Export<M>>();
  const py::dtype dtype = array.dtype();
  Tensor& tensor = lent->managed.tensor;
  for (const auto& row : dtypes)
    if (row.kind == dtype.kind()) tensor.dtype.code = row.code;
  tensor.dtype.bits = static_cast<std::uint8_t>(8 * dtype.itemsize());
  tensor.dtype.lanes = 1;
  for (py::ssize_t d = 0; d < array.ndim(); ++d) {
    lent->shape.push_back(array.shape(d));
    lent->strides.push_back(array.strides(d) / dtype.itemsize());
  }
  lent->array = array;
  tensor.data = array.size() ? const_cast<void*>(array.data()) : nullptr;
  tensor.device = {static_cast<std::int32_t>(memory), device};
  tensor.ndim = static_cast<std::int32_t>(array.ndim());
  tensor.shape = lent->shape.data();
  tensor.strides = lent->strides.data();
  lent->managed.context = lent.get();
  lent->managed.deleter = [](M* managed) {  // from any thread
    if (!Py_IsInitialized()) return;
    const py::gil_scoped_acquire lock;
    delete static_cast<Export<M>*>(managed->context);
  };
  if constexpr (std::is_same_v<M, ManagedVersioned>) lent->managed.major = 1;
  PyObject* const capsule = PyCapsule_New(&lent->managed, Abi<M>::name, [](PyObject* unused) {
    if (!PyCapsule_IsValid(unused, Abi<M>::name)) return;  // somebody took it
    auto* const m = static_cast<M*>(PyCapsule_GetPointer(unused, Abi<M>::name));
    m->deleter(m);
  });
  if (!capsule) throw py::error_already_set();
  lent.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

}  // namespace

py::array describe(const py::dtype& dtype, const std::vector<py::ssize_t>& shape,
                   const std::optional<std::vector<py::ssize_t>>& strides, void* data, py::handle owner,
                   bool read_only) {
  std::vector<py::ssize_t> contiguous(shape.size());
  py::ssize_t step = dtype.itemsize();
  for (std::size_t d = shape.size(); d-- > 0; step *= shape[d]) contiguous[d] = step;
  static char nothing;  // NumPy would allocate for null
  py::array array(dtype, shape, strides.value_or(contiguous), data ? data : &nothing, owner);
  if (read_only) array.attr("setflags")(py::arg("write") = false);
  return array;
}

py::array from_capsule(py::handle capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), Abi<ManagedVersioned>::name)) return adopt<ManagedVersioned>(capsule);
  return adopt<Managed>(capsule);
}

py::capsule to_capsule(const py::array& array, Memory memory, int device, bool versioned) {
  if (versioned) return lend<ManagedVersioned>(array, memory, device);
  return lend<Managed>(array, memory, device);
}

}  // namespace mlpfast::bindings
