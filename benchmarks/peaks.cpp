// What this machine can do at most, for the fractions in the tables: a loop of nothing but FMAs, and a copy.
// Built on the fly by peaks.py with the flags of the ISA that mlpfast runs on; the vector width follows from them.
#include <cstdint>
#include <cstring>

#include <omp.h>

#if defined(__AVX512F__)
constexpr int width = 64;
#elif defined(__AVX__)
constexpr int width = 32;
#else
constexpr int width = 16;
#endif
#if defined(__aarch64__)
#define VECTOR_REGISTER(c) "+w"(c)
#else
#define VECTOR_REGISTER(c) "+v"(c)
#endif
using Vec = float __attribute__((vector_size(width)));
constexpr int chains = 12;  // > 2 FMA units x 4 cycles; with the two constants they fill 16 registers at most

// The empty asm makes the compiler believe that each value is read and changed, so that nothing is dropped or merged.
static void fma_chains(std::int64_t iterations) {
  Vec a = {}, b = {};
  Vec c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;
  a += 0.5f, b += 1.0f;
  asm volatile("" : VECTOR_REGISTER(a), VECTOR_REGISTER(b));
#define FMA(c)   \
  c = c * a + b; \
  asm volatile("" : VECTOR_REGISTER(c))
  for (std::int64_t i = 0; i < iterations; ++i) {
    FMA(c0);
    FMA(c1);
    FMA(c2);
    FMA(c3);
    FMA(c4);
    FMA(c5);
    FMA(c6);
    FMA(c7);
    FMA(c8);
    FMA(c9);
    FMA(c10);
    FMA(c11);
  }
}

extern "C" {

double peak_fma_flops(std::int64_t iterations, int threads) {
  return 2.0 * (width / 4) * chains * iterations * threads;
}

void peak_fma(std::int64_t iterations, int threads) {
#pragma omp parallel num_threads(threads)
  fma_chains(iterations);
}

void peak_copy(char* out, const char* in, std::int64_t bytes, int threads) {
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t begin = bytes / threads * omp_get_thread_num();
    const std::int64_t end = omp_get_thread_num() + 1 == threads ? bytes : begin + bytes / threads;
    std::memcpy(out + begin, in + begin, end - begin);
  }
}
}
