// Matrix products on a unit that multiplies tiles of bf16, or of bytes: operands are split into images, which are
// multiplied in blocks of 32 x 32; see isa/tiles.inl.h and isa/integers.inl.h for the arithmetic. A block whose numbers
// such tiles cannot hold, because one is not finite or they lie too far apart, or whose sums are too small for what
// they lose, is computed by FMAs; strips are counted from the matrix's first row, so what is computed how does not
// depend on threads.
#pragma once
#include "cpu/gemm.h"
#include "network/spec.h"

namespace mlpfast::cpu {

/// Parts that the numbers of a float32 product are split into, one or two bf16 or up to max_digits bytes; 0 where FMAs
/// compute it. A rule of the shape: splitting must pay, and sums stay within float32.
int tile_parts(int64_t m, int64_t n, int64_t k, network::Precision precision);

/// Strips of a (of 32 rows) or of b (of 32 columns), in memory of the caller: all, or those from `first` on.
struct SplitImage {
  int64_t outer, k;
  int parts;
  int64_t first, blocks, strip_bytes;
  Strip* strips;
  std::uint8_t* images;

  static int64_t bytes(int64_t outer, int64_t k, int parts);
  /// `memory` starts on a cache line; null for an image whose size alone matters.
  SplitImage(int64_t outer, int64_t k, int parts, void* memory, int64_t first = 0);

  int64_t count() const { return ceil_div(outer, strip_size) - first; }
  Strip& strip(int64_t s) const { return strips[s - first]; }
  std::uint8_t* image(int64_t s) const { return images + (s - first) * strip_bytes; }
};

/// How an operand lies, as its problem stores it, to its image.
struct Layout {
  bool along;      // k runs along its rows
  bool transpose;  // the image's rows run across them

  static constexpr Layout of_a(bool transposed) { return {!transposed, transposed}; }
  static constexpr Layout of_b(bool transposed) { return {transposed, transposed}; }
};

/// An operand as the problem stores it. Checked, sums of integers of both that are too small to be exact are computed
/// by FMAs. Those over the examples of a batch are not: one of these may be all that is left to learn.
struct Operand {
  Matrix<const float> x;
  bool transposed, checked;
  bool written = false;  // one part, by RowImages: its strips are judged only
};
void split_a(const TileTable& tiles, const SplitImage& image, const Operand& a, Range strips);
void split_b(const TileTable& tiles, const SplitImage& image, const Operand& b, Range strips);

/// Images of one part that a batch's rows are written to in one pass: for a product that takes them as a, and for the
/// gradient of the weights, which takes the batch along k.
struct RowImages {
  SplitImage rows, turned;
  Layout of_turned;

  /// Strip i of x.
  void write(const TileTable& tiles, Matrix<const float> x, int64_t i) const;
};

/// These strips of the product of split operands by a team, whose members first do their own strips (by_rows) or
/// panels, and a barrier. What a member split before, others may read.
void multiply_tiles(Team& team, const KernelTable<float>& table, const TileTable& tiles, const Gemm<float>& problem,
                    const SplitImage& a, const SplitImage& b, Range strips, bool by_rows, Epilogue<float> epilogue);

/// The same of a b that is yet to be split: a member splits each panel when it comes to it, into its first panel's
/// place in `image`, from where it is multiplied at once. For few enough strips that a's stay in L2.
void multiply_unsplit(Team& team, const KernelTable<float>& table, const TileTable& tiles, const Gemm<float>& problem,
                      const SplitImage& a, const Operand& b, const SplitImage& image, Range strips,
                      Epilogue<float> epilogue);

/// The whole product by a team.
void tile_gemm(const TileTable& tiles, const Gemm<float>& problem, Epilogue<float> epilogue);

/// Block (i, j), of 32 x 32, of a product.
Tile<float> block_of(const Gemm<float>& problem, int64_t i, int64_t j, float* sum);

/// Ends a block: write(y) puts its sums into the problem's c, or into `sum`, 32 x 32 numbers, for the epilogue. False
/// where write() is, whose sums may not be used.
template <class Write>
bool finish_block(const KernelTable<float>& table, const Gemm<float>& problem, int64_t i, int64_t j, float* sum,
                  Epilogue<float> epilogue, const Write& write) {
  const Tile<float> done = block_of(problem, i, j, sum);
  const bool direct = !epilogue && done.rows == strip_size && done.cols == strip_size;
  if (!write(direct ? problem.c.at(done.i, done.j) : done.sum)) return false;
  if (epilogue) {
    epilogue(done);
  } else if (!direct) {
    table.pack(done.rows, done.cols, {sum, strip_size}, problem.c.at(done.i, done.j));
  }
  return true;
}

/// Blocks (i, j) for strips i by FMAs, counted.
void fall_back(const KernelTable<float>& table, const Gemm<float>& problem, Range strips, int64_t j,
               Epilogue<float> epilogue);
/// Blocks that FMAs computed in place of tiles since the process began.
int64_t tile_fallbacks();

}  // namespace mlpfast::cpu
