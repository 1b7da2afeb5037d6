// How many threads a call may use.
#pragma once

namespace mlpfast::cpu {

inline constexpr int max_threads = 1024;

/// set_num_threads, else MLPFAST_NUM_THREADS, else the least of OpenMP's setting, the affinity mask and the cgroup's
/// CPU quota. Throws std::invalid_argument where MLPFAST_NUM_THREADS is no such number.
int num_threads();
/// 1 .. max_threads; 0 returns to the default.
void set_num_threads(int n);
int requested_threads();
/// Threads worth waking for so much work, in multiply-adds.
int threads_for(double work);

}  // namespace mlpfast::cpu
