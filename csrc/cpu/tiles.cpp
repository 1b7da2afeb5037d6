#include "cpu/tiles.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>

namespace mlpfast::cpu {
namespace {

constexpr int64_t slice_bytes = 400 << 10;  // of a panel of b while strips of a pass by
// Sums of four products of digits stay within an int32.
static_assert(slice_bytes / (max_digits * part_bytes) * byte_k * (4 << 14) <= std::numeric_limits<std::int32_t>::max());
constexpr int64_t image_bytes = 16 << 20;  // of each operand at a time
constexpr int64_t huge_page = 2 << 20;

std::atomic<int64_t> fallbacks{0};

bool fits(const Strip& a, const Strip& b) { return std::min({a.low, b.low, a.low + b.low}) >= least_low; }

/// Some strips, into the image of strips from `place` on.
void split_some(const TileTable& tiles, const SplitImage& image, const Operand& x, Layout layout, Range strips,
                int64_t place) {
  const int64_t first = strips.begin * strip_size;
  tiles.split({.count = std::min(strips.size() * strip_size, image.outer - first),
               .k = image.k,
               .x = layout.along ? x.x.at(first, 0) : x.x.at(0, first),
               .along = layout.along,
               .transpose = layout.transpose,
               .parts = image.parts,
               .checked = x.checked,
               .written = x.written,
               .strips = &image.strip(place),
               .image = image.image(place),
               .strip_bytes = image.strip_bytes});
}

void split(const TileTable& tiles, const SplitImage& image, const Operand& x, Layout layout, Range strips) {
  const int64_t at_once = layout.along ? 1 : most_strips;
  for (int64_t s = strips.begin; s < strips.end; s += at_once)
    split_some(tiles, image, x, layout, {s, std::min(strips.end, s + at_once)}, s);
}

/// Memory of a thread, kept for its next call.
class Buffer {
 public:
  ~Buffer() { std::free(data_); }
  char* at_least(int64_t bytes) {
    if (bytes <= size_) return data_;
    std::free(data_);
    size_ = 0;
    bytes = round_up(bytes, huge_page);
    data_ = static_cast<char*>(std::aligned_alloc(huge_page, static_cast<std::size_t>(bytes)));
    if (!data_) throw std::bad_alloc();
    madvise(data_, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
    size_ = bytes;
    return data_;
  }

 private:
  char* data_ = nullptr;
  int64_t size_ = 0;
};
thread_local Buffer buffer;

/// Calls panel(strips, j) for groups of strips of a and panels j of b that cover the product; members first do their
/// own strips (by_rows) or panels; then a barrier. A group stays in L2 while a member's panels pass by.
template <class F>
void for_panels(Team& team, Range strips_of_a, int64_t b_count, int64_t strip_bytes, bool by_rows, const F& panel) {
  constexpr int64_t group_bytes = 1 << 20;
  const int size = team.size();
  const auto strips_of = [&](int rank) { return by_rows ? share(strips_of_a, 1, size, rank) : strips_of_a; };
  const auto panels_of = [&](int rank) { return by_rows ? Range{0, b_count} : share(b_count, 1, size, rank); };
  const int64_t height = strips_of(0).size(), width = panels_of(0).size(), least_groups = by_rows ? 1 : 4;
  const int64_t group =
      std::clamp<int64_t>(std::min(group_bytes / strip_bytes, ceil_div(height, least_groups)), 1, most_group);
  const int64_t units = ceil_div(height, group) * width;
  team.each({team.rank() * units, (team.rank() + 1) * units}, [&](int64_t unit) {
    const int owner = static_cast<int>(unit / units);
    const Range strips = strips_of(owner), panels = panels_of(owner);
    const int64_t first = strips.begin + unit % units / width * group, j = panels.begin + unit % width;
    if (first < strips.end && j < panels.end) panel(Range{first, std::min(strips.end, first + group)}, j);
  });
}

/// What every unit of a product needs.
struct Product {
  const KernelTable<float>& table;
  const TileTable& tiles;
  const Gemm<float>& problem;
  const SplitImage &a, &b;
  Epilogue<float> epilogue;

  /// A group of strips times panel j, whose image may lie at another's place.
  void panel(Range strips, int64_t j) const { panel(strips, j, j); }
  void panel(Range strips, int64_t j, int64_t place) const {
    const int64_t blocks = a.blocks, depth = std::max<int64_t>(1, slice_bytes / (b.parts * part_bytes));
    const Strip& right = b.strip(place);
    auto& sums = scratch().sums;
    std::uint64_t by_fma = 0;  // bits of the strips
    static_assert(most_group <= 64);
    tiles.begin();
    for (int64_t p = 0; p < blocks; p += depth) {
      for (int64_t i = strips.begin; i < strips.end; ++i) {
        const Strip& left = a.strip(i);
        const std::uint64_t bit = std::uint64_t{1} << (i - strips.begin);
        if (!fits(left, right)) by_fma |= bit;
        if (by_fma & bit) continue;
        float* const sum = sums[i - strips.begin];
        const auto multiply = [&](Matrix<float> y) {
          return tiles.multiply({.blocks = std::min(depth, blocks - p),
                                 .a_strip = left,
                                 .b_strip = right,
                                 .a = a.image(i) + p * left.parts * part_bytes,
                                 .b = b.image(place) + p * right.parts * part_bytes,
                                 .parts = a.parts,
                                 .c = sum,
                                 .accumulate = p > 0,
                                 .y = y});
        };
        if (p + depth < blocks) {
          multiply({});
        } else if (!finish_block(table, problem, i, j, sum, epilogue, multiply)) {
          by_fma |= bit;
        }
      }
    }
    tiles.end();
    for (int64_t i = strips.begin; i < strips.end; ++i)
      if (by_fma >> (i - strips.begin) & 1) fall_back(table, problem, {i, i + 1}, j, epilogue);
  }
};

}  // namespace

Tile<float> block_of(const Gemm<float>& problem, int64_t i, int64_t j, float* sum) {
  return {i * strip_size,
          j * strip_size,
          std::min(strip_size, problem.m - i * strip_size),
          std::min(strip_size, problem.n - j * strip_size),
          {sum, strip_size}};
}

void fall_back(const KernelTable<float>& table, const Gemm<float>& problem, Range strips, int64_t j,
               Epilogue<float> epilogue) {
  Gemm<float> by_fma = problem;
  by_fma.parts = 0;
  fallbacks.fetch_add(strips.size(), std::memory_order_relaxed);
  gemm_part(table, by_fma, {strips.begin * strip_size, std::min(strips.end * strip_size, problem.m)},
            {j * strip_size, std::min((j + 1) * strip_size, problem.n)}, epilogue);
}

int tile_parts(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  constexpr int64_t least = 128, least_k = 64, most_k = 1 << 15;  // 2^110 is the largest product of two scaled numbers
  constexpr int parts_of_level[] = {0, max_digits, 2, 1};
  const int parts = parts_of_level[static_cast<int>(precision)];
  if (!active_isa().tiles || m < least || n < least || k < least_k || k > most_k) return 0;
  // Splitting takes some (m + n) k operations, and joining sums of four weights some m n, which must be less than what
  // is saved of m n k (Emerald Rapids; a core whose other thread is a neighbour's).
  constexpr double splitting = 64, joining = 200;
  const double height = static_cast<double>(m), width = static_cast<double>(n), depth = static_cast<double>(k);
  const bool pays = depth * (height * width - splitting * (height + width)) >= joining * height * width;
  return !are_digits(parts) || pays ? parts : 0;
}

int64_t SplitImage::bytes(int64_t outer, int64_t k, int parts) {
  const SplitImage image(outer, k, parts, nullptr);
  constexpr int64_t line = 64;
  const int64_t strips = round_up(image.count() * int64_t(sizeof(Strip)), line);
  return strips + image.count() * image.strip_bytes;
}

SplitImage::SplitImage(int64_t outer_, int64_t k_, int parts_, void* memory, int64_t first_)
    : outer(outer_),
      k(k_),
      parts(parts_),
      first(first_),
      blocks(ceil_div(k, image_k(parts))),
      strip_bytes(blocks * (parts * part_bytes + (parts == 1 ? largest_bytes : 0))),
      strips(static_cast<Strip*>(memory)) {
  const auto end = reinterpret_cast<std::uintptr_t>(memory) + static_cast<std::size_t>(count()) * sizeof(Strip);
  images = reinterpret_cast<std::uint8_t*>((end + 63) / 64 * 64);
}

void split_a(const TileTable& tiles, const SplitImage& image, const Operand& a, Range strips) {
  split(tiles, image, a, Layout::of_a(a.transposed), strips);
}

void split_b(const TileTable& tiles, const SplitImage& image, const Operand& b, Range strips) {
  split(tiles, image, b, Layout::of_b(b.transposed), strips);
}

void RowImages::write(const TileTable& tiles, Matrix<const float> x, int64_t i) const {
  const auto write_block = [&](const SplitImage& image, Layout layout, int64_t j) {
    const int64_t s = layout.along ? i : j, p = layout.along ? j : i;
    const int64_t across = std::min(strip_size, image.outer - s * strip_size),
                  deep = std::min(strip_size, image.k - p * strip_size);
    tiles.write_block({.rows = layout.along ? across : deep,
                       .cols = layout.along ? deep : across,
                       .x = x.at(i * strip_size, j * strip_size),
                       .along = layout.along,
                       .transpose = layout.transpose,
                       .cold = layout.along,
                       .image = image.image(s) + p * part_bytes,
                       .most = image.image(s) + image.blocks * part_bytes + p * largest_bytes});
  };
  for (int64_t j = 0; j < rows.blocks; ++j) {
    write_block(rows, Layout::of_a(false), j);
    write_block(turned, of_turned, j);
  }
}

void multiply_tiles(Team& team, const KernelTable<float>& table, const TileTable& tiles, const Gemm<float>& problem,
                    const SplitImage& a, const SplitImage& b, Range strips, bool by_rows, Epilogue<float> epilogue) {
  const Product product{table, tiles, problem, a, b, epilogue};
  for_panels(team, strips, b.count(), a.strip_bytes, by_rows, [&](Range group, int64_t j) { product.panel(group, j); });
}

void multiply_unsplit(Team& team, const KernelTable<float>& table, const TileTable& tiles, const Gemm<float>& problem,
                      const SplitImage& a, const Operand& b, const SplitImage& image, Range strips,
                      Epilogue<float> epilogue) {
  constexpr int64_t least_groups = 4;  // of strips: a panel is worked off in so many units, for others to take over
  const int64_t group = std::min(ceil_div(strips.size(), least_groups), most_group),
                groups = ceil_div(strips.size(), group);
  const Range own = team.share(image.count());
  const Product product{table, tiles, problem, a, image, epilogue};
  int64_t at_hand = -1;
  const auto unit = [&](int64_t u) {
    const int64_t j = u / groups, first = strips.begin + u % groups * group;
    if (first >= strips.end) return;
    if (j != at_hand) split_some(tiles, image, b, Layout::of_b(b.transposed), {j, j + 1}, own.begin);
    at_hand = j;
    product.panel({first, std::min(strips.end, first + group)}, j, own.begin);
  };
  team.each({own.begin * groups, own.end * groups}, unit, own.size() > 0);
}

void tile_gemm(const TileTable& tiles, const Gemm<float>& problem, Epilogue<float> epilogue) {
  const KernelTable<float>& table = active_table<float>();
  const int64_t m = problem.m, n = problem.n, k = problem.k;
  const int64_t strip_bytes = SplitImage::bytes(strip_size, k, problem.parts);
  const int64_t most = std::max(strip_size, image_bytes / strip_bytes * strip_size), high = std::min(m, most),
                wide = std::min(n, most);
  const int64_t a_bytes = (SplitImage::bytes(high, k, problem.parts) + 63) / 64 * 64;
  char* memory = buffer.at_least(a_bytes + SplitImage::bytes(wide, k, problem.parts));
  run_team(gemm_threads(m, n, k), [&](Team& team) {
    for (int64_t j = 0; j < n; j += wide) {
      const int64_t cols = std::min(wide, n - j);
      const SplitImage b(cols, k, problem.parts, memory + a_bytes);
      split_b(tiles, b, {problem.transpose_b ? problem.b.at(j, 0) : problem.b.at(0, j), problem.transpose_b, true},
              team.share(b.count()));
      for (int64_t i = 0; i < m; i += high) {
        const int64_t rows = std::min(high, m - i);
        const SplitImage a(rows, k, problem.parts, memory);
        Gemm<float> part = problem;
        part.m = rows;
        part.n = cols;
        part.a = problem.transpose_a ? problem.a.at(0, i) : problem.a.at(i, 0);
        part.b = problem.transpose_b ? problem.b.at(j, 0) : problem.b.at(0, j);
        if (part.c.data) part.c = problem.c.at(i, j);
        const auto finish = [&](const Tile<float>& t) { epilogue({t.i + i, t.j + j, t.rows, t.cols, t.sum}); };
        split_a(tiles, a, {part.a, problem.transpose_a, true}, team.share(a.count()));
        team.barrier();
        multiply_tiles(team, table, tiles, part, a, b, {0, a.count()}, rows >= cols,
                       epilogue ? Epilogue<float>(finish) : Epilogue<float>());
      }
    }
  });
}

int64_t tile_fallbacks() { return fallbacks; }

}  // namespace mlpfast::cpu
