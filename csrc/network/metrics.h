// What training adds up: sums over batches.
#pragma once
#include <cstdint>

namespace mlpfast::network {

struct Metrics {
  double loss = 0, weight = 0;
  std::int64_t correct = 0, rows = 0;
};

}  // namespace mlpfast::network
