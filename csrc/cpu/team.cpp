#include "cpu/team.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

namespace mlpfast::cpu {
namespace {

// A team pays off from here: twice OpenMP's hot fork and join of about 1 us (2 cores, Emerald Rapids).
constexpr double work_per_thread = 1 << 18;
constexpr int spins_before_yield = 2000;  // about 0.1 ms

std::atomic<int> requested{0};
std::atomic<bool> team_busy{false};
std::atomic<bool> forked{false};

// libgomp's threads do not survive fork: a child that enters a region would wait for them for ever.
[[maybe_unused]] const int fork_guard = pthread_atfork(nullptr, nullptr, [] { forked = true; });

int affinity_cpus() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1 << 16;
}

/// CPUs granted by a quota file: "max 100000" or "150000 100000".
int quota_cpus(const std::string& path) {
  std::ifstream file(path);
  double quota = 0, period = 0;
  return file >> quota >> period && period > 0 ? std::max(1, static_cast<int>(std::ceil(quota / period))) : 1 << 16;
}

/// The smallest quota of the process's control group (version 2) and its ancestors.
int cgroup_cpus() {
  const std::string root = "/sys/fs/cgroup";
  std::string group;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("0::", 0) == 0) group = line.substr(3);
  int cpus = quota_cpus(root + "/cpu.max");
  while (group.size() > 1) {
    cpus = std::min(cpus, quota_cpus(root + group + "/cpu.max"));
    group.erase(group.rfind('/'));
  }
  return cpus;
}

int environment_threads() {
  const char* text = std::getenv("MLPFAST_NUM_THREADS");
  if (!text || !*text) return 0;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  if (*end || n < 1 || n > max_threads)
    throw std::invalid_argument("MLPFAST_NUM_THREADS is '" + std::string(text) + "'; it must be 1 .. " +
                                std::to_string(max_threads));
  return static_cast<int>(n);
}

int default_threads() {
  static const int fixed = environment_threads();
  static const int granted = cgroup_cpus();
  if (fixed > 0) return fixed;
  return std::max(1, std::min({omp_get_max_threads(), affinity_cpus(), granted, max_threads}));
}

}  // namespace

Range share(int64_t n, int64_t unit, int parts, int rank) {
  const int64_t units = (n + unit - 1) / unit, base = units / parts, more = units % parts;
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
  for (int spin = 0; meeting_.phase.load(std::memory_order_acquire) == phase; ++spin) {
    if (spin < spins_before_yield) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#else
      asm volatile("yield");
#endif
    } else {
      sched_yield();
    }
  }
}

int num_threads() {
  const int wanted = requested;
  return wanted > 0 ? wanted : default_threads();
}

void set_num_threads(int n) { requested = n; }

int requested_threads() { return requested; }

int threads_for(double work) {
  const double wanted = work / work_per_thread;
  return wanted < 2 ? 1 : static_cast<int>(std::min<double>(wanted, num_threads()));
}

void run_team(int threads, void (*body)(Team&, const void*), const void* context) {
  Team::Meeting meeting;
  if (threads > 1 && !forked && !omp_in_parallel() && !team_busy.exchange(true)) {
#pragma omp parallel num_threads(threads)
    {
      Team team(omp_get_thread_num(), omp_get_num_threads(), meeting);
      body(team, context);
    }
    team_busy = false;
    return;
  }
  Team alone(0, 1, meeting);
  body(alone, context);
}

}  // namespace mlpfast::cpu
