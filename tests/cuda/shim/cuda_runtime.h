// As much of CUDA as csrc/cuda uses, on the CPU, for tests only. A block's threads are fibers, run one after the other
// between the points where they wait for each other, in turns forwards and backwards, so that a missing barrier shows.
// Memory begins as NaN. Variables of the environment make it fail as a GPU may. For one thread of the host.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __shared__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define CUDART_VERSION 13000

using std::isfinite;
struct dim3 {
  unsigned x;
  dim3(unsigned x_ = 1) : x(x_) {}
};
inline dim3 threadIdx, blockIdx;

namespace shim {
constexpr unsigned warp = 32, most_threads = 1024;
constexpr std::size_t stack_bytes = 1 << 16;

using Step = std::function<void()>;
using Steps = std::vector<std::pair<Step, std::vector<std::size_t>>>;  // and which come before each
enum class Fiber { ready, at_warp, at_block, done };
struct Thread {
  ucontext_t context;  // where it begins; it goes on at `place`, without a system call
  jmp_buf place;
  Fiber state;
  unsigned begun, groups, shuffles;               // so far: their values lie in one of two places
  std::vector<std::pair<unsigned, Step>> copies;  // on their way, each of one of its groups
};
inline Thread threads[most_threads];
inline const std::unique_ptr<char[]> stacks{new char[most_threads * stack_bytes]};
inline char values[2][most_threads][8];
inline jmp_buf scheduler;
inline unsigned current;
inline Step body;
inline std::vector<char> shared;  // of a block; beyond it nothing is read
inline void wait(Fiber state) {
  Thread& self = threads[current];
  self.state = state;
  if (!_setjmp(self.place)) _longjmp(scheduler, 1);
}
inline void enter() {
  body();
  wait(Fiber::done);
}
[[gnu::noinline]] inline void go_on(Thread& self) {
  if (_setjmp(scheduler)) return;
  if (std::exchange(self.begun, 1)) _longjmp(self.place, 1);
  setcontext(&self.context);
}
/// Lets go of all who wait in a warp, or in the block, once all have come or are done.
inline bool release(unsigned begin, unsigned end, Fiber state) {
  unsigned waiting = 0;
  for (unsigned i = begin; i < end; ++i) {
    if (threads[i].state == Fiber::done) continue;
    if (threads[i].state != state) return false;
    ++waiting;
  }
  for (unsigned i = begin; i < end; ++i)
    if (threads[i].state == state) threads[i].state = Fiber::ready;
  return waiting > 0;
}
inline void run_block(unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    getcontext(&threads[i].context);
    threads[i].context.uc_stack = {stacks.get() + i * stack_bytes, 0, stack_bytes};
    threads[i].context.uc_link = nullptr;
    makecontext(&threads[i].context, enter, 0);
    threads[i].state = Fiber::ready;
    threads[i].shuffles = threads[i].groups = threads[i].begun = 0;
  }
  for (bool backwards = false;; backwards = !backwards) {
    for (unsigned step = 0, warps = (count + warp - 1) / warp; step < warps; ++step) {  // as far as each can go
      const unsigned begin = (backwards ? warps - 1 - step : step) * warp, end = std::min(begin + warp, count);
      do {
        for (current = begin; current < end; ++current) {
          if (threads[current].state != Fiber::ready) continue;
          threadIdx = dim3(current);
          go_on(threads[current]);
        }
      } while (release(begin, end, Fiber::at_warp));
    }
    const auto done = [](const Thread& t) { return t.state == Fiber::done && t.copies.empty(); };
    if (std::all_of(threads, threads + count, done)) return;
    if (!release(0, count, Fiber::at_block))
      throw std::logic_error("threads wait for others that never come, or do not wait for copies");
  }
}
inline long number(const char* of, long otherwise) { return std::getenv(of) ? std::atol(std::getenv(of)) : otherwise; }
inline long memory() { return number("SHIM_MEMORY", 1L << 40); }
inline char* const streams = reinterpret_cast<char*>(1L << 20);  // those that are made, one of each device
inline void run(dim3 blocks, unsigned count, std::size_t bytes, const Step& kernel) {
  if (blocks.x == 0 || count == 0 || count > most_threads) throw std::logic_error("not a grid");
  const bool backwards = number("SHIM_BACKWARDS", 0);
  body = kernel;
  for (unsigned x = 0; x < blocks.x; ++x) {
    blockIdx = dim3(backwards ? blocks.x - 1 - x : x);
    shared.assign(bytes, '\xff');
    run_block(count);
  }
}
/// The value of a lane of the same warp, who all come here.
template <class T, class Lane>
T shuffle(T mine, const Lane& lane_of) {
  static_assert(sizeof(T) <= 8);
  const unsigned self = current, place = threads[self].shuffles++ % 2;
  std::memcpy(values[place][self], &mine, sizeof mine);
  wait(Fiber::at_warp);
  T other;
  std::memcpy(&other, values[place][self / warp * warp + lane_of(self % warp)], sizeof other);
  return other;
}
}  // namespace shim
inline void __syncthreads() { shim::wait(shim::Fiber::at_block); }
inline void __syncwarp() { shim::wait(shim::Fiber::at_warp); }
template <class T>
T __shfl_down_sync(unsigned, T mine, unsigned by, unsigned width) {
  return shim::shuffle(mine, [=](unsigned lane) { return lane % width + by < width ? lane + by : lane; });
}
template <class T>
T __shfl_sync(unsigned, T mine, unsigned from, unsigned width) {
  return shim::shuffle(mine, [=](unsigned lane) { return lane / width * width + from % width; });
}
constexpr auto __threadfence = [] {}, __threadfence_system = __threadfence;
inline unsigned atomicInc(unsigned* at, unsigned most) { return std::exchange(*at, *at < most ? *at + 1 : 0); }
inline float __ldcg(const float* at) { return *at; }
using cudaError_t = int;
constexpr int cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorInsufficientDriver = 35,
              cudaErrorInvalidDeviceFunction = 98, cudaErrorNoDevice = 100, cudaErrorNoKernelImageForDevice = 209,
              cudaErrorUnsupportedPtxVersion = 222, cudaMemoryTypeDevice = 0, cudaMemoryTypeManaged = 1,
              cudaMemLocationTypeDevice = 1, cudaMemAllocationTypePinned = 1;
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocPortable = 1;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1, cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone };
enum { cudaMemPoolAttrReleaseThreshold, cudaMemPoolAttrReservedMemCurrent, cudaMemPoolAttrUsedMemCurrent };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDefault };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };
typedef void *cudaStream_t, *cudaMemPool_t;
typedef cudaStream_t* cudaEvent_t;  // of where it was recorded
typedef shim::Steps *cudaGraph_t, *cudaGraphExec_t;
typedef shim::Step cudaKernelNodeParams;
typedef std::size_t cudaGraphNode_t;
struct cudaFuncAttributes {
  int ptxVersion;
};
struct cudaPointerAttributes {
  int type, device, id;
};
struct cudaMemPoolProps {
  int allocType;
  cudaPointerAttributes location;
};
constexpr auto succeed = [](const auto&...) { return cudaSuccess; };
constexpr auto cudaGetLastError = succeed, cudaMemPoolSetAttribute = succeed, cudaMemPoolGetAttribute = succeed;
inline thread_local cudaStreamCaptureMode capture_mode;
inline int cudaThreadExchangeStreamCaptureMode(auto* mode) { return std::swap(*mode, capture_mode), 0; }
inline cudaError_t unless_captured() {  // of calls that a caller's recording does not bear, unless a thread says so
  return capture_mode == cudaStreamCaptureModeRelaxed || !shim::number("SHIM_CAPTURING", 0) ? cudaSuccess : 900;
}
constexpr auto spare = [](const auto&...) { return unless_captured(); };
constexpr auto cudaMemPoolCreate = spare, cudaStreamDestroy = spare, cudaStreamSynchronize = spare,
               cudaEventSynchronize = spare;
inline int cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return shim::number("SHIM_TRIM", unless_captured()); }
inline cudaError_t cudaEventQuery(cudaEvent_t) { return shim::number("SHIM_BUSY", cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t) { return "?"; }
inline int cudaGetDeviceCount(int* n) { return *n = !shim::number("SHIM_STATUS", 0), shim::number("SHIM_STATUS", 0); }
inline int cudaDriverGetVersion(int* version) { return *version = shim::number("SHIM_DRIVER", CUDART_VERSION), 0; }
inline cudaError_t cudaGetDevice(int* device) { return *device = shim::number("SHIM_DEVICE", 0), cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { return setenv("SHIM_DEVICE", std::to_string(device).c_str(), 1); }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int capability = shim::number("SHIM_CAPABILITY", 90);
  return *value = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10, cudaSuccess;
}
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void*) { return *a = {}, cudaSuccess; }
inline int cudaFuncGetAttributes(auto* a, auto) {
  return a->ptxVersion = shim::number("SHIM_PTX", 90), shim::number("SHIM_KERNELS", unless_captured());
}
inline int cudaMemGetInfo(auto* free, auto* all) { return *free = *all = shim::memory(), unless_captured(); }
inline cudaError_t cudaMallocFromPoolAsync(void** memory, std::size_t bytes, cudaMemPool_t, cudaStream_t) {
  if (static_cast<long>(bytes) > shim::memory()) return cudaErrorMemoryAllocation;
  return *memory = std::memset(std::malloc(bytes), 0xff, bytes), cudaSuccess;
}
inline int cudaHostAlloc(void** at, std::size_t n, unsigned) { return *at = std::malloc(n), unless_captured(); }
inline int cudaFreeHost(void* memory) { return unless_captured() ? 900 : (std::free(memory), cudaSuccess); }
inline cudaError_t cudaMemsetAsync(void* p, int v, std::size_t n, void*) { return std::memset(p, v, n), cudaSuccess; }
inline int cudaMemcpyAsync(void* a, const void* b, std::size_t n, int, void*) { return std::memcpy(a, b, n), 0; }
inline int cudaStreamCreateWithFlags(void** s, int) { return *s = shim::streams + shim::number("SHIM_DEVICE", 0), 0; }
inline bool is_recorded(cudaStream_t stream) {  // into a graph of the caller's
  return stream && stream == reinterpret_cast<cudaStream_t>(shim::number("SHIM_CAPTURING", 0));
}
inline cudaError_t cudaFreeAsync(void* p, cudaStream_t s) { return is_recorded(s) ? 1 : (std::free(p), cudaSuccess); }
inline int cudaDeviceSynchronize() { return shim::number("SHIM_CAPTURING", 0) ? 900 : cudaSuccess; }
inline int cudaStreamIsCapturing(void* s, auto* is) { return *is = cudaStreamCaptureStatus(is_recorded(s)), 0; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* made, int) { return *made = new cudaStream_t, cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return *event = stream, cudaSuccess; }
inline int cudaStreamWaitEvent(void* s, auto* e, unsigned) { return is_recorded(s) == is_recorded(*e) ? 0 : 905; }
inline int cudaGraphCreate(auto* graph, int) { return *graph = new shim::Steps, cudaSuccess; }
inline int cudaGraphAddKernelNode(auto* node, auto* graph, auto* before, std::size_t count, auto* kernel) {
  return *node = graph->size(), graph->push_back({*kernel, {before, before + count}}), cudaSuccess;
}
inline int cudaGraphInstantiate(auto* made, auto* graph, int) {
  return *made = new shim::Steps(*graph), shim::number("SHIM_NO_GRAPH", 0);
}
inline int cudaGraphLaunch(auto* steps, void*) {  // in any order that their branches allow
  std::vector<char> done(steps->size());
  for (std::vector<std::size_t> ready;; ready.clear()) {
    for (std::size_t i = 0; i < done.size(); ++i)
      if (!done[i] && std::ranges::all_of((*steps)[i].second, [&](auto b) { return done[b]; })) ready.push_back(i);
    if (ready.empty()) return shim::number("SHIM_NO_LAUNCH", 0);
    static unsigned random = 1;
    const auto next = ready[(random = random * 1664525 + 1013904223) / 65536 % ready.size()];
    (*steps)[next].first(), done[next] = 1;
  }
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t steps) { return delete steps, cudaSuccess; }
