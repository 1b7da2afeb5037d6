// Products of float32 matrices on a unit that multiplies tiles of bf16: what surrounds the unit, in vectors of the
// compiler, which become those of the including file's machine. Of the nine products of three parts each the six
// largest are summed, smallest first (Henry, Tang, Heinecke, arXiv 1904.06376). The including file supplies the unit:
// begin, end, multiply, scale(v, e), v * 2^e, and halves(x, y), the bf16 nearest to each number, those of x in the
// lower halves of the lanes.
#pragma once
#include "cpu/isa/split.inl.h"

namespace {

using Exponents = std::int32_t __attribute__((vector_size(64)));

template <class Unit>
void unscale(const Strip& a, const Strip& b, const float* c, Matrix<float> y) {
  for (int64_t i = 0; i < strip_size; ++i) {
    for (int64_t j = 0; j < strip_size; j += 16) {
      Exponents e;
      __builtin_memcpy(&e, b.exponent + j, sizeof e);
      store(Unit::scale(load(c + i * strip_size + j), -a.exponent[i] - e), y.row(i) + j);
    }
  }
}

/// Calls pair(i, j) for the products of part i of a and part j of b, in the order in which they are summed.
template <int AParts, int BParts, int Parts, class F>
MLPFAST_INLINE constexpr void for_products(F&& pair) {
  constexpr int order[][2] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};
  MLPFAST_UNROLL
  for (const auto& [i, j] : order)
    if (i < AParts && j < BParts && i + j < Parts) pair(i, j);
}

template <int AParts, int BParts, int Parts>
constexpr int count_products() {
  int count = 0;
  for_products<AParts, BParts, Parts>([&](int, int) { ++count; });
  return count;
}

/// multiply<Unit, a's parts, b's parts, parts> by numbers known at run time.
template <class Unit, int Parts>
void multiply_parts(const TileProduct& t) {
  if (t.a_parts == 1) {
    return t.b_parts == 1 ? Unit::template multiply<1, 1, Parts>(t) : Unit::template multiply<1, Parts, Parts>(t);
  }
  return t.b_parts == 1 ? Unit::template multiply<Parts, 1, Parts>(t) : Unit::template multiply<Parts, Parts, Parts>(t);
}

template <class Unit>
void multiply(const TileProduct& t) {
  if (t.parts == 1) return multiply_parts<Unit, 1>(t);
  return t.parts == 2 ? multiply_parts<Unit, 2>(t) : multiply_parts<Unit, 3>(t);
}

}  // namespace
