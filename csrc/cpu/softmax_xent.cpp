#include "cpu/softmax_xent.h"

#include <algorithm>

#include "cpu/scratch.h"
#include "cpu/team.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {
namespace {

/// Calls part(rows) for units of rows, by a team.
template <class F>
void by_rows(int64_t rows, int64_t cols, const F& part) {
  constexpr int64_t units_each = 16, group = 16;  // rows that a kernel works on side by side, where they are short
  const int threads = threads_for(static_cast<double>(rows) * static_cast<double>(cols) * work_per_logit);
  run_team(threads, [&](Team& team) {
    if (team.size() == 1) return part(Range{0, rows});
    const int64_t even = ceil_div(rows, units_each * team.size()), unit = even < group ? even : round_up(even, group);
    team.each(team.share(ceil_div(rows, unit)),
              [&](int64_t u) { part(Range{u * unit, std::min(rows, (u + 1) * unit)}); });
  });
}

}  // namespace

template <class T>
void softmax(int64_t rows, int64_t cols, Matrix<const T> x, Matrix<T> y) {
  const auto kernel = active_table<T>().softmax;
  by_rows(rows, cols, [&](Range some) { kernel(some.size(), cols, x.at(some.begin, 0), y.at(some.begin, 0)); });
}

template <class T>
void cross_entropy(const CrossEntropyArgs<T>& args) {
  const auto kernel = active_table<T>().cross_entropy;
  // More than a few cores' L2 holds; rows that are worth a pass of their own, and whose exponentials have room.
  constexpr int64_t cached_bytes = 16 << 20, least_row_bytes = 4096, most_row_bytes = sizeof(Scratch::panels) / 2;
  const int64_t row_bytes = args.cols * int64_t(sizeof(T));
  const bool streams = args.d_logits.data && args.rows * row_bytes > cached_bytes && row_bytes >= least_row_bytes &&
                       row_bytes <= most_row_bytes;
  by_rows(args.rows, args.cols, [&](Range some) {
    CrossEntropyArgs<T> part = rows_of(args, some.begin, some.size());
    if (streams) part.exponentials = reinterpret_cast<T*>(scratch().panels);
    kernel(part);
  });
}

template void softmax<float>(int64_t, int64_t, Matrix<const float>, Matrix<float>);
template void cross_entropy<float>(const CrossEntropyArgs<float>&);
template void softmax<double>(int64_t, int64_t, Matrix<const double>, Matrix<double>);
template void cross_entropy<double>(const CrossEntropyArgs<double>&);

}  // namespace mlpfast::cpu
