// Arrays on a GPU, ours and those of other libraries, without a copy. Each is described by a header: a NumPy array
// whose data lie on the device, so that its shape, strides and extent pass the checks of NumPy's arrays. No header
// reaches Python, and the host reads the data of none.
#pragma once
#include <memory>
#include <utility>

#include "bindings/checks.h"
#include "cuda/device.h"
#include "cuda/error.h"

namespace mlpfast::bindings {

/// The order in which the GPU does what it is asked for, and a device; `owner` keeps the stream alive.
struct Place {
  cudaStream_t stream = nullptr;
  int device = 0;
  py::object owner = py::none();
  bool in_order = false;  // arrays of other libraries come from this stream
};

/// The stream of a Python integer, None for the legacy default stream.
cudaStream_t stream_of(py::handle number);

/// Gives back what could not be at once, on a place's device, unless a graph is recorded there. For memory that another
/// library had the host waits till the device is idle: where there is much of it, or all is wanted.
void give_back(const Place& place, bool all = false);
/// Lets go of all that is kept or put off on a place's device, once the device is done with it.
void make_room(const Place& place);

/// f(), and where it fails once more, in the room that there may not have been.
template <class F>
auto with_room(const Place& place, const F& f) {
  try {
    return f();
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;  // Ctrl-C is no lack of memory
  } catch (const cuda::OutOfMemory&) {
  }
  make_room(place);
  return f();
}

/// Raises what a call on a place's stream found in its labels, if it is done.
void raise_label_fault(const Place& place);

class DeviceArray {
 public:
  /// Uninitialised.
  DeviceArray(const py::dtype& dtype, const Shape& shape, const Place& place);
  /// A copy of the host's array.
  DeviceArray(const py::array& array, const Place& place);
  /// The array of another library that a header describes, and keeps.
  static DeviceArray view(const py::array& header, const Place& place);

  const py::array& header() const { return header_; }
  int device() const;
  /// What will be asked of `place` finds what was asked for before, but for a graph that is recorded there.
  void bring(const Place& place) const;
  DeviceArray reshape(const py::args& shape) const;
  py::array numpy() const;
  /// Of an array of one.
  py::object item() const;
  py::capsule dlpack(py::handle stream, py::handle max_version, py::handle where, py::handle copy) const;
  py::dict cuda_array_interface() const;

 private:
  struct Storage;
  DeviceArray(std::shared_ptr<Storage> storage, const py::array& header)
      : storage_(std::move(storage)), header_(header) {}

  std::shared_ptr<Storage> storage_;
  py::array header_;
};

/// The device of an array on a GPU; -1 for what is no such array.
int device_of(py::handle value);

/// The header of an array on the place's device, whose data will be there when the place's stream comes to them.
py::array header_of(py::handle value, const Place& place, const char* function, const char* name);

}  // namespace mlpfast::bindings
