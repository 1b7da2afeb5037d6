// Who computes which blocks of a product of split operands.
#pragma once
#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/team.h"

namespace mlpfast::cpu {

inline constexpr int64_t most_group = 64;  // strips

/// Calls panel(strips, j) for groups of strips of a and panels j of b that cover the product; members first do their
/// own strips (by_rows) or panels; then a barrier. A group of at most `bytes` stays in L2 while a member's panels pass
/// by. What a member split before, others may read.
template <class F>
void for_panels(Team& team, int64_t a_count, int64_t b_count, int64_t strip_bytes, bool by_rows, const F& panel) {
  constexpr int64_t group_bytes = 1 << 20;
  const int size = team.size();
  const auto strips_of = [&](int rank) { return by_rows ? share(a_count, 1, size, rank) : Range{0, a_count}; };
  const auto panels_of = [&](int rank) { return by_rows ? Range{0, b_count} : share(b_count, 1, size, rank); };
  const int64_t height = strips_of(0).size(), width = panels_of(0).size(), least_groups = by_rows ? 1 : 4;
  const int64_t group = std::clamp<int64_t>(
      std::min(group_bytes / strip_bytes, (height + least_groups - 1) / least_groups), 1, most_group);
  const int64_t units = (height + group - 1) / group * width;
  team.each({team.rank() * units, (team.rank() + 1) * units}, [&](int64_t unit) {
    const int owner = static_cast<int>(unit / units);
    const Range strips = strips_of(owner), panels = panels_of(owner);
    const int64_t first = strips.begin + unit % units / width * group, j = panels.begin + unit % width;
    if (first < strips.end && j < panels.end) panel(Range{first, std::min(strips.end, first + group)}, j);
  });
}

}  // namespace mlpfast::cpu
