// Chooses one table: the last entry of the list (made by CMake, in order of preference) that this machine can run.
// __builtin_cpu_supports asks CPUID and, by XGETBV, whether the operating system saves the registers.
#include "cpu/dispatch.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/amx_usable.h"

namespace mlpfast::cpu {

#define MLPFAST_ISA_ROW(name, supported) extern constinit const Isa isa_##name;
#include "isa_list.h"
#undef MLPFAST_ISA_ROW

namespace {

struct Candidate {
  const Isa* isa;
  bool (*supported)();
};

constexpr Candidate candidates[] = {
#define MLPFAST_ISA_ROW(name, supported) {&isa_##name, [] { return bool(supported); }},
#include "isa_list.h"
#undef MLPFAST_ISA_ROW
};

std::atomic<const Isa*> active{nullptr};

std::atomic<int64_t> l2 = [] {
  const long known = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return known > 0 ? known : 2 << 20;
}();

const Isa* find(const std::string& wanted) {
  std::string known;
  for (const Candidate& c : candidates) {
    if (wanted == c.isa->name && c.supported()) return c.isa;
    if (c.supported()) known += std::string(known.empty() ? "" : ", ") + c.isa->name;
  }
  throw std::invalid_argument("MLPFAST_ISA: '" + wanted + "' is not one of this machine's instruction sets: " + known);
}

template <class Accept>
const Isa* best(Accept accept) {
  const Isa* found = nullptr;
  for (const Candidate& c : candidates)
    if (accept(*c.isa) && c.supported()) found = c.isa;
  return found;
}

const Isa* choose() {
  if (const char* wanted = std::getenv("MLPFAST_ISA"); wanted && *wanted) return find(wanted);
  return best([](const Isa&) { return true; });
}

}  // namespace

int64_t l2_bytes() { return l2; }

void set_l2_bytes(int64_t bytes) { l2 = bytes; }

const Isa& active_isa() {
  const Isa* isa = active;
  if (!isa) active = isa = choose();
  return *isa;
}

const Isa& active_vectors() {
  const Isa& isa = active_isa();
  if (isa.f32.lanes > 0) return isa;
  static const Isa& lender = *best([](const Isa& other) { return other.f32.lanes > 0; });
  return lender;
}

void set_isa(const char* name) { active = find(name); }

void visit_isas(void (*visit)(const char*, bool, void*), void* context) {
  for (const Candidate& c : candidates)
    if (c.supported()) visit(c.isa->name, c.isa->f32.lanes > 0, context);
}

}  // namespace mlpfast::cpu
