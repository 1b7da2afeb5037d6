// Memory that a call or a training needs besides its arrays. One block, of some MB at most, stays for the next: what
// goes back to the system comes again page by page, and while it goes every CPU is interrupted that a thread of the
// team spins on.
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace mlpfast::cpu {

class Spare {
 public:
  /// Not initialised.
  explicit Spare(std::size_t bytes) : block_(kept.exchange(nullptr)) {
    if (block_ && block_->bytes < bytes) block_.reset();  // before there is another, in little memory
    if (!block_) block_ = std::make_unique<Block>(bytes);
  }
  Spare(Spare&&) = default;
  Spare& operator=(Spare&&) = delete;
  ~Spare() {
    constexpr std::size_t most_kept = 64 << 20;
    if (block_ && block_->bytes <= most_kept) block_.reset(kept.exchange(block_.release()));
  }
  std::size_t bytes() const { return block_->bytes; }
  /// From a multiple of its size on.
  template <class T>
  T* as(std::size_t offset = 0) const {
    return reinterpret_cast<T*>(block_->memory.get() + offset);
  }

 private:
  struct Block {
    explicit Block(std::size_t size) : bytes(size), memory(new (std::nothrow) char[size]) {
      if (!memory) throw std::bad_alloc();  // `new` itself ends a process under a sanitizer
    }
    std::size_t bytes;
    std::unique_ptr<char[]> memory;
  };
  inline static constinit std::atomic<Block*> kept{nullptr};

  std::unique_ptr<Block> block_;
};

}  // namespace mlpfast::cpu
