// DLPack, version 1.1 of the ABI (dmlc.github.io/dlpack): arrays from library to library without a copy.
#pragma once
#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace mlpfast::bindings {

namespace py = pybind11;

enum class Memory : std::int32_t { host = 1, gpu = 2, gpu_managed = 13 };

/// A NumPy array that says where data lie, and keeps their owner; without strides they lie C-contiguous.
py::array describe(const py::dtype& dtype, const std::vector<py::ssize_t>& shape,
                   const std::optional<std::vector<py::ssize_t>>& strides, void* data, py::handle owner,
                   bool read_only = false);

/// The same of a GPU's array, which the host is not to read.
/// ValueError where a dtype has no counterpart in NumPy, BufferError where the capsule cannot be of a GPU.
py::array from_capsule(py::handle capsule);

/// The capsule of such an array; it keeps the array. `versioned` as the consumer asked.
py::capsule to_capsule(const py::array& array, Memory memory, int device, bool versioned);

}  // namespace mlpfast::bindings
