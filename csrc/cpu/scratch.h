// What a thread needs for products beside its stack, which may be small. A team makes it before the work begins, so
// that a lack of memory is an exception of the call, or a smaller team.
#pragma once
#include "cpu/dispatch.h"

namespace mlpfast::cpu {

inline constexpr int64_t max_block_k = 1024;         // steps of a pass; only where c is given may there be more passes
inline constexpr int64_t panels_row_bytes = 2048;    // of a row of prepared panels of b
inline constexpr int64_t a_block_bytes = 1 << 20;    // of a, while panels of b pass by, prepared for each block
inline constexpr int64_t finished_bytes = 16 << 10;  // of tiles whose epilogue is to come, in L1
inline constexpr int64_t narrow = 16;                // columns that leave most of a wide tile idle
inline constexpr int64_t most_group = 64;            // strips of a that a panel of split parts meets

/// Not initialised: pages that no product uses stay the system's.
struct Scratch {
  alignas(64) char panels[max_block_k * panels_row_bytes];
  alignas(64) char finished[finished_bytes];
  alignas(64) char turned[panels_row_bytes * narrow];
  alignas(64) char block[a_block_bytes + 2 * max_block_k * 64];  // and two cache lines a row
  alignas(64) float sums[most_group][strip_size * strip_size];
  alignas(64) std::int32_t products[max_digits * strip_size * strip_size];
  alignas(64) float joined[strip_size * strip_size];
};

/// Of this thread, in a team's body.
Scratch& scratch();

}  // namespace mlpfast::cpu
