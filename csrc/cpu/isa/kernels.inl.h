// Every SIMD kernel, once, over a vector type V that the including ISA file defines in its anonymous namespace.
// Sealed: templates and forced inlines only, no library but <cstddef> and <cstdint>, one table exported.
// Besides ops/portable.h, V has load(p), load(p, n), store(p), store(p, n) (n < lanes; the rest reads as 0 and is not
// touched), load_uint8(p), load_uint8(p, n), transpose(V (&)[lanes]), tile_rows[], the rows of its gemm tiles of 1, 2,
// ... vectors, and tile_vectors, the width of its fastest; where the default is not the best, blocking; where the
// machine has them, non-temporal stores: stream(p), p aligned, and end_streams() before others may read.
#pragma once
#include "cpu/isa/elementwise.inl.h"
#include "cpu/isa/gemm.inl.h"
#include "cpu/isa/optimizer.inl.h"
#include "cpu/isa/softmax_xent.inl.h"

namespace {

template <class V>
constexpr KernelTable<typename V::T> make_table() {
  KernelTable<typename V::T> table{};
  table.lanes = V::lanes;
  fill_gemm<V>(table);
  table.gemm_row = gemm_row<V>;
  if constexpr (requires { V::blocking; }) table.blocking = table.small_l2_blocking = V::blocking;
  if constexpr (requires { V::small_l2_blocking; }) table.small_l2_blocking = V::small_l2_blocking;
  if constexpr (packs_strips<V>(false)) table.pack_strip[0] = pack_strip_transposed<V>;
  if constexpr (packs_strips<V>(true)) table.pack_strip[1] = pack_strip<V>;
  table.pack = pack<V>;
  table.pack_transposed = pack_transposed<V>;
  table.combine = combine<V>;
  table.column_sums = column_sums<V>;
  table.softmax = softmax<V>;
  table.cross_entropy = cross_entropy<V>;
  table.load_uint8 = load_uint8<V>;
  int row = 0;
#define MLPFAST_ROW(name, functor)               \
  table.forward[row] = forward<V, ops::functor>; \
  table.backward[row++] = backward<V, ops::functor>;
  MLPFAST_ACTIVATIONS(MLPFAST_ROW)
#undef MLPFAST_ROW
  row = 0;
#define MLPFAST_ROW(name, functor)                           \
  fill_gemm_update<V, ops::functor>(table.gemm_update[row]); \
  table.update[row] = update<V, ops::functor>;               \
  table.outer_update[row] = outer_update<V, ops::functor>;   \
  table.outer_forward[row++] = outer_forward<V, ops::functor>;
  MLPFAST_OPTIMIZERS(MLPFAST_ROW)
#undef MLPFAST_ROW
  return table;
}

}  // namespace
