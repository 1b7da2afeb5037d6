#include "cpu/bytes.h"

#include <algorithm>

#include "cpu/tiles.h"

namespace mlpfast::cpu {
namespace {

constexpr int64_t line = 64;
constexpr int64_t groups = 4;  // of strips: a panel is worked off in so many units, for others to take over

constexpr int64_t most_workers = 64;  // of a team

int64_t blocks_of(int64_t k) { return ceil_div(k, byte_k); }
int64_t strips_of(int64_t m) { return ceil_div(m, strip_size); }
int64_t panel_bytes_of(int64_t k) { return max_digits * blocks_of(k) * part_bytes; }

struct Digits {
  std::int32_t least;
  float spread;
};
/// Of each level. Half a unit of four digits is at most 2^-31 of a column's largest number, 2^-21 of the mean: less
/// than a chain of FMAs loses in a sum of some hundred products, and in any where the largest is no more than 128 times
/// the mean.
constexpr Digits digits_of[] = {{}, {4, 1024}, {3, 32}, {2, 64}};

/// A panel of b as digits, or, where they cannot hold it, a strip of a as numbers; in memory of a member.
struct Panel {
  const TileTable& tiles;
  const ByteProblem& problem;
  void* memory;
  int64_t j = -1;
  DigitStrip strip{};

  void split(int64_t panel) {
    if (panel == j) return;
    j = panel;
    const Gemm<float>& gemm = problem.gemm;
    const Digits level = digits_of[static_cast<int>(problem.precision)];
    tiles.split_digits({.count = std::min(strip_size, gemm.n - j * strip_size),
                        .k = gemm.k,
                        .x = gemm.b.at(0, j * strip_size),
                        .digits = level.least,
                        .spread = level.spread,
                        .bounded = problem.of_weights,
                        .sums = problem.shift != 0,
                        .strip = &strip,
                        .image = digits()});
  }
  std::uint8_t* digits() const { return static_cast<std::uint8_t*>(memory); }

  /// Block (i, j) by FMAs.
  void fall_back(const KernelTable<float>& table, int64_t i, Epilogue<float> epilogue) const {
    const ByteRows& a = problem.a;
    const int64_t first = i * strip_size, rows = std::min(strip_size, problem.gemm.m - first), k = problem.gemm.k;
    float* const numbers = static_cast<float*>(memory);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < k; p += byte_k)
        table.load_uint8(std::min(byte_k, k - p), a.data + i * a.strip_step + r * a.ld + p / byte_k * a.block,
                         problem.shift, numbers + r * k + p);
    Gemm<float> block = problem.gemm;
    block.m = rows;
    block.a = {numbers, k};
    block.transpose_a = false;  // whatever the problem says of its own, which is not filled
    if (block.c.data) block.c = block.c.at(first, 0);
    const auto finish = [&](const Tile<float>& t) { epilogue({t.i + first, t.j, t.rows, t.cols, t.sum}); };
    cpu::fall_back(table, block, {0, 1}, j, epilogue ? Epilogue<float>(finish) : epilogue);
  }
};

}  // namespace

bool bytes_pay(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  constexpr int64_t least = 128, least_k = 64, most_k = 1 << 15;  // sums of k products of bytes are an int32
  return active_isa().tiles && precision != network::Precision::ieee && m >= least && n >= least && k >= least_k &&
         k <= most_k;
}

/// Rows start at odd multiples of a cache line: 16 at a time, they would crowd into a few cache sets otherwise.
ByteRows ByteRows::plain(int64_t k, void* memory) {
  const int64_t ld = (blocks_of(k) | 1) * line;
  return {static_cast<std::uint8_t*>(memory), ld, byte_k, strip_size * ld};
}

ByteRows ByteRows::turned(int64_t k, void* memory) {
  return {static_cast<std::uint8_t*>(memory), byte_k, part_bytes, blocks_of(k) * part_bytes};
}

int64_t ByteRows::plain_bytes(int64_t m, int64_t k) { return strips_of(m) * plain(k, nullptr).strip_step; }
int64_t ByteRows::turned_bytes(int64_t m, int64_t k) { return strips_of(m) * turned(k, nullptr).strip_step; }

void turn_strip(const TileTable& tiles, const ByteRows& x, int64_t features, int64_t s, const ByteRows& turned) {
  std::uint8_t* to = turned.data + s * strip_size / byte_k * turned.block + s * strip_size % byte_k;
  for (int64_t f = 0; f < strips_of(features); ++f)
    tiles.turn_bytes({x.data + s * x.strip_step + f * strip_size, x.ld}, {to + f * turned.strip_step, turned.ld});
}

int64_t digit_bytes(int64_t n, int64_t k, int64_t threads) {
  return std::min({threads, most_workers, strips_of(n) * groups}) * panel_bytes_of(k);
}

void multiply_bytes(Team& team, const KernelTable<float>& table, const TileTable& tiles, const ByteProblem& problem,
                    Epilogue<float> epilogue) {
  const Gemm<float>& gemm = problem.gemm;
  const ByteRows& a = problem.a;
  const int64_t blocks = blocks_of(gemm.k), strips = strips_of(gemm.m), panels = strips_of(gemm.n) * groups,
                group = ceil_div(strips, groups);
  const int workers = static_cast<int>(std::min<int64_t>({team.size(), most_workers, panels}));
  const bool works = team.rank() < workers;
  const Range own = works ? share(panels, 1, workers, team.rank()) : Range{0, 0};
  Panel panel{tiles, problem, static_cast<char*>(problem.digits) + team.rank() * panel_bytes_of(gemm.k)};
  auto& products = scratch().products;
  auto& joined = scratch().joined;
  const auto unit = [&](int64_t u) {
    const Range mine{u % groups * group, std::min(strips, (u % groups + 1) * group)};
    if (mine.size() <= 0) return;
    panel.split(u / groups);
    if (panel.strip.digits == 0) {
      for (int64_t i = mine.begin; i < mine.end; ++i) panel.fall_back(table, i, epilogue);
      return;
    }
    tiles.begin();
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      tiles.multiply_bytes(
          {blocks, a.data + i * a.strip_step, a.ld, a.block, panel.digits(), panel.strip.digits, products});
      finish_block(table, gemm, i, panel.j, joined, epilogue, [&](Matrix<float> y) {
        tiles.join_digits(panel.strip, problem.shift, products, y);
        return true;
      });
    }
    tiles.end();
  };
  team.each(own, unit, works);
}

}  // namespace mlpfast::cpu
