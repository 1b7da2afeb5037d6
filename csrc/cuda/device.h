// The GPU's memory and streams. Nothing here runs before it is asked for: importing the extension calls no CUDA
// function, and works without a driver.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "cuda/error.h"

namespace mlpfast::cuda {

using std::int64_t;

/// Throws Error unless the status is success.
void check(cudaError_t status, const char* what);

/// Memory of the device, null for no bytes; Error says how much was wanted and how much is free.
void* allocate(int64_t bytes);
void release(void* memory);

/// The same, taken and given back in the order of a stream's work; null for no bytes.
void* allocate(int64_t bytes, cudaStream_t stream);
void release(void* memory, cudaStream_t stream);

/// Sets memory to 0, as work of a stream.
void clear(void* memory, int64_t bytes, cudaStream_t stream);

/// What will be asked of `later` waits for what was asked of `earlier`.
void order(cudaStream_t earlier, cudaStream_t later);

/// The device whose memory this is; Error where it is none's.
int device_of(const void* memory);

int current_device();
/// Of the current device, times ten.
int capability();

/// Makes a device the current one while it lives.
class OnDevice {
 public:
  explicit OnDevice(int device);
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice();

 private:
  int before_, now_;
};

/// Memory for one call, which gives it back in the order of its stream.
template <class T>
class Scratch {
 public:
  Scratch(int64_t size, cudaStream_t stream)
      : stream_(stream), data_(static_cast<T*>(allocate(size * int64_t(sizeof(T)), stream))) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(data_, stream_); }
  T* data() const { return data_; }

 private:
  cudaStream_t stream_;
  T* data_;
};

/// Memory of the host that the device can copy from by itself.
void* allocate_pinned(int64_t bytes);
void release_pinned(void* memory);

/// Uninitialised memory of the device, of so many T.
template <class T, void* (*take)(int64_t) = allocate, void (*give)(void*) = release>
class Buffer {
 public:
  explicit Buffer(int64_t size = 0) : size_(size), data_(static_cast<T*>(take(size * int64_t(sizeof(T))))) {}
  Buffer(Buffer&& other) noexcept : size_(other.size_), data_(other.data_) { other.data_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { give(data_); }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  void upload(const T* from, cudaStream_t stream) const { copy(data_, from, cudaMemcpyHostToDevice, stream); }
  void download(T* to, cudaStream_t stream) const { copy(to, data_, cudaMemcpyDeviceToHost, stream); }

 private:
  void copy(void* to, const void* from, cudaMemcpyKind kind, cudaStream_t stream) const {
    const auto bytes = static_cast<std::size_t>(size_) * sizeof(T);
    if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copying");
  }

  int64_t size_;
  T* data_;
};

template <class T>
using Pinned = Buffer<T, allocate_pinned, release_pinned>;

/// A moment in a stream.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();
  void record(cudaStream_t stream) const { check(cudaEventRecord(event_, stream), "marking a stream"); }
  /// What will be asked of the stream waits for it.
  void order(cudaStream_t later) const { check(cudaStreamWaitEvent(later, event_, 0), "ordering two streams"); }
  bool happened() const {
    if (cudaEventQuery(event_) == cudaSuccess) return true;
    cudaGetLastError();  // that it is not ready is no error of the next call
    return false;
  }
  /// The host waits for it.
  void wait() const { check(cudaEventSynchronize(event_), "the last call"); }

 private:
  cudaEvent_t event_;
};

/// A stream of its own, which waits for no other.
class Stream {
 public:
  Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();
  operator cudaStream_t() const { return stream_; }
  void synchronize() const;

 private:
  cudaStream_t stream_;
};

/// What was asked of a stream, to be asked again at once: many launches for the price of one.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { clear(); }
  bool empty() const { return !steps_; }
  void clear();
  /// Records what `ask` asks of the stream, and does none of it.
  template <class Ask>
  void record(cudaStream_t stream, const Ask& ask) {
    clear();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording");
    try {
      ask();
    } catch (...) {
      finish(stream, false);
      throw;
    }
    finish(stream, true);
  }
  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(steps_, stream), "a recorded call"); }

 private:
  void finish(cudaStream_t stream, bool keep);

  cudaGraphExec_t steps_ = nullptr;
};

}  // namespace mlpfast::cuda
