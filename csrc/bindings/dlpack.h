// DLPack, version 1.1 of the ABI (dmlc.github.io/dlpack): arrays from library to library without a copy.
#pragma once
#include <pybind11/numpy.h>

#include <cstdint>

namespace mlpfast::bindings {

namespace py = pybind11;

enum class Memory : std::int32_t { host = 1, gpu = 2, gpu_managed = 13 };

/// A NumPy array that says where the data of a GPU's array lie, and keeps them; the host is not to read them.
/// ValueError where a dtype has no counterpart in NumPy, BufferError where the capsule cannot be of a GPU.
py::array from_capsule(py::handle capsule);

/// The capsule of such an array; it keeps the array. `versioned` as the consumer asked.
py::capsule to_capsule(const py::array& array, Memory memory, int device, bool versioned);

}  // namespace mlpfast::bindings
