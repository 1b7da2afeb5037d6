#include "cuda/feed.h"

#include <cstring>

namespace mlpfast::cuda {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

Feed::Feed(const GivenExamples& from, int64_t cols, int64_t rows, cudaStream_t stream)
    : from_(from),
      rows_(rows),
      row_bytes_(cols * from.bytes_of_a_feature()),
      labels_at_(aligned(rows * row_bytes_)),
      weights_at_(labels_at_ + aligned(rows * int64_t(sizeof(std::int32_t)))) {
  const int64_t size = weights_at_ + rows * int64_t(sizeof(float));
  for (Block& block : blocks_) {
    block.host = Pinned<std::uint8_t>(size, stream);
    block.device = Buffer<std::uint8_t>(size, stream);
    block.used.record(stream);
  }
}

Examples Feed::bring(int64_t first, int64_t rows, const ops::Shuffle* order, cudaStream_t stream) {
  blocks_[1 - turn_].used.record(stream);  // by what was asked since the call before
  const Block& block = blocks_[turn_];
  turn_ = 1 - turn_;
  block.copied.wait();
  const auto* const features = static_cast<const std::uint8_t*>(from_.features);
  const auto bytes = static_cast<std::size_t>(row_bytes_);
  auto* const labels = reinterpret_cast<std::int32_t*>(block.host.data() + labels_at_);
  auto* const weights = reinterpret_cast<float*>(block.host.data() + weights_at_);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t source = order ? (*order)(first + i) : first + i;
    std::memcpy(block.host.data() + i * row_bytes_, features + source * row_bytes_, bytes);
    if (from_.labels) labels[i] = from_.labels[source];
    if (from_.sample_weight) weights[i] = from_.sample_weight[source];
  }
  block.used.order(copies_);
  check(cudaMemcpyAsync(block.device.data(), block.host.data(), static_cast<std::size_t>(block.device.size()),
                        cudaMemcpyHostToDevice, copies_),
        "copying");
  block.copied.record(copies_);
  block.copied.order(stream);
  std::uint8_t* const there = block.device.data();
  return {.features = there,
          .bytes = from_.bytes,
          .cols = row_bytes_ / from_.bytes_of_a_feature(),
          .labels = from_.labels ? reinterpret_cast<std::int32_t*>(there + labels_at_) : nullptr,
          .sample_weight = from_.sample_weight ? reinterpret_cast<float*>(there + weights_at_) : nullptr,
          .class_weight = nullptr,
          .gathered = true};
}

}  // namespace mlpfast::cuda
