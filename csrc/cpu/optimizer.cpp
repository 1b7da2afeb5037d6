#include "cpu/optimizer.h"

#include "cpu/team.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {

template <class T>
void update(ops::Optimizer optimizer, const UpdateArgs<T>& args) {
  const auto kernel = active_table<T>().update[static_cast<int>(optimizer)];
  run_team(threads_for(static_cast<double>(args.cols) * work_per_parameter), [&](Team& team) {
    const Range mine = team.share(args.cols, 64);
    kernel(columns_of(args, mine.begin, mine.size()));
  });
}

template void update<float>(ops::Optimizer, const UpdateArgs<float>&);
template void update<double>(ops::Optimizer, const UpdateArgs<double>&);

}  // namespace mlpfast::cpu
