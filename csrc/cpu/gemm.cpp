#include "cpu/gemm.h"

#include <algorithm>

#include "cpu/tiles.h"

namespace mlpfast::cpu {
namespace {

constexpr int64_t a_block_bytes = 1 << 20;  // of packed a, kept in L2 while panels of b pass by
constexpr int most_panels = 4;              // of b at a time, in L2
constexpr int64_t pack_for = 96;            // rows of a (columns of b): for fewer a copy is not used often enough
constexpr int64_t short_k = 64;             // up to here a tile is summed so fast that its epilogue waits for more
constexpr int64_t group_bytes = 16 << 10;   // of finished tiles, in L1

template <class T>
constexpr int64_t line = 64 / sizeof(T);  // of cache, in numbers

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// k in equal blocks of at most 768 where it does not fit in one pass.
int64_t block_k(int64_t k) {
  if (k <= max_block_k) return std::max<int64_t>(k, 1);
  const int64_t blocks = (k + 767) / 768;
  return round_up((k + blocks - 1) / blocks, 8);
}

/// Rows a power of two apart fall into the same cache sets, rows far apart need a TLB entry each.
template <class T>
bool badly_spaced(Matrix<const T> x) {
  const auto pitch = static_cast<std::uintptr_t>(x.ld) * sizeof(T);
  return pitch % 2048 == 0 || pitch >= 16384;
}

/// Rows off the cache lines cost two lines a load (as NumPy's arrays do: packing gains 10 %).
template <class T>
bool misaligned(Matrix<const T> x) {
  return (reinterpret_cast<std::uintptr_t>(x.data) | static_cast<std::uintptr_t>(x.ld) * sizeof(T)) % 64 != 0;
}

/// Per thread, not on the stack: that of a user's thread may be small.
template <class T>
struct Scratch {
  alignas(64) T panel[most_panels * max_block_k * panel_bytes / sizeof(T)];
  alignas(64) T tiles[group_bytes / sizeof(T)];
  alignas(64) T block[a_block_bytes / sizeof(T) + 2 * max_block_k * line<T>];
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
    // Rows of a not packed stream past each group of panels, which are so packed but once (1024^3: 10 % faster).
    const int64_t height = problem_.transpose_a ? a_block_bytes / (depth * int64_t(sizeof(T))) : rows_.size();
    const int64_t vectors = (cols_.size() + table_.lanes - 1) / table_.lanes, most = tile_vectors();
    const int panels = static_cast<int>((vectors + most - 1) / most);
    int64_t p = 0;
    do {
      const Range block{p, std::min(problem_.k, p + depth)};
      for (int64_t i = rows_.begin; i < rows_.end; i += height) {
        const Range rows{i, std::min(rows_.end, i + height)};
        const Matrix<const T> a = left(block, rows);
        for (int first = 0; first < panels; first += most_panels) {
          const int count = std::min(most_panels, panels - first);
          for (int j = 0; j < count; ++j) {
            const Range cols = share(cols_.size(), table_.lanes, panels, first + j);
            prepare(panels_[j], block, rows.size(), {cols_.begin + cols.begin, cols_.begin + cols.end}, j);
          }
          multiply(block, rows, a, count);
        }
      }
      p += depth;
    } while (p < problem_.k);
  }

 private:
  struct Panel {
    Range cols;
    int vectors;
    Matrix<const T> b;
  };

  /// Registers a panel of b is wide: as many as a tile of all rows can have, where these are few.
  int tile_vectors() const {
    int vectors = problem_.transpose_a || problem_.transpose_b ? table_.tile_vectors : table_.widest_tile;
    while (vectors > table_.tile_vectors && table_.tile_rows[vectors - 1] < rows_.size()) --vectors;
    return vectors;
  }

  void prepare(Panel& panel, Range k, int64_t rows, Range cols, int j) {
    panel.cols = cols;
    panel.vectors = static_cast<int>((cols.size() + table_.lanes - 1) / table_.lanes);
    panel.b = right(k, rows, cols, panel_ + j * max_block_k * (panel_bytes / int64_t(sizeof(T))));
  }

  /// All rows against some panels; `a` begins at the first row of the block. A strip stays in L1 while panels in L2
  /// pass by.
  void multiply(Range k, Range rows, Matrix<const T> a, int count) {
    const Range cols{panels_[0].cols.begin, panels_[count - 1].cols.end};
    const int64_t most = table_.tile_rows[panels_[0].vectors - 1], strips = (rows.size() + most - 1) / most;
    const int64_t pitch = round_up(cols.size(), table_.lanes);
    const int64_t group = k.size() > short_k ? most : std::max(most, group_bytes / (pitch * int64_t(sizeof(T))));
    Tile<T> done{rows.begin, cols.begin, 0, cols.size(), {}};  // and not yet finished by the epilogue
    for (int64_t s = 0; s < strips; ++s) {  // strips of equal height: a short last one would waste registers
      const Range strip = share(rows.size(), 1, static_cast<int>(strips), static_cast<int>(s));
      if (done.rows + strip.size() > group) finish(k, done);
      if (done.rows == 0) done.sum = problem_.c.data ? problem_.c.at(done.i, done.j) : Matrix<T>{tiles_, pitch};
      const Matrix<const T> left = problem_.transpose_a ? a.at(0, strip.begin) : a.at(strip.begin, 0);
      for (int j = 0; j < count; ++j) sum(k, left, strip.size(), panels_[j], done);
      done.rows += strip.size();
    }
    finish(k, done);
  }

  void finish(Range k, Tile<T>& done) const {
    if (epilogue_.call && k.end == problem_.k) epilogue_.call(epilogue_.context, done);
    done.i += done.rows;
    done.rows = 0;
  }

  Matrix<const T> left(Range k, Range rows) {
    if (!problem_.transpose_a) return problem_.a.at(rows.begin, k.begin);
    const Matrix<const T> a = problem_.a.at(k.begin, rows.begin);
    if (cols_.size() < pack_for || !badly_spaced(a)) return a;
    const Matrix<T> packed{block_, round_up(rows.size(), line<T>) + line<T>};
    table_.pack(k.size(), rows.size(), a, packed);
    return {packed.data, packed.ld};
  }

  Matrix<const T> right(Range k, int64_t rows, Range cols, T* memory) {
    const Matrix<T> packed{memory, table_.tile_vectors * table_.lanes};
    if (problem_.transpose_b) {
      table_.pack_transposed(k.size(), cols.size(), problem_.b.at(cols.begin, k.begin), packed);
    } else if (rows >= pack_for && (misaligned(problem_.b) || badly_spaced(problem_.b))) {
      table_.pack(k.size(), cols.size(), problem_.b.at(k.begin, cols.begin), packed);
    } else {
      return problem_.b.at(k.begin, cols.begin);
    }
    return {packed.data, packed.ld};
  }

  /// The next `rows` of `done`, in the columns of a panel.
  void sum(Range k, Matrix<const T> a, int64_t rows, const Panel& panel, const Tile<T>& done) const {
    const int64_t cols = panel.cols.size();
    const bool partial = cols % table_.lanes != 0;
    table_.gemm[problem_.transpose_a][partial][panel.vectors - 1][rows - 1](
        {k.size(), a, panel.b, done.sum.at(done.rows, panel.cols.begin - done.j), cols, k.begin > 0});
  }

  const KernelTable<T>& table_;
  const Gemm<T>& problem_;
  Range rows_, cols_;
  Epilogue<T> epilogue_;
  Panel panels_[most_panels];
  T* const panel_ = scratch<T>.panel;
  T* const block_ = scratch<T>.block;
  T* const tiles_ = scratch<T>.tiles;
};

constexpr int64_t narrow = 16;  // columns that leave most of a wide tile idle

/// A narrow product of a transposed a, computed as its transpose, whose rows are long: 1.4 times faster at 10 columns,
/// 3 times at 4.
template <class T>
void transposed_part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols,
                     Epilogue<T> epilogue) {
  const auto turn = [&](const Tile<T>& t) {
    alignas(64) T block[most_panels * panel_bytes / sizeof(T) * narrow];
    Matrix<T> turned{block, narrow};
    table.pack_transposed(t.cols, t.rows, {t.sum.data, t.sum.ld}, turned);
    if (problem.c.data) {
      turned = problem.c.at(t.j, t.i);
      table.pack(t.cols, t.rows, {block, narrow}, turned);
    }
    if (epilogue.call) epilogue.call(epilogue.context, {t.j, t.i, t.cols, t.rows, turned});
  };
  const Gemm<T> transpose{problem.n, problem.m, problem.k, problem.b, problem.a, true, false, {}};
  Part<T>(table, transpose, cols, rows, Epilogue<T>(turn)).run();
}

}  // namespace

template <class T>
void gemm_part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols, Epilogue<T> epilogue) {
  const bool idle = cols.size() <= narrow && cols.size() % table.lanes != 0 && rows.size() > 2 * narrow;
  if (idle && problem.transpose_a && !problem.transpose_b && problem.k <= max_block_k)
    return transposed_part(table, problem, rows, cols, epilogue);
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
  if constexpr (sizeof(T) == sizeof(float)) {
    if (problem.parts > 0) return tile_gemm(*active_isa().tiles, problem, epilogue);
  }
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
