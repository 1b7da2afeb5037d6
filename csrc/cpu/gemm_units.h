// How a product is cut into blocks, which the members of a team take.
#pragma once
#include <algorithm>

#include "cpu/gemm.h"

namespace mlpfast::cpu {

inline constexpr int least_panels = 4, most_panels = 32;  // of b, prepared at once

inline bool has_small_l2() { return l2_bytes() < 3 << 19; }

template <class T>
const Blocking& blocking_of(const KernelTable<T>& table) {
  return has_small_l2() ? table.small_l2_blocking : table.blocking;
}

/// Whether passes of k steps over so many columns take a as packed strips.
template <class T>
bool packs_strips(const KernelTable<T>& table, const Gemm<T>& problem, int64_t k, int64_t cols) {
  const Blocking& blocking = blocking_of(table);
  return k >= blocking.packs_from[problem.transpose_a] && cols >= blocking.strips_cols;
}

/// Panels that are prepared at once, for as many rows of a as a thread takes, in passes of k steps.
template <class T>
int prepared_panels(const KernelTable<T>& table, const Gemm<T>& problem, int64_t k) {
  const int64_t fit = panels_row_bytes / (table.tile_vectors * table.lanes * int64_t(sizeof(T)));
  return packs_strips(table, problem, k, problem.n) ? static_cast<int>(std::min<int64_t>(most_panels, fit))
                                                    : least_panels;
}

/// Parts of a product for one member each: rows x columns.
struct Grid {
  int rows, cols;
};

/// The most balanced factorisation. Among equals rows are cut where a part's rows of a then stay in L2, else columns.
inline Grid gemm_grid(int64_t m, int64_t n, int64_t k, int threads) {
  Grid best{1, threads};
  double least = 0;
  for (int rows = 1; rows <= threads; ++rows) {
    if (threads % rows) continue;
    const int cols = threads / rows;
    const double tall = static_cast<double>(ceil_div(m, rows)), wide = static_cast<double>(ceil_div(n, cols));
    // A panel narrower than 64 columns or a strip lower than 6 rows leaves registers idle.
    const double cost = std::max(tall, 6.0) * std::max(wide, 64.0) + 4 * (tall + wide);
    const bool stays = tall * static_cast<double>(std::min(k, max_block_k)) * sizeof(float) <= a_block_bytes;
    if (rows > 1 && !(cost < least || (cost == least && stays))) continue;
    least = cost;
    best = {rows, cols};
  }
  return best;
}

/// How a team cuts an m x n result: blocks of about equal work, column after column, so that who takes the next one has
/// its columns of b at hand.
struct Units {
  int64_t m, n, height, width;

  int64_t down() const { return ceil_div(m, height); }
  int64_t count() const { return down() * (ceil_div(n, width)); }
  Range rows(int64_t unit) const { return part(m, height, unit % down()); }
  Range cols(int64_t unit) const { return part(n, width, unit / down()); }

 private:
  static Range part(int64_t all, int64_t size, int64_t i) { return {i * size, std::min(all, (i + 1) * size)}; }
};

/// Units for each member of a team, of so many multiply-adds at least.
inline int64_t units_each(int64_t m, int64_t n, int64_t k, int threads, double unit_work) {
  constexpr double most = 16;
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  return static_cast<int64_t>(std::min(most, work / unit_work / threads));
}

/// For passes of `depth` steps.
template <class T>
Units gemm_units(const KernelTable<T>& table, const Gemm<T>& problem, int64_t m, int64_t depth, int threads) {
  constexpr double unit_work = 1 << 20;     // from here taking a unit costs nothing that can be measured
  constexpr int64_t most_across = 1 << 20;  // a team has room for 2^28 units
  const int64_t n = problem.n, tile = table.tile_rows[table.tile_vectors - 1],
                each = units_each(m, n, problem.k, threads, unit_work);
  if (each < 2 || threads == 1) {
    const Grid grid = gemm_grid(m, n, problem.k, threads);
    return {m, n, std::max<int64_t>(1, ceil_div(m, grid.rows)),
            std::max<int64_t>(1, round_up(ceil_div(n, grid.cols), table.lanes))};
  }
  const int64_t panel = table.tile_vectors * table.lanes, tiles = ceil_div(m, tile);
  const int64_t wide = prepared_panels(table, problem, depth) * panel;
  int64_t across = ceil_div(n, wide);
  if (tiles * across < each * threads) across = ceil_div(n, panel);
  across = std::min(across, most_across);
  const int64_t down = std::max<int64_t>(1, each * threads / across);
  return {m, n, round_up(ceil_div(m, down), tile), round_up(ceil_div(n, across), table.lanes)};
}

/// Of blocks of columns that have a member each.
template <class T>
Units block_units(const KernelTable<T>& table, const Gemm<T>& problem, int64_t width, int threads) {
  constexpr double unit_work = 1 << 22;  // for who takes over another's, its lines move from cache to cache
  const int64_t tile = table.tile_rows[table.tile_vectors - 1],
                each = units_each(problem.m, problem.n, problem.k, threads, unit_work);
  return {problem.m, problem.n, round_up(ceil_div(problem.m, std::max<int64_t>(1, each)), tile), width};
}

}  // namespace mlpfast::cpu
