// Examples that stay in the host's memory, brought to the device chunk by chunk: rows are gathered into one of two
// pinned blocks, and copied, while the device works on the other.
#pragma once
#include "cuda/device.h"
#include "cuda/elementwise.h"
#include "cuda/run.h"
#include "ops/random.h"

namespace mlpfast::cuda {

class Feed {
 public:
  /// Chunks of so many rows at most. `from` must outlive the feed, and so the stream of the work.
  Feed(const GivenExamples& from, int64_t cols, int64_t rows, cudaStream_t stream);

  int64_t rows() const { return rows_; }
  /// Rows `first` .. of the order (null: as they lie), as work asked of the stream from now on finds them. They stay
  /// until the call after the next.
  Examples bring(int64_t first, int64_t rows, const ops::Shuffle* order, cudaStream_t stream);

 private:
  struct Block {
    Pinned<std::uint8_t> host;
    Buffer<std::uint8_t> device;
    Event copied, used;
  };

  const GivenExamples& from_;
  const int64_t rows_, row_bytes_, labels_at_, weights_at_;
  Block blocks_[2];
  Stream copies_;  // goes first, and waits
  int turn_ = 0;
};

}  // namespace mlpfast::cuda
