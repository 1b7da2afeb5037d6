// The only threads of the project: one team per native call, its own barrier inside, its members take shares of work. A
// team is never nested and never shared: a second caller runs alone. A forked child makes threads of its own;
// OpenMP's could not be used again there.
#pragma once
#include <atomic>
#include <cstdint>

namespace mlpfast::cpu {

using std::int64_t;

struct Range {
  int64_t begin, end;

  int64_t size() const { return end - begin; }
};

constexpr int64_t ceil_div(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return ceil_div(n, unit) * unit; }

/// Part `rank` of [0, n) cut into `parts` at multiples of `unit`, sizes differing by one unit at most.
Range share(int64_t n, int64_t unit, int parts, int rank);
inline Range share(Range all, int64_t unit, int parts, int rank) {
  const Range part = share(all.size(), unit, parts, rank);
  return {all.begin + part.begin, all.begin + part.end};
}

/// One member's view of the running team.
class Team {
 public:
  /// What a member has left of its units: 8 bits that tell a round from its neighbours, 28 of the first unit, 28 of the
  /// end.
  struct alignas(64) Work {
    std::atomic<std::uint64_t> left{0};
  };
  struct Meeting {
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> phase{0};
    Work* work;  // [size]
  };

  Team(int rank, int size, Meeting& meeting) : rank_(rank), size_(size), meeting_(meeting) {}
  int rank() const { return rank_; }
  int size() const { return size_; }
  Range share(int64_t n, int64_t unit = 1) const { return cpu::share(n, unit, size_, rank_); }
  Range share(Range all, int64_t unit = 1) const { return cpu::share(all, unit, size_, rank_); }
  /// Spins, then yields, so that more threads than CPUs go on.
  void barrier();
  /// Begins a round: each member deals itself units, which take() hands out once each. One that has none left takes
  /// over, if it helps, from the end of the others'. take() is false when none is left or still to be dealt; others may
  /// then be at their last unit, but none in the round before. Who does not help must come to a barrier next.
  void deal(Range own);
  bool take(int64_t& unit, bool helps = true) { return take_own(unit) || (helps && take_over(unit)); }
  /// Calls f(unit) for each unit of every member's own, once, and ends with a barrier.
  template <class F>
  void each(Range own, const F& f, bool helps = true) {
    deal(own);
    for (int64_t unit; take(unit, helps);) f(unit);
    barrier();
  }

 private:
  bool take_own(int64_t& unit);
  /// Waits for what may be left by members yet to arrive.
  bool take_over(int64_t& unit);

  int rank_, size_;
  Meeting& meeting_;
  unsigned round_ = 0;
};

void run_team(int threads, void (*body)(Team&, const void*), const void* context);

/// Calls body(Team&) on each of `threads` members; body must not throw, lest the others wait for ever.
template <class F>
void run_team(int threads, const F& body) {
  run_team(threads, [](Team& team, const void* f) noexcept { (*static_cast<const F*>(f))(team); }, &body);
}

/// Seconds of a clock that nobody sets.
double now();

}  // namespace mlpfast::cpu
