// Prints a digest of the bits that each kernel computes on each instruction set of the machine, one a line:
// "neon float relu 0123456789abcdef". tests/test_cross.py runs it on several processors and compares.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/elementwise.h"
#include "cpu/gemm.h"
#include "cpu/optimizer.h"
#include "cpu/softmax_xent.h"
#include "cpu/thread_count.h"
#include "ops/random.h"

using namespace mlpfast;
using namespace mlpfast::cpu;

namespace {

template <class T>
constexpr const char* type_name = sizeof(T) == 4 ? "float" : "double";

/// Numbers in [-size, size), the same on every machine.
template <class T>
std::vector<T> numbers(int64_t n, T size, std::uint64_t seed) {
  std::vector<T> x(static_cast<std::size_t>(n));
  std::uint64_t i = 0;
  for (T& number : x)
    number = static_cast<T>(static_cast<std::int32_t>(ops::philox(seed, i++, 0).w[0])) * T(0x1p-31) * size;
  return x;
}

/// FNV-1a over the bits; every NaN counts as the same.
template <class T>
void print(const std::string& name, std::initializer_list<std::vector<T>> results) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::vector<T>& result : results)
    for (const T x : result) {
      unsigned char bytes[sizeof x] = {};
      if (x == x) std::memcpy(bytes, &x, sizeof x);
      for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
      hash = (hash ^ (x == x)) * 0x100000001b3;
    }
  std::printf("%s %s %s %016llx\n", active_isa().name, type_name<T>, name.c_str(),
              static_cast<unsigned long long>(hash));
}

template <class T>
void products() {
  constexpr int64_t shapes[][3] = {{1, 1, 1},     {1, 131, 40},   {2, 131, 40},  {7, 17, 33},
                                   {29, 65, 100}, {13, 35, 1100}, {100, 131, 20}};
  for (const auto& [m, n, k] : shapes)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        const auto a = numbers<T>(m * k, 1, 1), b = numbers<T>(k * n, 1, 2);
        std::vector<T> c(static_cast<std::size_t>(m * n));
        gemm<T>({m, n, k, {a.data(), ta ? m : k}, {b.data(), tb ? k : n}, ta, tb, {c.data(), n}});
        const std::string transposes{ta ? 'T' : 'N', tb ? 'T' : 'N'};
        print<T>("gemm-" + transposes + "-" + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
                 {c});
      }
}

/// Split in integers, two and one bf16 parts.
void tile_products() {
  constexpr int64_t m = 130, n = 140, k = 70;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const int parts : {max_digits, 2, 1}) {
        const auto a = numbers<float>(m * k, 1, 1), b = numbers<float>(k * n, 1, 2);
        std::vector<float> c(static_cast<std::size_t>(m * n));
        gemm<float>({m, n, k, {a.data(), ta ? m : k}, {b.data(), tb ? k : n}, ta, tb, {c.data(), n}, parts});
        const std::string transposes{ta ? 'T' : 'N', tb ? 'T' : 'N'};
        print<float>("tiles-" + transposes + "-" + std::to_string(parts), {c});
      }
}

template <class T>
void elementwise() {
  constexpr int64_t rows = 19, cols = 109;
  const T infinity = __builtin_inff(), special[] = {T(__builtin_nanf("")),
                                                    infinity,
                                                    -infinity,
                                                    0,
                                                    T(-0.0F),
                                                    T(1e-40F),
                                                    T(-1e-40F),
                                                    T(-87.5F),
                                                    T(-103.5F),
                                                    T(88.8F),
                                                    T(1e30F),
                                                    T(-1e30F)};
  auto x = numbers<T>(rows * cols, 20, 3);
  for (std::size_t i = 0; i < x.size(); i += 13) x[i] = special[i / 13 % (sizeof special / sizeof *special)];
  const auto bias = numbers<T>(cols, 1, 4), dy = numbers<T>(rows * cols, 1, 5);
  for (int i = 0; i < ops::activation_count; ++i) {
    std::vector<T> saved(x.size()), y(x.size()), dx(x.size());
    const auto activation = static_cast<ops::Activation>(i);
    forward<T>(activation,
               {rows, cols, {x.data(), cols}, bias.data(), T(0.7F), T(0.2F), {saved.data(), cols}, {y.data(), cols}});
    backward<T>(activation, {rows, cols, {dy.data(), cols}, {x.data(), cols}, T(0.2F), {dx.data(), cols}});
    print<T>(ops::activations[i].name, {saved, y, dx});
  }
  std::vector<T> sums(cols), combined = dy, converted(cols);
  column_sums<T>(rows, cols, {dy.data(), cols}, sums.data());
  active_table<T>().combine({rows, cols, {x.data(), cols}, T(0.3F), T(-0.7F), {combined.data(), cols}});
  std::vector<std::uint8_t> bytes(cols);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 37);
  active_table<T>().load_uint8(cols, bytes.data(), T(0.3F), converted.data());
  print<T>("column_sums", {sums});
  print<T>("combine", {combined});
  print<T>("load_uint8", {converted});
}

template <class T>
void losses() {
  for (const int64_t cols : {1, 3, 10, 35, 100}) {
    constexpr int64_t rows = 23;
    const auto x = numbers<T>(rows * cols, 30, 6);
    auto class_weight = numbers<T>(cols, T(0.5F), 7), row_weight = numbers<T>(rows, T(0.5F), 8);
    for (T& w : class_weight) w += 1;
    for (T& w : row_weight) w += 1;
    std::vector<T> p(x.size()), d(x.size()), loss(rows);
    softmax<T>(rows, cols, {x.data(), cols}, {p.data(), cols});
    std::vector<std::int32_t> labels(rows);
    for (std::size_t i = 0; i < labels.size(); ++i)
      labels[i] = static_cast<std::int32_t>(static_cast<int64_t>(i * 7) % cols);
    labels[5] = -1;
    CrossEntropyArgs<T> args{rows,
                             cols,
                             {x.data(), cols},
                             labels.data(),
                             class_weight.data(),
                             row_weight.data(),
                             T(cols),
                             T(0.1F),
                             0.01,
                             {d.data(), cols},
                             loss.data(),
                             nullptr};
    cross_entropy(args);
    print<T>("softmax_cross_entropy-" + std::to_string(cols), {p, d, loss});
    args.class_weight = args.row_weight = nullptr;
    args.label_smoothing = 0;
    cross_entropy(args);
    print<T>("softmax_cross_entropy-plain-" + std::to_string(cols), {d, loss});
  }
}

template <class T>
void updates() {
  constexpr int64_t n = 1003;
  for (int i = 0; i < ops::optimizer_count; ++i) {
    const auto dw = numbers<T>(n, 1, 9);
    auto w = numbers<T>(n, 2, 10);
    UpdateArgs<T> args{1, n, {dw.data(), n}, T(0.3F), {w.data(), n}, {}, {T(0.1F), T(0.01F), T(0.9F), true}};
    std::vector<T> slots[ops::max_slots];
    for (int s = 0; s < ops::optimizers[i].slots; ++s) {
      slots[s] = numbers<T>(n, 1, 11);
      args.slots[s] = slots[s].data();
    }
    update<T>(static_cast<ops::Optimizer>(i), args);
    print<T>(ops::optimizers[i].name, {w, slots[0], slots[1]});
    args.rows = 17;
    args.cols = args.w.ld = n / 17;
    for (int64_t examples = 1; examples <= most_outer_examples; ++examples)
      active_table<T>().outer_update[i]({args, examples, {dw.data(), 100}, {dw.data() + 17, 97}});
    auto sums = numbers<T>(args.cols, 1, 12);
    active_table<T>().outer_forward[i]({args, dw.data(), dw.data() + 17, dw.data() + 31, sums.data()});
    print<T>(std::string(ops::optimizers[i].name) + "-outer", {w, slots[0], slots[1], sums});
  }
}

template <class T>
void kernels() {
  products<T>();
  elementwise<T>();
  losses<T>();
  updates<T>();
}

}  // namespace

int main() {
  set_num_threads(2);
  visit_isas(
      [](const char* name, bool vectors, void*) {
        set_isa(name);
        if (!vectors) return tile_products();
        kernels<float>();
        kernels<double>();
      },
      nullptr);
}
