// SSE2, the baseline of x86-64: 4 float32 or 2 float64 a register, 16 registers, a gemm tile of 6 rows of 2 registers.
// It has no FMA: products are rounded before they are added, so results differ in their last bits from other ISAs'.
#include "cpu/isa/kernels.inl.h"

namespace {
// A product takes a register of its own before it is added.
constexpr int isa_tile_vectors = 2, isa_tile_rows[] = {12, 6, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1};
}  // namespace

#include "cpu/isa/vec128.inl.h"

namespace {

template <class T>
MLPFAST_INLINE Vec128<T> fma(Vec128<T> a, Vec128<T> b, Vec128<T> c) {
  return a * b + c;
}

/// Adding 2^23 rounds fractions away; numbers from there on, and NaN, stay as they are.
template <class T>
MLPFAST_INLINE Vec128<T> nearest(Vec128<T> a) {
  const Vec128<T> whole = Vec128<T>::all(Format<T>::whole), size = absolute(a);
  const Vec128<T> rounded = size + whole - whole;
  return select(less(size, whole), select(less(a, Vec128<T>::all(0)), Vec128<T>::all(0) - rounded, rounded), a);
}

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_sse2;
constinit const Isa isa_sse2{"sse2", make_table<VecF32>(), make_table<VecF64>()};
}  // namespace mlpfast::cpu
