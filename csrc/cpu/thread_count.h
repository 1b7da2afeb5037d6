// How many threads a call may use.
#pragma once
#include <string>

namespace mlpfast::cpu {

inline constexpr int max_threads = 1024;

/// set_num_threads, else MLPFAST_NUM_THREADS, else the least of OpenMP's setting, the affinity mask and the cgroup's
/// CPU quota. Throws std::invalid_argument where MLPFAST_NUM_THREADS is no such number.
int num_threads();
/// The least quota of the control groups that a file like /proc/self/cgroup names, and of the groups above them,
/// rounded up; of version 1 or 2, whose folders lie below `root`. Many where there is none.
int granted_cpus(const std::string& root, const std::string& groups);
/// 1 .. max_threads; 0 returns to the default.
void set_num_threads(int n);
int requested_threads();
/// Threads worth waking for so much work, in multiply-adds.
int threads_for(double work);

}  // namespace mlpfast::cpu
