// Whether a GPU can be used, and what is thrown where it cannot.
#pragma once
#include <stdexcept>
#include <string>

namespace mlpfast::cuda {

/// The device cannot do what was asked; DeviceError in Python.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct OutOfMemory : Error {
  using Error::Error;
};

/// Why no GPU can be used, the current one or that of a number, and what to do; empty where one can.
std::string why_unavailable(int device = -1);

/// Throws Error where no GPU can be used, or not that one, or where this process was forked from one that used it.
void require_device(int device = -1);

/// Waits until the GPU has done everything asked of it.
void synchronize();

}  // namespace mlpfast::cuda
