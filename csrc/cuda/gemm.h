// Matrix products on a GPU: c[m, n] = a b, one FMA chain per output in order of k, the CPU's bits at "ieee"; at other
// levels, where outputs are few, the sum of several such chains. What becomes of a sum is said by `finish`, the same
// row-wise operations as on the CPU, chosen at run time.
#pragma once
#include "cuda/device.h"
#include "network/spec.h"
#include "ops/activation.h"
#include "ops/optimizer.h"
#include "ops/random.h"

namespace mlpfast::cuda {

/// What a mean over a batch divides by: the sum of its weights; and the sum of the class weights, where they are given.
struct Totals {
  double weight;
  float class_weight;
  double inverse;  // of the weight, or 0: a division takes many GPUs long
};

/// Where a run stands, and what changes between two replays of its steps. Lives on the device.
struct Control {
  int64_t next;  // row of the epoch's order that the next batch begins with
  int diverged;  // a loss was not finite: weights and metrics stay as they are from there on
  double loss, weight;
  Totals batch;
  int64_t correct, rows;
  ops::StepScalars<float> scalars;
  bool shuffled;  // else the order is that of the rows
  ops::Shuffle shuffle{1, 0, 0};
};

template <class T>
struct Matrix {
  T* data;
  int64_t ld;
};

/// An update of parameters that lie at `w`, and their slots.
struct Update {
  ops::Optimizer optimizer;
  float* w;
  float* slots[ops::max_slots];
  const Control* control;  // has the scalars, and whether they still apply; or null
  ops::StepScalars<float> scalars = {};
};

enum class Finish { forward, backward_input, store, combine, update };

/// How a product is computed.
struct GemmPlan {
  int parts = 0;   // of tensor_parts(): by tensor cores, where this is not 0
  int tile = 0;    // else the rows, and columns, that a block computes
  int slices = 1;  // of k, each a block's; the sums of 1 are chains over all of k
};

/// What products work in besides their arrays, one after the other.
struct GemmScratch {
  char* parts = nullptr;        // tensor_bytes()
  float* partial = nullptr;     // [slices][m][n] where k is sliced: at most most_partial numbers, 2 MB
  unsigned* arrived = nullptr;  // [most_tiles] there: blocks that have summed their part; 0 between calls
};
constexpr int64_t most_tiles = 264, most_blocks = 4 * 132, most_partial = most_blocks * 32 * 32;

struct GemmArgs {
  int64_t m, n, k;
  Matrix<const float> a, b;
  Finish finish;
  Matrix<float> y;              // outputs, gradients; of an update only the pitch counts
  Matrix<float> saved = {};     // by forward written where not null, by backward_input read
  const float* bias = nullptr;  // of forward
  float scale = 1;              // times the sum
  float beta = 0;               // of combine: times what y was
  float alpha = 0;              // of the activation
  ops::Activation activation = ops::Activation::identity;
  Update update = {};
  GemmPlan plan = {};
  GemmScratch scratch = {};
  const int* unfit = nullptr;  // of gemm_unfit()
};

/// How a and b are stored: as [m, k] and [k, n], or transposed.
enum class Layout { nn, nt, tn, tt };

/// Of a product on the current device. How its k is sliced follows from shape and precision, and so do the bits.
GemmPlan plan_gemm(int64_t m, int64_t n, int64_t k, network::Precision precision);

/// Of any product with this k.
int64_t most_slices(int64_t k, network::Precision precision);

void gemm(const GemmArgs& args, Layout layout, cudaStream_t stream);
/// Those tiles of 128 x 128 alone that have lines, of a's m or b's n, whose exponent says that split() could not.
constexpr int unfit_tile = 128;
void gemm_unfit(GemmArgs args, Layout layout, const int* exponents, cudaStream_t stream);

}  // namespace mlpfast::cuda
