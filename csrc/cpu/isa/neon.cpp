// NEON, the baseline of aarch64: 4 float32 or 2 float64 a register, 32 registers, a gemm tile of 6 rows of 4 registers.
#include <arm_neon.h>

#include "cpu/isa/kernels.inl.h"

namespace {
constexpr int isa_tile_vectors = 4, isa_tile_rows[] = {14, 12, 8, 6, 5, 4, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1};
}

#include "cpu/isa/vec128.inl.h"

namespace {

MLPFAST_INLINE VecF32 fma(VecF32 a, VecF32 b, VecF32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
MLPFAST_INLINE VecF64 fma(VecF64 a, VecF64 b, VecF64 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
MLPFAST_INLINE VecF32 nearest(VecF32 a) { return {vrndnq_f32(a.v)}; }
MLPFAST_INLINE VecF64 nearest(VecF64 a) { return {vrndnq_f64(a.v)}; }

}  // namespace

namespace mlpfast::cpu {
extern constinit const Isa isa_neon;
constinit const Isa isa_neon{"neon", make_table<VecF32>(), make_table<VecF64>()};
}  // namespace mlpfast::cpu
