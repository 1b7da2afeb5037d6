// The waist between ISA-neutral loops and SIMD code: one constant table of functions per instruction set. A matrix
// argument is a pointer and the distance between its rows, counted in elements. Functions of several rows serve
// whole arrays and single gemm tiles alike, so an epilogue is the same code as the elementwise kernel.
#pragma once
#include <cstdint>

#include "ops/activation.h"
#include "ops/optimizer.h"

namespace mlpfast::cpu {

using std::int64_t;

inline constexpr int max_tile_rows = 14;
inline constexpr int max_tile_vectors = 16;
inline constexpr int panel_bytes = 256;  // widest packed panel of b: tile_vectors of the widest register

template <class T>
struct Matrix {
  T* data;
  int64_t ld;

  T* row(int64_t i) const { return data + i * ld; }
  Matrix at(int64_t i, int64_t j) const { return {data + i * ld + j, ld}; }
};

template <class T>
Matrix<const T> constant(Matrix<T> m) {
  return {m.data, m.ld};
}

/// c[rows, cols] (+)= a * b over k, one multiply-add chain per output; rows, vectors and transposition pick the
/// function.
template <class T>
struct GemmTile {
  int64_t k;
  Matrix<const T> a, b;
  Matrix<T> c;
  int64_t cols;
  bool accumulate;
};

/// y = act(x * scale + bias); the argument of act is kept in `saved` where that is not null.
template <class T>
struct ForwardArgs {
  int64_t rows, cols;
  Matrix<const T> x;
  const T* bias;
  T scale, alpha;
  Matrix<T> saved, y;
};

/// dx = dy * act'(saved)
template <class T>
struct BackwardArgs {
  int64_t rows, cols;
  Matrix<const T> dy, saved;
  T alpha;
  Matrix<T> dx;
};

/// c = alpha * x + beta * c; c is not read where beta is 0.
template <class T>
struct CombineArgs {
  int64_t rows, cols;
  Matrix<const T> x;
  T alpha, beta;
  Matrix<T> c;
};

/// One optimizer step on w with gradient dw * scale; the slots have w's layout.
template <class T>
struct UpdateArgs {
  int64_t rows, cols;
  Matrix<const T> dw;
  T scale;
  Matrix<T> w;
  T* slots[ops::max_slots];
  ops::StepScalars<T> scalars;
};

/// The gradient of a tile of weights, and their update from registers.
template <class T>
struct UpdateTile {
  GemmTile<T> gradient;  // c is read where it accumulates
  UpdateArgs<T> update;  // of as many rows and columns, without dw
};

/// There a step by tiles takes as long with AVX-512, 1.3 times as long with AVX2 (Zen 5); each more adds code.
inline constexpr int most_outer_examples = 8;

/// The gradient of a few examples: dw = x^T dy, as gemm sums it, never stored.
template <class T>
struct OuterUpdateArgs {
  UpdateArgs<T> update;   // without dw
  int64_t examples;       // 1 .. most_outer_examples
  Matrix<const T> x, dy;  // [examples, rows], [examples, cols]
};

/// The same for one example, and the product of the next one with the weights as they are then: sums = next w.
template <class T>
struct OuterForwardArgs {
  UpdateArgs<T> update;  // without dw
  const T *x, *dy;       // [rows], [cols]
  const T* next;         // [rows]
  T* sums;               // [cols]
};

/// Softmax cross-entropy of rows; formulas in ops/loss.h. Null: class_weight, row_weight 1; d_logits, correct not
/// wanted.
template <class T>
struct CrossEntropyArgs {
  int64_t rows, cols;
  Matrix<const T> logits;
  const std::int32_t* labels;  // in [0, cols), or negative: no loss, no gradient
  const T* class_weight;
  const T* row_weight;
  T class_weight_sum, label_smoothing;
  double gradient_scale;  // 1 / (a sum of weights) may not be a float32
  Matrix<T> d_logits;
  T* loss;                // [rows], times row_weight
  std::uint8_t* correct;  // [rows], 1 where the first largest logit is the label's
  T* exponentials;        // [2, cols]: d_logits are written past the caches, by non-temporal stores; or null
};

/// How large products are cut, as measured for an instruction set and a size of L2.
struct Blocking {
  static constexpr int64_t never = int64_t{1} << 62;
  static constexpr int64_t crowded = 2048;  // bytes: rows so far apart fall into the same few cache sets

  int64_t k = 768;                         // steps a pass, as far as that makes equal ones; a third more in one
  int64_t panels_bytes = 0;                // of b that a strip of a meets in turn; four panels at least
  int64_t packs_from[2] = {never, never};  // steps of a pass: a is packed, once for many panels; [a transposed]
  int64_t strips_cols = 96;                // for fewer columns a packed strip is not used often enough
  int64_t strips_bytes = 1 << 20;          // of packed a, where all panels are prepared but once
  int64_t crowds = crowded;                // bytes from row to row of b, or a multiple, for which it is copied
};

template <class T>
struct KernelTable {
  using Gemm = void (*)(const GemmTile<T>&);
  using Update = void (*)(const UpdateTile<T>&);

  int lanes;
  Blocking blocking, small_l2_blocking;
  int tile_vectors;                                     // width of the gemm tile for many rows
  int widest_tile;                                      // of the one for a single row, a not transposed
  int tile_rows[max_tile_vectors];                      // tallest for each width
  Gemm gemm[2][2][max_tile_vectors][max_tile_rows];     // [a transposed][last vector partial][vectors - 1][rows - 1]
  Gemm gemm_strip[2][max_tile_vectors][max_tile_rows];  // the same, a packed; null where the set does not
  Gemm gemm_row;                                        // of any width, a [k, 1]
  Update gemm_update[ops::optimizer_count][2][max_tile_rows];  // tile_vectors wide, a transposed; [packed][rows - 1]
  void (*pack_strip[2])(int64_t k, int64_t rows, Matrix<const T> a, T* strip);           // [a transposed]
  void (*pack)(int64_t k, int64_t cols, Matrix<const T> b, Matrix<T> panel);             // panel[p][j] = b[p][j]
  void (*pack_transposed)(int64_t k, int64_t cols, Matrix<const T> b, Matrix<T> panel);  // panel[p][j] = b[j][p]
  void (*forward[ops::activation_count])(const ForwardArgs<T>&);
  void (*backward[ops::activation_count])(const BackwardArgs<T>&);
  void (*combine)(const CombineArgs<T>&);
  void (*update[ops::optimizer_count])(const UpdateArgs<T>&);
  void (*outer_update[ops::optimizer_count])(const OuterUpdateArgs<T>&);
  void (*outer_forward[ops::optimizer_count])(const OuterForwardArgs<T>&);
  void (*column_sums)(int64_t rows, int64_t cols, Matrix<const T> x, T* sums);
  void (*softmax)(int64_t rows, int64_t cols, Matrix<const T> x, Matrix<T> y);
  void (*cross_entropy)(const CrossEntropyArgs<T>&);
  void (*load_uint8)(int64_t n, const std::uint8_t* x, T shift, T* y);  // y = x - shift
};

inline constexpr int64_t strip_size = 32;      // rows of a, or columns of b, that share an image; two tiles
inline constexpr int64_t part_bytes = 2048;    // of a block of a strip: two tiles of 16 rows of 64 bytes
inline constexpr int64_t largest_bytes = 128;  // of the largest magnitudes of a block's rows
inline constexpr int64_t half_k = 32;          // of a product of two tiles of bf16
inline constexpr int64_t byte_k = 64;          // of bytes
inline constexpr int max_digits = 4;           // bytes of an integer
inline constexpr int64_t most_strips = 8;      // of columns, split at once
inline constexpr int scaled_top = 55;          // largest numbers are scaled to this exponent, to be split into bf16
inline constexpr int least_low = -99;          // of scaled numbers: smaller ones, or products, lose bits to flushing
inline constexpr int not_split = 2 * least_low;

/// What so many parts at most are: one or two bf16 numbers, or the bytes of integers.
constexpr bool are_digits(int parts) { return parts == max_digits; }
/// Steps of k in a block of an image.
constexpr int64_t image_k(int parts) { return are_digits(parts) ? byte_k : half_k; }

/// How a strip was split: row i times 2^exponent[i] became `parts` bf16 numbers, or digits of base 256. The sum of two
/// strips' `low` is at least least_low where tiles may multiply them, and so is each. Of bf16, 2^low is the least
/// magnitude; of integers 0. not_split: a number is not finite. `checked`: bits of the rows whose sums are to be looked
/// at, those of integers that are not all 0.
struct Strip {
  std::int32_t exponent[strip_size];
  std::int32_t low, parts;
  std::uint32_t checked;
};

/// The images of strips: for each block of k and part two tiles of 16 rows of 64 bytes. A tile of a holds 16 rows; one
/// of b pairs of bf16 (or four bytes) along k, times 16 columns. These are numbers 16 apart in a block. What lies
/// beyond the matrix is 0. Behind the tiles of a single part: of each block, the bits of each row's largest magnitude.
struct SplitArgs {
  int64_t count, k;  // rows of x, of one strip; or, not along, its columns, of up to most_strips: longer runs of memory
  Matrix<const float> x;
  bool along;      // k runs along the rows of x
  bool transpose;  // rows of the image run across those of x
  int parts;       // at most; fewer are written where they suffice
  bool checked;    // digits: sums are to be looked at
  bool written;    // all blocks, by write_block(); of one part only
  Strip* strips;
  std::uint8_t* image;  // of the first; each has room for all parts, and what lies behind a single one
  int64_t strip_bytes;  // from one to the next
};

/// A block of one part, rows x cols numbers of up to 32 x 32, written before anything is known of the rest of its
/// strip, whose numbers split() judges once all are there.
struct BlockArgs {
  int64_t rows, cols;
  Matrix<const float> x;
  bool along, transpose;
  bool cold;  // the next block of x is to be fetched
  std::uint8_t *image, *most;
};

/// c[strip_size, strip_size] (+)= a b over some blocks of k; then y[i][j] = c[i][j] * 2^-(exponents), where y is not
/// null; c may then be anything.
struct TileProduct {
  int64_t blocks;
  const Strip &a_strip, &b_strip;
  const std::uint8_t *a, *b;
  int parts;  // of either, at most
  float* c;
  bool accumulate;
  Matrix<float> y;
};

/// How a strip of b became integers of so many digits (0 where they cannot hold it): column j times 2^exponent[j],
/// rounded. `sum`: of each column's integers.
struct DigitStrip {
  std::int32_t exponent[strip_size];
  double sum[strip_size];
  std::int32_t digits;
};

/// The image of a strip: for each digit, the lowest first, and block of byte_k numbers two tiles of 16 columns, whose
/// rows are 4 numbers along k of each. What lies beyond the matrix is 0.
struct DigitArgs {
  int64_t count, k;
  Matrix<const float> x;
  std::int32_t digits;  // at least
  float spread;         // largest ratio, in a column, of the largest magnitude to the mean of those that are not 0 that
                        // so many digits hold; each further digit holds 256 times it
  bool bounded;         // the mean is without the largest, and what even four digits do not hold is not split
  bool sums;            // wanted
  DigitStrip* strip;
  std::uint8_t* image;
};

/// c[digit][strip_size][strip_size] = a b, where row i of a is at a + i * ld, and a block of byte_k numbers is a_block
/// further.
struct ByteProduct {
  int64_t blocks;
  const std::uint8_t* a;
  int64_t ld, a_block;
  const std::uint8_t* b;
  int digits;
  std::int32_t* c;
};

struct TileTable {
  void (*begin)();  // a thread may multiply from here
  void (*end)();
  void (*split)(const SplitArgs&);
  void (*write_block)(const BlockArgs&);
  bool (*multiply)(const TileProduct&);  // whether y may be used
  void (*split_digits)(const DigitArgs&);
  void (*multiply_bytes)(const ByteProduct&);
  /// y = (a - shift) b, from the digits' products.
  void (*join_digits)(const DigitStrip& b, double shift, const std::int32_t* c, Matrix<float> y);
  /// turned[j] = x[:, j] of a block of strip_size x strip_size bytes.
  void (*turn_bytes)(Matrix<const std::uint8_t> x, Matrix<std::uint8_t> turned);
};

/// A machine with tiles alone takes its other kernels from the best set that has them.
struct Isa {
  const char* name;
  KernelTable<float> f32;
  KernelTable<double> f64;
  const TileTable* tiles = nullptr;

  template <class T>
  const KernelTable<T>& table() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return f32;
    } else {
      return f64;
    }
  }
};

/// The instruction set in use: MLPFAST_ISA, else the best this machine has. Throws std::invalid_argument.
const Isa& active_isa();
/// Of a core. It decides how work is cut, and no number's bits; a test may set another size.
int64_t l2_bytes();
void set_l2_bytes(int64_t bytes);
/// Itself, or the set that lends it its kernels.
const Isa& active_vectors();
/// Throws std::invalid_argument where the name is unknown or the machine lacks it.
void set_isa(const char* name);
/// Calls visit(name, whether it has kernels besides products of tiles, context) for each of this machine, best last.
void visit_isas(void (*visit)(const char*, bool, void*), void* context);

template <class T>
const KernelTable<T>& active_table() {
  return active_vectors().table<T>();
}

}  // namespace mlpfast::cpu
