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

/// CPUs that a control group's folder grants: "150000 100000" or "max 100000" in version 2, two files in version 1.
int quota_cpus(const std::string& folder) {
  std::ifstream both(folder + "/cpu.max"), first(folder + "/cpu.cfs_quota_us"), second(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  const bool known = both >> quota >> period || (first >> quota && second >> period);
  return known && quota > 0 && period > 0 ? std::max(1, static_cast<int>(std::ceil(quota / period))) : 1 << 16;
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
  static const int granted = granted_cpus("/sys/fs/cgroup", "/proc/self/cgroup");
  if (fixed > 0) return fixed;
  return std::max(1, std::min({omp_get_max_threads(), affinity_cpus(), granted, max_threads}));
}

}  // namespace

int granted_cpus(const std::string& root, const std::string& groups) {
  int cpus = std::min(quota_cpus(root), quota_cpus(root + "/cpu"));
  std::ifstream file(groups);
  for (std::string line; std::getline(file, line);) {  // "0::/group" in version 2, "4:cpu,cpuacct:/group" in version 1
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    for (const std::string& top : {controllers.empty() ? root : root + "/" + controllers, root + "/cpu"}) {
      std::string group = line.substr(second + 1);
      for (std::size_t cut; (cut = group.rfind('/')) != std::string::npos; group.erase(cut))
        cpus = std::min({cpus, quota_cpus(top + group), quota_cpus(top)});
    }
  }
  return cpus;
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

}  // namespace mlpfast::cpu
