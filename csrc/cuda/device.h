// The GPU's memory and streams. Nothing here runs before it is asked for: importing the extension calls no CUDA
// function, and works without a driver.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "cuda/error.h"

namespace mlpfast::cuda {

using std::int64_t;

/// Throws Error unless the status is success.
void check(cudaError_t status, const char* what);

/// Blocks of a launch, their threads and their bytes of shared_memory().
struct Grid {
  int64_t blocks;
  int threads, shared = 0;
};

/// Memory of the current device, taken and given back in the order of a stream's work; null for no bytes. Error says
/// how much was wanted and how much is free. What is given back is kept for the next call.
void* allocate(int64_t bytes, cudaStream_t stream);
void release(void* memory, cudaStream_t stream);

/// What to throw where so many bytes of the current device are not to be had.
OutOfMemory out_of_memory(int64_t bytes);

/// Bytes of the current device that allocate() can find; at most so many, by which a test makes it small.
int64_t free_bytes();
void set_most_free_bytes(int64_t bytes);

/// Gives what is kept to whoever wants it, but for so many bytes: small networks are trained without asking for memory
/// again.
constexpr int64_t kept_bytes = 1 << 28;
void trim(int64_t keep = kept_bytes);

/// Sets memory to 0, as work of a stream.
void clear(void* memory, int64_t bytes, cudaStream_t stream);

/// What will be asked of `later` waits for what was asked of `earlier`. False where that cannot be: the steps of a
/// graph that `later` records wait for none outside it, which must be done before the graph is launched. Error where
/// `earlier` alone records: its steps are not even asked for.
bool order(cudaStream_t earlier, cudaStream_t later);

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

/// Lets its thread make what calls need, once, though a stream, its own or another thread's, may be capturing a graph.
class WhileCapturing {
 public:
  WhileCapturing();
  WhileCapturing(const WhileCapturing&) = delete;
  WhileCapturing& operator=(const WhileCapturing&) = delete;
  ~WhileCapturing();

 private:
  cudaStreamCaptureMode before_;
};

/// Whether what is asked of a stream becomes part of a graph, to be done later.
bool is_capturing(cudaStream_t stream);

/// Memory of the host that the device can copy from by itself, of no stream.
void* allocate_pinned(int64_t bytes, cudaStream_t = nullptr);
void release_pinned(void* memory, cudaStream_t = nullptr);

/// Uninitialised memory of the device, of so many T, for the work of a stream that outlives it.
template <class T, void* (*take)(int64_t, cudaStream_t) = allocate, void (*give)(void*, cudaStream_t) = release>
class Buffer {
 public:
  Buffer() = default;
  Buffer(int64_t size, cudaStream_t stream)
      : size_(size), stream_(stream), data_(static_cast<T*>(take(size * int64_t(sizeof(T)), stream))) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(stream_, other.stream_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { give(data_, stream_); }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  void upload(const T* from, cudaStream_t stream) const { copy(data_, from, cudaMemcpyHostToDevice, stream); }
  void download(T* to, cudaStream_t stream) const { copy(to, data_, cudaMemcpyDeviceToHost, stream); }

 private:
  void copy(void* to, const void* from, cudaMemcpyKind kind, cudaStream_t stream) const {
    const auto bytes = static_cast<std::size_t>(size_) * sizeof(T);
    if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copying");
  }

  int64_t size_ = 0;
  cudaStream_t stream_ = nullptr;
  T* data_ = nullptr;
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
    const WhileCapturing allowed;
    if (cudaEventQuery(event_) == cudaSuccess) return true;
    cudaGetLastError();  // that it is not ready is no error of the next call
    return false;
  }
  /// The host waits for it.
  void wait() const {
    const WhileCapturing allowed;
    check(cudaEventSynchronize(event_), "the last call");
  }

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

/// Kernels to be asked for again at once: many launches for the price of one. One after the other, but where branches
/// say that they need not wait. Put together node by node: while a stream captures, no thread of the process may wait
/// for the device.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { clear(); }
  bool empty() const { return !steps_; }
  void clear();
  /// Keeps what `ask` launches, and does none of it.
  template <class Ask>
  void record(const Ask& ask) {
    const WhileCapturing allowed;
    clear();
    begin();
    try {
      ask();
    } catch (...) {
      end();
      throw;
    }
    finish();
  }
  /// The one that this thread records, or null.
  static Graph* recorded() { return recorded_; }
  void add(const cudaKernelNodeParams& kernel);
  /// Branches begin here: each with a call of branch(), but the first. join() waits for all.
  void fork();
  void branch();
  void join();
  /// What the next kernel waits for; and to wait for something else, or for more.
  using Nodes = std::vector<cudaGraphNode_t>;
  const Nodes& last() const { return last_; }
  void wait_for(Nodes nodes) { last_ = std::move(nodes); }
  void wait_also_for(const Nodes& nodes) { last_.insert(last_.end(), nodes.begin(), nodes.end()); }
  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(steps_, stream), "a recorded call"); }

 private:
  void begin();
  void end();
  void finish();

  static thread_local Graph* recorded_;
  cudaGraph_t nodes_ = nullptr;
  Nodes last_, base_, ends_;  // what the next node waits for; of branches: begin, ends so far
  cudaGraphExec_t steps_ = nullptr;
};

}  // namespace mlpfast::cuda
