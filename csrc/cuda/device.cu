#include "cuda/device.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace mlpfast::cuda {
namespace {

std::atomic<pid_t> user{0};  // the process that has begun to use the device: a forked child has no part in it

bool is_child() {
  const pid_t pid = user.load();
  return pid != 0 && pid != getpid();
}

/// What a call that nobody waits for could not do is no error of the next one.
void ignore(cudaError_t status) {
  if (status != cudaSuccess) cudaGetLastError();
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string driver_is_old() {
  int driver = 0;
  ignore(cudaDriverGetVersion(&driver));
  return "the NVIDIA driver, which supports CUDA " + version_text(driver) +
         ", is too old for mlpfast, built with CUDA " + version_text(CUDART_VERSION) + "; update the driver";
}

/// Exists in every build: whether the device can run it tells whether it can run the others.
__global__ void probe() {}

/// Of the current device; what a process has found fit once stays so.
std::string why_no_kernel() {
  static std::atomic<std::uint64_t> fit{0};  // a bit a device, of the first 64
  const int device = current_device();
  const std::uint64_t its = device < 64 ? std::uint64_t{1} << device : 0;
  if (fit.load() & its) return "";
  const WhileCapturing allowed;  // this loads the kernels
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe);
  if (status == cudaSuccess) return fit.fetch_or(its), "";
  cudaGetLastError();  // forget it
  const int current = capability();
  const std::string version = std::to_string(current / 10) + "." + std::to_string(current % 10);
  if (status == cudaErrorUnsupportedPtxVersion) return driver_is_old();
  if (status != cudaErrorNoKernelImageForDevice && status != cudaErrorInvalidDeviceFunction)
    return std::string("the GPU fails: ") + cudaGetErrorString(status);
  if (current < 75)
    return "the GPU has compute capability " + version + ", mlpfast needs 7.5 or newer; use device='cpu'";
  return "mlpfast was built without kernels for this GPU, of compute capability " + version +
         "; reinstall it with MLPFAST_CUDA_ARCHS=" + std::to_string(current) + " in the environment";
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error(std::string(what) + " failed on the GPU: " + cudaGetErrorString(status));
}

std::string why_unavailable(int device) {
  if (is_child())
    return "a forked process cannot use the GPU that its parent used; start processes by multiprocessing's 'spawn'";
  int devices = 0, driver = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) {
    user = getpid();
    const OnDevice here(device < 0 ? current_device() : device);
    return why_no_kernel();
  }
  cudaGetLastError();
  if (status == cudaErrorNoDevice || (status == cudaSuccess && devices == 0))
    return "no NVIDIA GPU is visible; is CUDA_VISIBLE_DEVICES set?";
  ignore(cudaDriverGetVersion(&driver));
  if (driver == 0) return "no NVIDIA driver is installed; install one, or use device='cpu'";
  if (status == cudaErrorInsufficientDriver) return driver_is_old();
  return std::string("CUDA does not start: ") + cudaGetErrorString(status) +
         "; see whether nvidia-smi works, and start processes by multiprocessing's 'spawn'";
}

void require_device(int device) {
  const std::string reason = why_unavailable(device);
  if (!reason.empty()) throw Error(reason);
}

void synchronize() {
  require_device();
  check(cudaDeviceSynchronize(), "the last call");
}

namespace {

/// Of the current device. Not the one that other libraries share, which gives all back to the system at each wait.
cudaMemPool_t pool() {
  static auto& one_at_a_time = *new std::mutex;  // a thread may use both while the process ends
  static auto& pools = *new std::map<int, cudaMemPool_t>;
  const std::lock_guard lock(one_at_a_time);
  const int device = current_device();
  if (const auto made = pools.find(device); made != pools.end()) return made->second;
  const WhileCapturing allowed;
  cudaMemPoolProps how{};
  how.allocType = cudaMemAllocationTypePinned;
  how.location.type = cudaMemLocationTypeDevice;
  how.location.id = device;
  cudaMemPool_t pool = nullptr;
  std::uint64_t kept = UINT64_MAX;
  check(cudaMemPoolCreate(&pool, &how), "making a memory pool");
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "making a memory pool");
  return pools[device] = pool;
}

std::pair<int64_t, int64_t> free_and_total() {
  const WhileCapturing allowed;
  std::size_t free = 0, total = 0;
  std::uint64_t reserved = 0, used = 0;
  check(cudaMemGetInfo(&free, &total), "looking at memory");
  check(cudaMemPoolGetAttribute(pool(), cudaMemPoolAttrReservedMemCurrent, &reserved), "looking at memory");
  check(cudaMemPoolGetAttribute(pool(), cudaMemPoolAttrUsedMemCurrent, &used), "looking at memory");
  return {static_cast<int64_t>(free + reserved - used), static_cast<int64_t>(total)};
}

}  // namespace

void* allocate(int64_t bytes, cudaStream_t stream) {
  if (bytes <= 0) return nullptr;
  const WhileCapturing allowed;
  void* memory = nullptr;
  const cudaError_t status = cudaMallocFromPoolAsync(&memory, static_cast<std::size_t>(bytes), pool(), stream);
  if (status != cudaErrorMemoryAllocation) return check(status, "allocating memory"), memory;
  cudaGetLastError();
  throw out_of_memory(bytes);
}

OutOfMemory out_of_memory(int64_t bytes) {
  const auto [free, total] = free_and_total();
  return OutOfMemory("the GPU has no " + std::to_string(bytes) + " bytes of memory left: " + std::to_string(free) +
                     " of " + std::to_string(total) + " are free; use a smaller batch, or less data at a time");
}

namespace {
std::atomic<int64_t> most_free{INT64_MAX};
}

int64_t free_bytes() { return std::min(free_and_total().first, most_free.load()); }
void set_most_free_bytes(int64_t bytes) { most_free = bytes; }

void trim(int64_t keep) {
  const WhileCapturing allowed;
  check(cudaMemPoolTrimTo(pool(), static_cast<std::size_t>(keep)), "giving memory back");
}

// A child that inherited an object leaves what it held to its parent.
void release(void* memory, cudaStream_t stream) {
  if (memory && !is_child()) ignore(cudaFreeAsync(memory, stream));
}

void clear(void* memory, int64_t bytes, cudaStream_t stream) {
  if (bytes > 0) check(cudaMemsetAsync(memory, 0, static_cast<std::size_t>(bytes), stream), "clearing memory");
}

WhileCapturing::WhileCapturing() : before_(cudaStreamCaptureModeRelaxed) {
  ignore(cudaThreadExchangeStreamCaptureMode(&before_));
}
WhileCapturing::~WhileCapturing() { ignore(cudaThreadExchangeStreamCaptureMode(&before_)); }

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream, &status) == cudaSuccess) return status != cudaStreamCaptureStatusNone;
  cudaGetLastError();
  return true;  // the legacy default stream must not be asked while another one captures
}

void* allocate_pinned(int64_t bytes, cudaStream_t) {
  const WhileCapturing allowed;
  void* memory = nullptr;
  if (bytes > 0)
    check(cudaHostAlloc(&memory, static_cast<std::size_t>(bytes), cudaHostAllocPortable), "allocating pinned memory");
  return memory;
}

void release_pinned(void* memory, cudaStream_t) {
  if (!memory || is_child()) return;
  const WhileCapturing allowed;
  ignore(cudaFreeHost(memory));
}

bool order(cudaStream_t earlier, cudaStream_t later) {
  if (earlier == later) return true;
  const bool recorded = earlier && is_capturing(earlier);  // the default stream never is
  if (is_capturing(later) && !recorded) return false;
  if (recorded && !is_capturing(later))
    throw Error("an array that a graph will make is used on another stream, before the graph is launched");
  const Event event;  // may go before it has happened
  event.record(earlier);
  event.order(later);
  return true;
}

int device_of(const void* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "finding an array's device");
  if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged)
    throw Error("an array that says it is on a GPU lies in the host's memory");
  return attributes.device;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "finding the device");
  return device;
}

int capability() {
  int device = current_device(), major = 0, minor = 0;
  ignore(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  ignore(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return 10 * major + minor;
}

OnDevice::OnDevice(int device) : before_(current_device()), now_(device) {
  if (now_ != before_) check(cudaSetDevice(now_), "changing the device");
}

OnDevice::~OnDevice() {
  if (now_ != before_) ignore(cudaSetDevice(before_));
}

Event::Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event"); }
Event::~Event() {
  if (!is_child()) ignore(cudaEventDestroy(event_));
}

Stream::Stream() {
  const WhileCapturing allowed;
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
}
Stream::~Stream() {
  if (is_child()) return;
  const WhileCapturing allowed;
  ignore(cudaStreamSynchronize(stream_));  // what it still copies may be freed next
  ignore(cudaStreamDestroy(stream_));
}
void Stream::synchronize() const {
  const WhileCapturing allowed;
  check(cudaStreamSynchronize(stream_), "the last call");
}

thread_local Graph* Graph::recorded_ = nullptr;

void Graph::clear() {
  if (steps_ && !is_child()) {
    const WhileCapturing allowed;
    ignore(cudaGraphExecDestroy(steps_));
  }
  steps_ = nullptr;
}

void Graph::begin() {
  check(cudaGraphCreate(&nodes_, 0), "recording");
  for (auto* nodes : {&last_, &base_, &ends_}) nodes->clear();
  recorded_ = this;
}

void Graph::add(const cudaKernelNodeParams& kernel) {
  cudaGraphNode_t node{};
  check(cudaGraphAddKernelNode(&node, nodes_, last_.data(), last_.size(), &kernel), "recording a kernel");
  last_ = {node};
}

void Graph::fork() { base_ = last_; }

void Graph::branch() {
  if (last_ != base_) ends_.insert(ends_.end(), last_.begin(), last_.end());
  last_ = base_;
}

void Graph::join() {
  if (ends_.empty()) return;
  branch();
  last_ = std::exchange(ends_, {});
}

void Graph::end() {
  recorded_ = nullptr;
  ignore(cudaGraphDestroy(nodes_));
}

void Graph::finish() {
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, nodes_, 0);
  end();
  check(status, "recording");
  steps_ = made;
}

}  // namespace mlpfast::cuda
