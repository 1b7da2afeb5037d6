// The backend of network/step.h on a CPU: one object per thread and native call over buffers that the team shares.
// A thread takes rows from loading to the gradient of the first layer, and blocks of the weights' gradients, until none
// are left, so cores of unequal speed end together and a step needs two barriers. Where threads own columns of the
// first layer, the batch has gone through it before. Products by AMX tiles go in slabs of the whole team. With fewer
// than `rows_per_thread` rows each, threads own columns and meet after every layer.
#pragma once
#include <optional>

#include "cpu/bytes.h"
#include "cpu/column_blocks.h"
#include "cpu/features.h"
#include "cpu/gemm.h"
#include "cpu/lots.h"
#include "cpu/team.h"
#include "cpu/tiles.h"
#include "cpu/workspace.h"
#include "network/metrics.h"
#include "network/spec.h"
#include "network/step.h"
#include "ops/random.h"

namespace mlpfast::cpu {

inline constexpr int64_t rows_per_thread = 16;  // one gemm tile and a bit

inline constexpr int64_t uncached_rows = 256;  // at a time, where weights must be read again for each lot

/// Examples, labels and weights; the null ones are not given.
template <class T>
struct Examples {
  Features<T> features;
  const std::int32_t* labels;
  const T* sample_weight;
  const T* class_weight;
  const ops::Shuffle* shuffle;  // order of the rows, else as they lie
};

/// All that the members of a team share.
template <class T>
struct Job {
  const network::Spec& spec;
  const Examples<T>& examples;
  Workspace<T> workspace;
  T* parameters;
  T* parameter_gradient = nullptr;  // where no step stores it
  const ops::UpdateRule<T>* optimization = nullptr;
  const KernelTable<T>& table;
  const TileTable* tiles;
  double deadline = 0;
  bool expired = false;        // written by the first thread, before a barrier
  network::Metrics metrics{};  // in row order
  std::vector<char> finite{};  // [team size]
  std::vector<char> waits{};   // [team size, waits_pitch()]: layers whose update of the example before waits

  /// Whether gradients are wanted, not the loss or the outputs alone.
  bool training() const { return optimization || parameter_gradient; }
  /// Makes room for so many members.
  void seat(int threads) {
    const auto size = static_cast<std::size_t>(threads);
    finite.assign(size, 1);
    waits.assign(size * waits_pitch(), 0);
  }
  /// Each thread has cache lines of its own.
  std::size_t waits_pitch() const { return static_cast<std::size_t>(spec.layers() + 63) / 64 * 64; }
};

template <class T>
class Backend {
 public:
  Backend(Team& team, Job<T>& job);

  int layers() const { return spec_.layers(); }
  /// Until end(), the first layer's weights lie in blocks of columns, one for each member.
  void own_columns();
  void prepare_weights(const network::Batch& batch);
  /// Where members own columns, the batch goes through the first layer here; load() and forward(0) have nothing to do.
  void begin(const network::Batch& batch);
  /// Rows whose activations stay in the thread's cache while they go through the layers.
  bool next_rows();
  void load();
  void forward(int l);
  void loss();
  void backward_input(int l);
  bool loss_is_finite();
  void add_metrics();
  void prepare_gradients();
  /// A single example's update of weights waits for the next example, whose product makes it in the same pass, or for
  /// end().
  void backward_weights(int l, network::UpdateMode mode);
  void update();
  /// After the last step of a call: applies updates that wait, and brings columns back.
  void end();
  void sync() { team_.barrier(); }
  void layer_sync() {
    if (lots_.meets()) team_.barrier();
  }

 private:
  using Problem = Gemm<T>;

  /// The product of a batch of so many rows, its shape and how it is computed.
  Problem forward_problem(int l, int64_t rows) const;
  Problem backward_problem(int l, int64_t rows) const;
  Problem weights_problem(int l) const;
  /// A product whose columns are those of the first layer's weights: by blocks, each member's own first.
  void multiply_blocks(const Problem& problem, bool by_weights, Epilogue<T> epilogue);
  void multiply_rows(Problem problem, void* weights, const std::optional<RowImages>& images, Matrix<T> copy,
                     Epilogue<T> epilogue);
  /// Whether threads own whole strips of rows, because some product of rows is computed by tiles.
  bool multiplies_tiles(int64_t rows) const;
  bool takes_bytes(int64_t rows) const;
  /// Of a layer's inputs, and of the gradient of its outputs, where forward() and backward_input() write both images.
  std::optional<RowImages> images_of_input(int l) const;
  std::optional<RowImages> images_of_gradient(int l) const;
  /// Of the rows at hand, which are split, multiplied, and then needed no more.
  SplitImage image_of_rows(const Problem& p) const {
    return {lots_.lot().end, p.k, p.parts, work_.rows, lots_.lot().begin / strip_size};
  }
  /// Whether a layer's weights are split once a step only, and so when a product comes to them: if the rows stay in L2
  /// meanwhile.
  bool splits_late(const Problem& p) const {
    constexpr int64_t most_bytes = 4 << 20;  // of the rows' image, for two members
    return job_.training() && p.parts > 0 && p.m < p.n && slabs_of(p.m) == 1 &&
           SplitImage::bytes(p.m, p.k, p.parts) <= most_bytes;
  }
  Plan plan(int64_t rows) const;
  bool shares_columns(int64_t rows) const { return rows < rows_per_thread * team_.size() && team_.size() > 1; }
  /// Weights beyond L2 would be read by every thread, units of many rows be too few.
  bool shares_layers(int64_t rows) const {
    return team_.size() > 1 && !fits_cache<T>(spec_) && rows < 4 * uncached_rows * team_.size();
  }
  /// A copy of a layer's weights for FMAs, null where a batch of so many rows reads them as they lie.
  Matrix<T> copied(const std::vector<Matrix<T>>& copies, int l, int64_t rows) const {
    return shares_columns(rows) || owns(l) ? Matrix<T>{} : copies[static_cast<std::size_t>(l)];
  }
  int slabs_of(int64_t rows) const;
  int64_t rows_at_a_time(int64_t rows) const;
  void load_bytes();
  void multiply_bytes(const Problem& problem, const ByteRows& x, bool weights, Epilogue<T> epilogue);
  void load_features();
  template <class Load>
  void load_rows(Load&& load_row);
  bool owns(int l) const { return l == 0 && blocks_; }
  /// Of a layer, those that this member multiplies.
  Range columns(int l) const { return owns(l) ? blocks_.cols(team_.rank()) : columns_of(spec_.outputs(l)); }
  Range columns_of(int64_t n) const {
    return lots_.sharing() == Sharing::columns ? team_.share(n, table_.lanes) : Range{0, n};
  }
  double batch_weight() const;
  /// Of so many parameters from `offset` on.
  UpdateArgs<T> flat_update_args(int64_t offset, int64_t cols, const T* dw) const;
  UpdateArgs<T> weights_update_args(int l, Range rows, Range cols) const;
  template <class Move>
  void move_columns(const Move& move);
  void apply(const UpdateArgs<T>& args) const { table_.update[static_cast<int>(job_.optimization->optimizer)](args); }
  void finish_weights(int l, const Tile<T>& tile, network::UpdateMode mode) const;
  void outer_update(int l, int64_t examples, Matrix<T> x, Range rows, Range cols) const;
  void outer_forward(int l, Epilogue<T> epilogue);
  /// Threads that own no columns would stride over those of others, which is slow.
  bool may_wait(int l) const { return spec_.outputs(l) >= waiting_cols && (team_.size() == 1 || owns(l)); }
  void bias_gradient(int l, network::UpdateMode mode);

  Team& team_;
  Job<T>& job_;
  const network::Spec& spec_;
  Workspace<T>& work_;
  const KernelTable<T>& table_;
  network::Batch batch_{};
  double weight_ = 0;           // of the batch
  bool bytes_ = false;          // features go through the first layer as bytes
  Matrix<const T> in_place_{};  // features that are read where they lie, or null
  Lots lots_;                   // the batch's rows
  char* const waits_;           // [layers]
  ColumnBlocks<T> blocks_;      // by own_columns()
  bool first_taken_ = false;    // the batch has gone through the first layer
};

}  // namespace mlpfast::cpu
