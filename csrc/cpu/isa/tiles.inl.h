// Products of float32 matrices on a unit that multiplies tiles of bf16 or of bytes: what surrounds the unit, in vectors
// of the compiler, which become those of the including file's machine. Of the four products of two bf16 parts each the
// three largest are summed, smallest first (Henry, Tang, Heinecke, arXiv 1904.06376); what more parts would do, digits
// of integers do in less time. The including file supplies the unit: begin, end, multiply, multiply_digits;
// scale(v, e), v * 2^e; halves(x, y), the bf16 nearest to each number, those of x in the lower halves of the lanes;
// integer(v), the nearest, ties to even; add_product(a, b, c), c + a b.
#pragma once
#include "cpu/isa/halves.inl.h"
#include "cpu/isa/integers.inl.h"

namespace {

/// Calls pair(i, j) for the products of part i of a and part j of b, in the order in which they are summed.
template <int AParts, int BParts, int Parts, class F>
MLPFAST_INLINE constexpr void for_products(F&& pair) {
  constexpr int order[][2] = {{1, 0}, {0, 1}, {0, 0}};
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

template <class Unit, int AParts, int BParts, int Parts>
void multiply_halves(const TileProduct& t) {
  Unit::template multiply<AParts, BParts, Parts>(t);
  if (!t.y.data) return;
  for (int64_t j = 0; j < strip_size; j += 16) {
    Exponents e;
    __builtin_memcpy(&e, t.b_strip.exponent + j, sizeof e);
    for (int64_t i = 0; i < strip_size; ++i)
      store(Unit::scale(load(t.c + i * strip_size + j), -t.a_strip.exponent[i] - e), t.y.row(i) + j);
  }
}

/// False where what integers lose is too much of the sums, which are then not to be used.
template <class Unit>
bool multiply(const TileProduct& t) {
  if (are_digits(t.parts)) return multiply_integers<Unit>(t);
  const bool a_exact = t.a_strip.parts == 1, b_exact = t.b_strip.parts == 1;
  if (t.parts == 1) {
    multiply_halves<Unit, 1, 1, 1>(t);
  } else if (a_exact) {
    b_exact ? multiply_halves<Unit, 1, 1, 2>(t) : multiply_halves<Unit, 1, 2, 2>(t);
  } else {
    b_exact ? multiply_halves<Unit, 2, 1, 2>(t) : multiply_halves<Unit, 2, 2, 2>(t);
  }
  return true;
}

template <class Unit>
void split(const SplitArgs& t) {
  return are_digits(t.parts) ? split_integers<Unit>(t) : split_halves<Unit>(t);
}

}  // namespace
