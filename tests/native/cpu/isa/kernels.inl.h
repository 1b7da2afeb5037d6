// Stands in for csrc/cpu/isa/kernels.inl.h: the vector types of an ISA file without its kernels, which take long to
// compile.
#pragma once
#include "cpu/isa/elementwise.inl.h"
#include "cpu/isa/gemm.inl.h"
#include "cpu/isa/softmax_xent.inl.h"

namespace {

template <class V>
constexpr KernelTable<typename V::T> make_table() {
  return {};
}

}  // namespace
