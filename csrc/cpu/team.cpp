#include "cpu/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <thread>

#include "cpu/scratch.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {
namespace {

constexpr unsigned spins_before_yield = 2000;   // about 0.1 ms
constexpr unsigned turns_before_sleep = 20000;  // some ms more: the next call of a loop in Python finds its team awake

/// A plain pointer in memory that every thread has from its start: what glibc makes later, for a destructor too, ends
/// the process where there is no memory.
[[gnu::tls_model("initial-exec")]] constinit thread_local Scratch* own_scratch = nullptr;

/// Frees it where a thread of the program's own ends.
const pthread_key_t scratch_key = [] {
  pthread_key_t key{};
  pthread_key_create(&key, [](void* own) {
    delete static_cast<Scratch*>(own);
    own_scratch = nullptr;
  });
  return key;
}();

void make_scratch() {
  std::unique_ptr<Scratch> made(new Scratch);
  if (pthread_setspecific(scratch_key, made.get()) != 0) throw std::bad_alloc();
  own_scratch = made.release();
}

// arithmetic(): how this thread rounds, and whether subnormal numbers count as 0.
#if defined(__x86_64__)
void spin() { __builtin_ia32_pause(); }
unsigned arithmetic() { return __builtin_ia32_stmxcsr(); }
void set_arithmetic(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
#else
void spin() { asm volatile("yield"); }
std::uint64_t arithmetic() {
  std::uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void set_arithmetic(std::uint64_t mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
#endif

/// One turn of waiting: spins, then yields, so that more threads than CPUs go on.
void wait_a_turn(unsigned turn) {
  if (turn < spins_before_yield) {
    spin();
  } else {
    sched_yield();
  }
}

/// One call of run_team, on its caller's stack.
struct Call {
  void (*body)(Team&, const void*);
  const void* context;
  int size;
  decltype(arithmetic()) mode;  // the caller's, whoever hired the workers: no bit depends on their number
  Team::Meeting meeting;
  alignas(64) std::atomic<int> running;  // members besides the caller
};

/// A thread that is the member of one rank in call after call. It lives as long as the process.
class alignas(64) Worker {
 public:
  explicit Worker(int rank) : rank_(rank), scratch_(new Scratch) { std::thread(&Worker::serve, this).detach(); }
  void start(Call& call) {
    call_ = &call;
    if (state_.exchange(called, std::memory_order_acq_rel) == asleep) state_.notify_one();
  }

 private:
  enum : int { idle, called, asleep };

  void serve() {
    own_scratch = scratch_.release();
    for (;;) {
      for (unsigned turn = 0; turn < turns_before_sleep && state_.load(std::memory_order_acquire) == idle; ++turn)
        wait_a_turn(turn);
      int tired = idle;
      if (state_.compare_exchange_strong(tired, asleep)) state_.wait(asleep);
      state_.store(idle, std::memory_order_relaxed);
      Team team(rank_, call_->size, call_->meeting);
      set_arithmetic(call_->mode);
      call_->body(team, call_->context);
      call_->running.fetch_sub(1, std::memory_order_release);  // the call may be gone from here
    }
  }

  const int rank_;
  std::unique_ptr<Scratch> scratch_;
  Call* call_ = nullptr;
  std::atomic<int> state_{idle};
};

std::atomic<bool> team_busy{false};  // who sets it owns the two below
Worker* workers[max_threads - 1];
int worker_count = 0;
Team::Work team_work[max_threads];

// Threads do not survive fork: a child begins without workers, and without the call that another thread was in.
[[maybe_unused]] const int fork_guard = pthread_atfork(nullptr, nullptr, [] {
  worker_count = 0;
  team_busy = false;
});

/// As many workers as wanted, or as the system grants. Signals are left to the program's own threads.
int hire(int wanted) {
  if (worker_count >= wanted) return wanted;
  sigset_t all, before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, fault);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  try {
    for (; worker_count < wanted; ++worker_count) workers[worker_count] = new Worker(worker_count + 1);
  } catch (const std::exception&) {  // the team is smaller
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return worker_count;
}

constexpr unsigned unit_bits = 28, round_bits = 8;  // neighbours are at most a round apart
constexpr std::uint64_t unit_mask = (1U << unit_bits) - 1;

std::uint64_t packed(unsigned round, Range units) {
  return static_cast<std::uint64_t>(round) << 2 * unit_bits | static_cast<std::uint64_t>(units.begin) << unit_bits |
         static_cast<std::uint64_t>(units.end);
}
Range units_of(std::uint64_t left) {
  return {static_cast<int64_t>(left >> unit_bits & unit_mask), static_cast<int64_t>(left & unit_mask)};
}

}  // namespace

Range share(int64_t n, int64_t unit, int parts, int rank) {
  const int64_t units = ceil_div(n, unit), base = units / parts, more = units % parts;
  const int64_t begin = base * rank + std::min<int64_t>(rank, more), end = begin + base + (rank < more);
  return {std::min(n, begin * unit), std::min(n, end * unit)};
}

void Team::barrier() {
  if (size_ == 1) return;
  const unsigned phase = meeting_.phase.load(std::memory_order_relaxed);
  if (meeting_.arrived.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    meeting_.arrived.store(0, std::memory_order_relaxed);
    meeting_.phase.store(phase + 1, std::memory_order_release);
    return;
  }
  for (unsigned turn = 0; meeting_.phase.load(std::memory_order_acquire) == phase; ++turn) wait_a_turn(turn);
}

void Team::deal(Range own) {
  round_ = (round_ + 1) % (1U << round_bits);
  meeting_.work[rank_].left.store(packed(round_, own), std::memory_order_release);
}

bool Team::take_own(int64_t& unit) {
  std::atomic<std::uint64_t>& left = meeting_.work[rank_].left;
  std::uint64_t seen = left.load(std::memory_order_acquire);
  for (;;) {
    const Range units = units_of(seen);
    if (units.size() <= 0) return false;
    unit = units.begin;
    if (left.compare_exchange_weak(seen, packed(round_, {units.begin + 1, units.end}), std::memory_order_acq_rel))
      return true;
  }
}

bool Team::take_over(int64_t& unit) {
  for (unsigned turn = 0;; ++turn) {
    bool awaited = false;
    for (int i = 1; i < size_; ++i) {
      std::atomic<std::uint64_t>& left = meeting_.work[(rank_ + i) % size_].left;
      std::uint64_t seen = left.load(std::memory_order_acquire);
      while (seen >> 2 * unit_bits == round_) {
        const Range units = units_of(seen);
        if (units.size() <= 0) break;
        unit = units.end - 1;
        if (left.compare_exchange_weak(seen, packed(round_, {units.begin, units.end - 1}), std::memory_order_acq_rel))
          return true;
      }
      awaited |= seen >> 2 * unit_bits == (round_ - 1) % (1U << round_bits);
    }
    if (!awaited) return false;
    wait_a_turn(turn);
  }
}

Scratch& scratch() { return *own_scratch; }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void run_team(int threads, void (*body)(Team&, const void*), const void* context) {
  if (!own_scratch) make_scratch();
  if (threads <= 1 || team_busy.exchange(true)) {
    Team::Work work;
    Team::Meeting meeting{.arrived = 0, .phase = 0, .work = &work};
    Team alone(0, 1, meeting);
    body(alone, context);
    return;
  }
  const int others = hire(threads - 1);
  Call call{body, context, others + 1, arithmetic(), {}, others};
  call.meeting.work = team_work;
  for (int i = 0; i <= others; ++i) team_work[i].left.store(0, std::memory_order_relaxed);
  for (int i = 0; i < others; ++i) workers[i]->start(call);
  Team team(0, call.size, call.meeting);
  body(team, context);
  for (unsigned turn = 0; call.running.load(std::memory_order_acquire) > 0; ++turn) wait_a_turn(turn);
  team_busy = false;
}

}  // namespace mlpfast::cpu
