#include "cpu/thread_count.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

namespace mlpfast::cpu {
namespace {

// A team pays off from here: many times its hot start and end of under 1 us (2 cores, Emerald Rapids).
constexpr double work_per_thread = 1 << 18;

std::atomic<int> requested{0};

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

}  // namespace mlpfast::cpu
