#include "cpu/softmax_xent.h"

#include "cpu/team.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {
namespace {

int row_threads(int64_t rows, int64_t cols) {
  return threads_for(static_cast<double>(rows) * static_cast<double>(cols) * work_per_logit);
}

}  // namespace

template <class T>
void softmax(int64_t rows, int64_t cols, Matrix<const T> x, Matrix<T> y) {
  const auto kernel = active_table<T>().softmax;
  run_team(row_threads(rows, cols), [&](Team& team) {
    const Range mine = team.share(rows);
    kernel(mine.size(), cols, x.at(mine.begin, 0), y.at(mine.begin, 0));
  });
}

template <class T>
void cross_entropy(const CrossEntropyArgs<T>& args) {
  const auto kernel = active_table<T>().cross_entropy;
  run_team(row_threads(args.rows, args.cols), [&](Team& team) {
    const Range mine = team.share(args.rows);
    kernel(rows_of(args, mine.begin, mine.size()));
  });
}

template void softmax<float>(int64_t, int64_t, Matrix<const float>, Matrix<float>);
template void cross_entropy<float>(const CrossEntropyArgs<float>&);
template void softmax<double>(int64_t, int64_t, Matrix<const double>, Matrix<double>);
template void cross_entropy<double>(const CrossEntropyArgs<double>&);

}  // namespace mlpfast::cpu
