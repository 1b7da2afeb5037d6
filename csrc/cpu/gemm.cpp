#include "cpu/gemm.h"

#include <algorithm>

namespace mlpfast::cpu {
namespace {

constexpr int64_t a_block_bytes = 512 << 10;  // rows of a kept in L2 while panels of b pass by
constexpr int64_t pack_from_rows = 96;        // below, a copied panel of b is not used often enough

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// k in equal blocks of at most 768 where it does not fit in one pass.
int64_t block_k(int64_t k) {
  if (k <= max_block_k) return std::max<int64_t>(k, 1);
  const int64_t blocks = (k + 767) / 768;
  return round_up((k + blocks - 1) / blocks, 8);
}

/// Rows of b off the cache lines cost two lines a load (as NumPy's arrays do: packing gains 10 %), rows a power of two
/// apart fall into the same cache sets, rows far apart need a TLB entry each.
template <class T>
bool worth_packing(int64_t rows, Matrix<const T> b) {
  const auto address = reinterpret_cast<std::uintptr_t>(b.data), pitch = static_cast<std::uintptr_t>(b.ld) * sizeof(T);
  return rows >= pack_from_rows && ((address | pitch) % 64 != 0 || pitch % 2048 == 0 || pitch >= 16384);
}

/// Per thread, not on the stack: that of a user's thread may be small.
template <class T>
struct Scratch {
  alignas(64) T panel[max_block_k * panel_bytes / sizeof(T)];
  alignas(64) T tile[max_tile_rows * panel_bytes / sizeof(T)];
};
template <class T>
thread_local Scratch<T> scratch;

template <class T>
class Part {
 public:
  Part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols, Epilogue<T> epilogue)
      : table_(table), problem_(problem), rows_(rows), cols_(cols), epilogue_(epilogue) {}

  void run() {
    const int64_t depth = block_k(problem_.k);
    const int64_t height = std::max<int64_t>(max_tile_rows, a_block_bytes / (depth * int64_t(sizeof(T))));
    const int64_t vectors = (cols_.size() + table_.lanes - 1) / table_.lanes;
    const int panels = static_cast<int>((vectors + table_.tile_vectors - 1) / table_.tile_vectors);
    int64_t p = 0;
    do {
      const Range block{p, std::min(problem_.k, p + depth)};
      for (int64_t i = rows_.begin; i < rows_.end; i += height)
        for (int j = 0; j < panels; ++j) {
          const Range cols = share(cols_.size(), table_.lanes, panels, j);
          panel(block, {i, std::min(rows_.end, i + height)}, {cols_.begin + cols.begin, cols_.begin + cols.end});
        }
      p += depth;
    } while (p < problem_.k);
  }

 private:
  /// All rows against one panel of at most tile_vectors registers of columns.
  void panel(Range k, Range rows, Range cols) {
    const Matrix<const T> b = right(k, rows.size(), cols);
    const int vectors = static_cast<int>((cols.size() + table_.lanes - 1) / table_.lanes);
    const int64_t most = table_.tile_rows[vectors - 1], strips = (rows.size() + most - 1) / most;
    for (int64_t s = 0; s < strips; ++s) {  // strips of equal height: a short last one would waste registers
      const Range strip = share(rows.size(), 1, static_cast<int>(strips), static_cast<int>(s));
      tile(k, {rows.begin + strip.begin, rows.begin + strip.end}, cols, vectors, b);
    }
  }

  Matrix<const T> right(Range k, int64_t rows, Range cols) {
    const Matrix<T> packed{panel_, max_tile_vectors * table_.lanes};
    if (problem_.transpose_b) {
      table_.pack_transposed(k.size(), cols.size(), problem_.b.at(cols.begin, k.begin), packed);
    } else if (worth_packing<T>(rows, problem_.b)) {
      table_.pack(k.size(), cols.size(), problem_.b.at(k.begin, cols.begin), packed);
    } else {
      return problem_.b.at(k.begin, cols.begin);
    }
    return {packed.data, packed.ld};
  }

  void tile(Range k, Range rows, Range cols, int vectors, Matrix<const T> b) {
    const bool partial = cols.size() % table_.lanes != 0;
    const Matrix<T> sum =
        problem_.c.data ? problem_.c.at(rows.begin, cols.begin) : Matrix<T>{tile_, max_tile_vectors * table_.lanes};
    const auto& a = problem_.a;
    const auto left = problem_.transpose_a ? a.at(k.begin, rows.begin) : a.at(rows.begin, k.begin);
    table_.gemm[problem_.transpose_a][partial][vectors - 1][rows.size() - 1](
        {k.size(), left, b, sum, cols.size(), k.begin > 0});
    if (epilogue_.call && k.end == problem_.k)
      epilogue_.call(epilogue_.context, {rows.begin, cols.begin, rows.size(), cols.size(), sum});
  }

  const KernelTable<T>& table_;
  const Gemm<T>& problem_;
  Range rows_, cols_;
  Epilogue<T> epilogue_;
  T* const panel_ = scratch<T>.panel;
  T* const tile_ = scratch<T>.tile;
};

}  // namespace

template <class T>
void gemm_part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols, Epilogue<T> epilogue) {
  Part<T>(table, problem, rows, cols, epilogue).run();
}

int gemm_threads(int64_t m, int64_t n, int64_t k) {
  return threads_for(static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}

/// The most balanced factorisation. Among equals rows are cut where a part's rows of a then stay in L2, else columns.
Grid gemm_grid(int64_t m, int64_t n, int64_t k, int threads) {
  Grid best{1, threads};
  double least = 0;
  for (int rows = 1; rows <= threads; ++rows) {
    if (threads % rows) continue;
    const int cols = threads / rows;
    const double tall = static_cast<double>((m + rows - 1) / rows), wide = static_cast<double>((n + cols - 1) / cols);
    // A panel narrower than 64 columns or a strip lower than 6 rows leaves registers idle.
    const double cost = std::max(tall, 6.0) * std::max(wide, 64.0) + 4 * (tall + wide);
    const bool stays = tall * static_cast<double>(std::min(k, max_block_k)) * sizeof(float) <= a_block_bytes;
    if (rows > 1 && !(cost < least || (cost == least && stays))) continue;
    least = cost;
    best = {rows, cols};
  }
  return best;
}

template <class T>
void gemm(const Gemm<T>& problem, Epilogue<T> epilogue) {
  const KernelTable<T>& table = active_table<T>();
  run_team(gemm_threads(problem.m, problem.n, problem.k), [&](Team& team) {
    const Grid grid = gemm_grid(problem.m, problem.n, problem.k, team.size());
    const Range rows = share(problem.m, 1, grid.rows, team.rank() / grid.cols);
    const Range cols = share(problem.n, table.lanes, grid.cols, team.rank() % grid.cols);
    if (rows.size() > 0 && cols.size() > 0) gemm_part(table, problem, rows, cols, epilogue);
  });
}

template void gemm_part<float>(const KernelTable<float>&, const Gemm<float>&, Range, Range, Epilogue<float>);
template void gemm<float>(const Gemm<float>&, Epilogue<float>);
template void gemm_part<double>(const KernelTable<double>&, const Gemm<double>&, Range, Range, Epilogue<double>);
template void gemm<double>(const Gemm<double>&, Epilogue<double>);

}  // namespace mlpfast::cpu
