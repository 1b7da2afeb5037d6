// CPUID knows the instructions, the system saves the tiles, and grants them. A thread
// with a small signal stack, or an old kernel, can be the reason that it does not.
#include "cpu/amx_usable.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mlpfast::cpu {
namespace {

bool ask() {
  constexpr unsigned bf16 = 1U << 22, tile = 1U << 24, int8 = 1U << 25, all = bf16 | tile | int8, os_saves = 1U << 27;
  constexpr unsigned long long tiles = 3ULL << 17;  // XTILECFG, XTILEDATA
  constexpr long get_permission = 0x1022, ask_permission = 0x1023, tile_data = 18;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & os_saves)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & all) != all) return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & tiles) != tiles) return false;
  if (syscall(SYS_arch_prctl, ask_permission, tile_data) != 0) return false;
  unsigned long long granted = 0;
  return syscall(SYS_arch_prctl, get_permission, &granted) == 0 && (granted & tiles) == tiles;
}

}  // namespace

bool amx_usable() {
  static const bool usable = ask();
  return usable;
}

}  // namespace mlpfast::cpu
