#include "cpu/gemm.h"

#include <algorithm>

#include "cpu/gemm_units.h"
#include "cpu/thread_count.h"
#include "cpu/tiles.h"

namespace mlpfast::cpu {
namespace {

constexpr int64_t pack_for = 96;  // rows of a (columns of b): for fewer a copy is not used often enough
constexpr int64_t short_k = 64;   // up to here a tile is summed so fast that its epilogue waits for more

static_assert(Blocking{}.strips_bytes <= a_block_bytes, "strips have room");
static_assert(panels_row_bytes >= least_panels * panel_bytes, "panels of the widest registers have room");

template <class T>
constexpr int64_t line = 64 / sizeof(T);  // of cache, in numbers

/// Steps of k a pass, equal but for the last; more passes than one need a place for sums.
template <class T>
int64_t block_k(const KernelTable<T>& table, const Gemm<T>& p) {
  const int64_t depth = blocking_of(table).k, k = p.k;
  if (k <= (p.c.data ? 4 * depth / 3 : max_block_k)) return std::max<int64_t>(k, 1);
  const int64_t blocks = ceil_div(k, depth);
  return round_up(ceil_div(k, blocks), 8);
}

/// Rows that crowd, or so far apart that each needs a TLB entry.
template <class T>
bool badly_spaced(int64_t ld, int64_t crowds = Blocking::crowded) {
  const auto bytes = static_cast<std::size_t>(ld) * sizeof(T);
  return bytes % static_cast<std::size_t>(crowds) == 0 || bytes >= 16384;
}

/// Whether `passing` rows of a read a copy of b: of one that lies badly, or is more than stays in L2, whose short
/// pieces of rows the hardware does not prefetch.
template <class T>
bool copies_b(const KernelTable<T>& table, const Gemm<T>& p, int64_t passing) {
  constexpr int64_t near_bytes = 1 << 20, far_for = 256;
  const bool far = p.k * p.b.ld * int64_t(sizeof(T)) > near_bytes && passing >= far_for;
  const bool badly =
      passing >= pack_for && lies_badly(table, reinterpret_cast<std::uintptr_t>(p.b.data), p.b.ld, p.transpose_a);
  return !p.laid_out && (far || badly);
}

/// Panels that each strip of a meets in turn, while they stay in L2.
template <class T>
int group_panels(const KernelTable<T>& table, int64_t k) {
  const int64_t panel = k * table.tile_vectors * table.lanes * int64_t(sizeof(T));
  return static_cast<int>(
      std::clamp<int64_t>(blocking_of(table).panels_bytes / std::max<int64_t>(1, panel), least_panels, most_panels));
}

/// What one thread does of a product. Panels of b that it has prepared serve until it turns to others.
template <class T>
class Part {
 public:
  /// `passing` rows of a meet each panel of b.
  Part(const KernelTable<T>& table, const Gemm<T>& problem, int64_t passing, Epilogue<T> epilogue)
      : table_(table), problem_(problem), passing_(passing), epilogue_(epilogue) {}

  /// Blocks of k come in order.
  void run(Range k, Range rows, Range cols) {
    const int64_t vectors = ceil_div(cols.size(), table_.lanes), most = tile_vectors();
    if (rows.size() == 1 && vectors > 4 * table_.widest_tile && !problem_.transpose_b) return row(k, rows.begin, cols);
    const int panels = static_cast<int>(ceil_div(vectors, most)), at_once = group_panels(table_, k.size()),
              prepared = prepared_panels(table_, problem_, k.size());
    packs_strips_ = packs_strips(table_, problem_, k.size(), cols.size()) && most == table_.tile_vectors;
    const int64_t height = block_height(k.size(), rows.size(), panels <= prepared);
    for (int64_t i = rows.begin; i < rows.end; i += height) {
      const Range some{i, std::min(rows.end, i + height)};
      const Matrix<const T> a = left(k, some, cols.size());
      for (int first = 0; first < panels; first += prepared) {
        const int count = std::min(prepared, panels - first);
        const auto panel = [&](int j) { return share(cols, table_.lanes, panels, first + j); };
        prepare(k, {panel(0).begin, panel(count - 1).end}, count, panel);
        for (int j = 0; j < count; j += at_once) multiply(k, some, a, j, std::min(count, j + at_once));
      }
    }
  }

 private:
  struct Panel {
    Range cols;
    int vectors;
    Matrix<const T> b;
  };

  /// A single row, several times as wide as all registers.
  void row(Range k, int64_t i, Range cols) const {
    const Matrix<const T> a =
        problem_.transpose_a ? problem_.a.at(k.begin, i) : Matrix<const T>{problem_.a.at(i, k.begin).data, 1};
    const int64_t most = problem_.c.data ? cols.size() : panels_row_bytes / int64_t(sizeof(T));
    for (int64_t j = cols.begin; j < cols.end; j += most) {
      Tile<T> done{i, j, 1, std::min(most, cols.end - j), {sums_, most}};
      if (problem_.c.data) done.sum = problem_.c.at(i, j);
      table_.gemm_row({k.size(), a, problem_.b.at(k.begin, j), done.sum, done.cols, k.begin > 0});
      finish(k, done);
    }
  }

  /// Registers a panel of b is wide: as many as a tile of all rows can have, where these are few.
  int tile_vectors() const {
    int vectors = problem_.transpose_a || problem_.transpose_b ? table_.tile_vectors : table_.widest_tile;
    while (vectors > table_.tile_vectors && table_.tile_rows[vectors - 1] < passing_) --vectors;
    return vectors;
  }

  /// Rows of a that are packed at once. Where none are packed, all rows pass each group of panels, which is then packed
  /// only once (1024^3: 10 % faster).
  int64_t block_height(int64_t k, int64_t rows, bool prepared) const {
    if (!problem_.transpose_a && !packs_strips_) return rows;
    const int64_t bytes = packs_strips_ && prepared ? blocking_of(table_).strips_bytes : a_block_bytes,
                  most = bytes / (std::max<int64_t>(1, k) * int64_t(sizeof(T)));
    return packs_strips_ ? std::max<int64_t>(1, most / tile_rows()) * tile_rows() : most;
  }

  int64_t tile_rows() const { return table_.tile_rows[table_.tile_vectors - 1]; }

  template <class ColsOf>
  void prepare(Range k, Range cols, int count, const ColsOf& cols_of) {
    if (k.begin == k_.begin && cols.begin == cols_.begin && cols.end == cols_.end && count == count_) return;
    k_ = k;
    cols_ = cols;
    count_ = count;
    for (int j = 0; j < count; ++j) {
      Panel& panel = panels_[j];
      panel.cols = cols_of(j);
      panel.vectors = static_cast<int>(ceil_div(panel.cols.size(), table_.lanes));
      panel.b = right(k, panel.cols, packed_b_ + j * k.size() * table_.tile_vectors * table_.lanes);
    }
  }

  /// All rows against a group of panels; `a` begins at the first row of the block. A strip stays in L1 while the panels
  /// pass by.
  void multiply(Range k, Range rows, Matrix<const T> a, int first, int end) {
    const int64_t most = packs_strips_ ? tile_rows() : table_.tile_rows[panels_[first].vectors - 1];
    const int strips = static_cast<int>(ceil_div(rows.size(), most));
    const int rest = static_cast<int>(  // the panels before it update weights at once
        std::find_if(panels_ + first, panels_ + end, [&](const Panel& panel) { return !updates(k, panel); }) - panels_);
    const Range cols{panels_[rest < end ? rest : first].cols.begin, panels_[end - 1].cols.end};
    const int64_t pitch = round_up(cols.size(), table_.lanes);
    const int64_t group = k.size() > short_k ? most : std::max(most, finished_bytes / (pitch * int64_t(sizeof(T))));
    Tile<T> done{rows.begin, cols.begin, 0, cols.size(), {}};  // and not yet finished by the epilogue
    for (int s = 0; s < strips; ++s) {  // strips of equal height: a short last one would waste registers
      const Range strip = share(rows.size(), 1, strips, s);
      if (done.rows + strip.size() > group) finish(k, done);
      if (done.rows == 0) done.sum = problem_.c.data ? problem_.c.at(done.i, done.j) : Matrix<T>{sums_, pitch};
      const Matrix<const T> left = packs_strips_          ? constant(packed_strip(k, strip))
                                   : problem_.transpose_a ? a.at(0, strip.begin)
                                                          : a.at(strip.begin, 0);
      for (int j = first; j < rest; ++j)
        update(k, left, {rows.begin + strip.begin, rows.begin + strip.end}, panels_[j]);
      for (int j = rest; j < end; ++j) sum(k, left, strip.size(), panels_[j], done);
      if (rest < end) done.rows += strip.size();
    }
    if (rest < end) finish(k, done);
  }

  void finish(Range k, Tile<T>& done) const {
    if (epilogue_ && k.end == problem_.k) epilogue_(done);
    done.i += done.rows;
    done.rows = 0;
  }

  Matrix<T> packed_strip(Range k, Range strip) const { return {packed_a_ + strip.begin * k.size(), strip.size()}; }

  /// The strips of multiply().
  void pack_strips(Range k, Range rows) const {
    const int strips = static_cast<int>(ceil_div(rows.size(), tile_rows()));
    for (int s = 0; s < strips; ++s) {
      const Range strip = share(rows.size(), 1, strips, s);
      const int64_t i = rows.begin + strip.begin;
      const Matrix<const T> a = problem_.transpose_a ? problem_.a.at(k.begin, i) : problem_.a.at(i, k.begin);
      table_.pack_strip[problem_.transpose_a](k.size(), strip.size(), a, packed_strip(k, strip).data);
    }
  }

  Matrix<const T> left(Range k, Range rows, int64_t cols) {
    if (packs_strips_) {
      pack_strips(k, rows);
      return {};
    }
    if (!problem_.transpose_a) return problem_.a.at(rows.begin, k.begin);
    const Matrix<const T> a = problem_.a.at(k.begin, rows.begin);
    if (cols < pack_for || !badly_spaced<T>(a.ld)) return a;
    const Matrix<T> packed{packed_a_, round_up(rows.size(), line<T>) + line<T>};
    table_.pack(k.size(), rows.size(), a, packed);
    return {packed.data, packed.ld};
  }

  Matrix<const T> right(Range k, Range cols, T* memory) {
    const Matrix<T> packed{memory, table_.tile_vectors * table_.lanes};
    if (problem_.transpose_b) {
      table_.pack_transposed(k.size(), cols.size(), problem_.b.at(cols.begin, k.begin), packed);
    } else if (copies_b(table_, problem_, passing_)) {
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
    const auto& kernels = packs_strips_ ? table_.gemm_strip[partial] : table_.gemm[problem_.transpose_a][partial];
    kernels[panel.vectors - 1][rows - 1](
        {k.size(), a, panel.b, done.sum.at(done.rows, panel.cols.begin - done.j), cols, k.begin > 0});
  }

  bool updates(Range k, const Panel& panel) const {
    return problem_.update && k.end == problem_.k && panel.cols.size() == table_.tile_vectors * table_.lanes;
  }

  /// Weights of these rows and a panel's columns.
  void update(Range k, Matrix<const T> a, Range rows, const Panel& panel) const {
    UpdateArgs<T> args = problem_.update->args;
    const int64_t j = panel.cols.begin;
    args.w = args.w.at(rows.begin, j);
    for (T*& slot : args.slots)
      if (slot) slot += rows.begin * args.w.ld + j;
    const bool accumulate = k.begin > 0;
    const GemmTile<T> gradient{
        k.size(), a, panel.b, accumulate ? problem_.c.at(rows.begin, j) : Matrix<T>{}, panel.cols.size(), accumulate};
    const int optimizer = static_cast<int>(problem_.update->optimizer);
    table_.gemm_update[optimizer][packs_strips_][rows.size() - 1]({gradient, args});
  }

  const KernelTable<T>& table_;
  const Gemm<T>& problem_;
  const int64_t passing_;
  const Epilogue<T> epilogue_;
  Range k_{-1, -1}, cols_{};  // of the panels
  int count_ = 0;
  bool packs_strips_ = false;
  Panel panels_[most_panels];
  T* const packed_b_ = reinterpret_cast<T*>(scratch().panels);
  T* const packed_a_ = reinterpret_cast<T*>(scratch().block);
  T* const sums_ = reinterpret_cast<T*>(scratch().finished);
};

/// A narrow product of a transposed a, computed as its transpose, whose rows are long: 1.4 times faster at 10 columns,
/// 3 times at 4.
template <class T>
void transposed_part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols,
                     Epilogue<T> epilogue) {
  const auto turn = [&](const Tile<T>& t) {
    T* const block = reinterpret_cast<T*>(scratch().turned);
    Matrix<T> turned{block, narrow};
    table.pack_transposed(t.cols, t.rows, {t.sum.data, t.sum.ld}, turned);
    if (problem.c.data) {
      turned = problem.c.at(t.j, t.i);
      table.pack(t.cols, t.rows, {block, narrow}, turned);
    }
    if (epilogue) epilogue({t.j, t.i, t.cols, t.rows, turned});
  };
  const Gemm<T> transpose{
      .m = problem.n, .n = problem.m, .k = problem.k, .a = problem.b, .b = problem.a, .transpose_a = true};
  Part<T>(table, transpose, cols.size(), Epilogue<T>(turn)).run({0, problem.k}, cols, rows);
}

template <class T>
bool is_narrow(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols) {
  const bool idle = cols.size() <= narrow && cols.size() % table.lanes != 0 && rows.size() > 2 * narrow;
  return idle && problem.transpose_a && !problem.transpose_b && problem.k <= max_block_k;
}

/// Calls f(block) for blocks of k in order, `between` them.
template <class F, class Between>
void for_blocks(int64_t k, int64_t depth, const F& f, const Between& between) {
  f(Range{0, std::min(k, depth)});
  for (int64_t p = depth; p < k; p += depth) {
    between();
    f(Range{p, std::min(k, p + depth)});
  }
}

}  // namespace

/// Loads from rows off the cache lines, as NumPy's arrays are, take two lines each: a copy gains 10 % on Emerald
/// Rapids. On Zen 5, whose L2 is small, it does where a is strided over as well, and else loses as much.
template <class T>
bool lies_badly(const KernelTable<T>& table, std::uintptr_t address, int64_t ld, bool transpose_a) {
  const bool crosses = (address | static_cast<std::uintptr_t>(ld) * sizeof(T)) % 64 != 0;
  if (transpose_a || !has_small_l2()) return crosses || badly_spaced<T>(ld);
  return badly_spaced<T>(ld, blocking_of(table).crowds);
}

template <class T>
void lay_out(const Team& team, const KernelTable<T>& table, const Gemm<T>& problem, Matrix<T> copy) {
  const Matrix<const T> b = problem.b;
  if (problem.transpose_b) {
    const Range cols = team.share(problem.n, line<T>);
    table.pack_transposed(problem.k, cols.size(), b.at(cols.begin, 0), copy.at(0, cols.begin));
  } else {
    const Range rows = team.share(problem.k);
    table.pack(rows.size(), problem.n, b.at(rows.begin, 0), copy.at(rows.begin, 0));
  }
}

template <class T>
void gemm_part(const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Range cols, Epilogue<T> epilogue) {
  if (is_narrow(table, problem, rows, cols)) return transposed_part(table, problem, rows, cols, epilogue);
  Part<T> part(table, problem, rows.size(), epilogue);
  for_blocks(problem.k, block_k(table, problem), [&](Range k) { part.run(k, rows, cols); }, [] {});
}

template <class T>
void gemm_by_team(Team& team, const KernelTable<T>& table, const Gemm<T>& problem, Range rows, Epilogue<T> epilogue) {
  const int64_t depth = block_k(table, problem);
  const Units units = gemm_units(table, problem, rows.size(), std::min(depth, problem.k), team.size());
  const bool turned = is_narrow(table, problem, rows, {0, problem.n});
  Part<T> part(table, problem, rows.size() >= pack_for ? rows.size() : units.height, epilogue);
  const auto block = [&](Range k) {
    team.deal(team.share(units.count()));
    for (int64_t unit; team.take(unit);) {
      const Range some = units.rows(unit), cols = units.cols(unit);
      const Range mine{rows.begin + some.begin, rows.begin + some.end};
      if (turned) {
        transposed_part(table, problem, mine, cols, epilogue);
      } else {
        part.run(k, mine, cols);
      }
    }
  };
  for_blocks(problem.k, turned ? max_block_k : depth, block, [&] { team.barrier(); });
}

int gemm_threads(int64_t m, int64_t n, int64_t k) {
  constexpr double of_result = 8;  // the work that a number takes besides its k multiply-adds
  return threads_for(static_cast<double>(m) * static_cast<double>(n) * (static_cast<double>(k) + of_result));
}

template <class T>
void gemm(const Gemm<T>& problem, Epilogue<T> epilogue) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (problem.parts > 0) return tile_gemm(*active_isa().tiles, problem, epilogue);
  }
  const KernelTable<T>& table = active_table<T>();
  run_team(gemm_threads(problem.m, problem.n, problem.k),
           [&](Team& team) { gemm_by_team(team, table, problem, {0, problem.m}, epilogue); });
}

template bool lies_badly<float>(const KernelTable<float>&, std::uintptr_t, int64_t, bool);
template bool lies_badly<double>(const KernelTable<double>&, std::uintptr_t, int64_t, bool);
template void lay_out<float>(const Team&, const KernelTable<float>&, const Gemm<float>&, Matrix<float>);
template void lay_out<double>(const Team&, const KernelTable<double>&, const Gemm<double>&, Matrix<double>);
template void gemm_by_team<float>(Team&, const KernelTable<float>&, const Gemm<float>&, Range, Epilogue<float>);
template void gemm_by_team<double>(Team&, const KernelTable<double>&, const Gemm<double>&, Range, Epilogue<double>);
template void gemm_part<float>(const KernelTable<float>&, const Gemm<float>&, Range, Range, Epilogue<float>);
template void gemm<float>(const Gemm<float>&, Epilogue<float>);
template void gemm_part<double>(const KernelTable<double>&, const Gemm<double>&, Range, Range, Epilogue<double>);
template void gemm<double>(const Gemm<double>&, Epilogue<double>);

}  // namespace mlpfast::cpu
