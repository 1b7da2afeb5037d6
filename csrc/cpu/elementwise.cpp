#include "cpu/elementwise.h"

#include "cpu/team.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {

template <class T>
void forward(ops::Activation activation, const ForwardArgs<T>& args) {
  const auto kernel = active_table<T>().forward[static_cast<int>(activation)];
  const double work = static_cast<double>(args.rows) * static_cast<double>(args.cols) * work_per_number;
  run_team(threads_for(work), [&](Team& team) {
    ForwardArgs<T> part = args;
    if (args.rows == 1) {
      const Range cols = team.share(args.cols, 64);
      part.cols = cols.size();
      part.x = args.x.at(0, cols.begin);
      part.y = args.y.at(0, cols.begin);
      if (args.saved.data) part.saved = args.saved.at(0, cols.begin);
      if (args.bias) part.bias = args.bias + cols.begin;
    } else {
      const Range rows = team.share(args.rows);
      part.rows = rows.size();
      part.x = args.x.at(rows.begin, 0);
      part.y = args.y.at(rows.begin, 0);
      if (args.saved.data) part.saved = args.saved.at(rows.begin, 0);
    }
    kernel(part);
  });
}

template <class T>
void backward(ops::Activation activation, const BackwardArgs<T>& args) {
  const auto kernel = active_table<T>().backward[static_cast<int>(activation)];
  const double work = static_cast<double>(args.rows) * static_cast<double>(args.cols) * work_per_number;
  run_team(threads_for(work), [&](Team& team) {
    BackwardArgs<T> part = args;
    const Range cols = team.share(args.cols, 64);
    part.cols = cols.size();
    part.dy = args.dy.at(0, cols.begin);
    part.saved = args.saved.at(0, cols.begin);
    part.dx = args.dx.at(0, cols.begin);
    kernel(part);
  });
}

template <class T>
void column_sums(int64_t rows, int64_t cols, Matrix<const T> x, T* sums) {
  const auto kernel = active_table<T>().column_sums;
  const double work = static_cast<double>(rows) * static_cast<double>(cols) * work_per_summand;
  run_team(threads_for(work), [&](Team& team) {
    const Range mine = team.share(cols, 16);
    kernel(rows, mine.size(), x.at(0, mine.begin), sums + mine.begin);
  });
}

template void forward<float>(ops::Activation, const ForwardArgs<float>&);
template void backward<float>(ops::Activation, const BackwardArgs<float>&);
template void column_sums<float>(int64_t, int64_t, Matrix<const float>, float*);
template void forward<double>(ops::Activation, const ForwardArgs<double>&);
template void backward<double>(ops::Activation, const BackwardArgs<double>&);
template void column_sums<double>(int64_t, int64_t, Matrix<const double>, double*);

}  // namespace mlpfast::cpu
