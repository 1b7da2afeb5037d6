// What computes a product, and the tile unit by itself, for tests.
#include "cpu/tiles.h"

#include "bindings/checks.h"
#include "bindings/register.h"
#include "bindings/scalars.h"
#include "cpu/bytes.h"
#include "cpu/thread_count.h"

namespace mlpfast::bindings {
namespace {

constexpr int products_of_bytes = 5;  // in place of parts

/// (parts, 0 for FMAs; rows and columns of a tile; threads) of a product.
template <class T>
py::tuple explain(int64_t m, int64_t n, int64_t k, network::Precision precision) {
  const int parts = sizeof(T) == sizeof(float) ? cpu::tile_parts(m, n, k, precision) : 0;
  const auto& table = cpu::active_table<T>();
  const int64_t rows = parts ? cpu::strip_size : table.tile_rows[table.tile_vectors - 1],
                cols = parts ? cpu::strip_size : table.tile_vectors * table.lanes;
  return py::make_tuple(parts, rows, cols, cpu::gemm_threads(m, n, k));
}

/// c[32, 32] + a b, of images of so many parts: uint16 [blocks, parts, 1024], or int8 [blocks, parts, 2048].
py::array tile_multiply(const py::array& a, const py::array& b, const py::array& c, int parts) {
  const cpu::TileTable* tiles = cpu::active_isa().tiles;
  const int64_t blocks = a.ndim() == 3 ? a.shape(0) : 0;
  if (!tiles || b.ndim() != 3 || b.shape(0) != blocks || a.nbytes() != blocks * a.shape(1) * cpu::part_bytes ||
      b.nbytes() != blocks * b.shape(1) * cpu::part_bytes || c.nbytes() != cpu::strip_size * cpu::strip_size * 4)
    throw value_error("tile_multiply", "no tiles, or not images and a block of them");
  py::array_t<float> sum({cpu::strip_size, cpu::strip_size});
  std::memcpy(sum.mutable_data(), c.data(), static_cast<std::size_t>(c.nbytes()));
  tiles->begin();
  const cpu::Strip left{.exponent = {}, .low = 0, .parts = static_cast<std::int32_t>(a.shape(1)), .checked = 0},
      right{.exponent = {}, .low = 0, .parts = static_cast<std::int32_t>(b.shape(1)), .checked = 0};
  tiles->multiply({.blocks = blocks,
                   .a_strip = left,
                   .b_strip = right,
                   .a = static_cast<const std::uint8_t*>(a.data()),
                   .b = static_cast<const std::uint8_t*>(b.data()),
                   .parts = parts,
                   .c = sum.mutable_data(),
                   .accumulate = true,
                   .y = {}});
  tiles->end();
  return sum;
}

/// (x - shift) b of uint8 x[m, k], or x[k, m] transposed, as the first layer computes it.
py::array byte_multiply(const py::array_t<std::uint8_t, py::array::c_style>& x,
                        const py::array_t<float, py::array::c_style>& b, float shift, py::handle precision,
                        bool transposed) {
  const network::Precision level = precision_argument(precision, "byte_multiply");
  const cpu::TileTable* tiles = cpu::active_isa().tiles;
  if (x.ndim() != 2 || b.ndim() != 2) throw value_error("byte_multiply", "x and b are matrices");
  const int64_t rows = x.shape(0), cols = x.shape(1), n = b.shape(1);
  const int64_t m = transposed ? cols : rows, k = transposed ? rows : cols;
  if (!tiles || b.shape(0) != k) throw value_error("byte_multiply", "no tiles, or shapes that do not match");
  const auto lines = [](int64_t bytes) { return static_cast<std::size_t>(bytes / 64 + 2); };
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> plain(lines(cpu::ByteRows::plain_bytes(rows, cols))),
      turned(lines(cpu::ByteRows::turned_bytes(cols, rows))), digits(lines(cpu::digit_bytes(n, k, cpu::num_threads())));
  const cpu::ByteRows a = cpu::ByteRows::plain(cols, plain.data()), at = cpu::ByteRows::turned(rows, turned.data());
  for (int64_t i = 0; i < rows; ++i) std::memcpy(a.data + i * a.ld, x.data(i, 0), static_cast<std::size_t>(cols));
  for (int64_t s = 0; s * cpu::strip_size < rows; ++s) cpu::turn_strip(*tiles, a, cols, s, at);
  py::array_t<float> c({m, n});
  const cpu::Gemm<float> problem{.m = m, .n = n, .k = k, .a = {}, .b = {b.data(), n}, .c = {c.mutable_data(), n}};
  cpu::run_team(cpu::num_threads(), [&](cpu::Team& team) {
    cpu::multiply_bytes(team, cpu::active_table<float>(), *tiles,
                        {.gemm = problem,
                         .a = transposed ? at : a,
                         .shift = shift,
                         .precision = level,
                         .of_weights = !transposed,
                         .digits = digits.data()},
                        {});
  });
  return c;
}

}  // namespace

void register_tiles(py::module_& m) {
  m.def("explain",
        [](int64_t rows, int64_t cols, int64_t k, py::handle precision, const std::string& dtype) -> py::tuple {
          const network::Precision level = precision_argument(precision, "explain");
          if (dtype == "uint8" && cpu::bytes_pay(rows, cols, k, level))
            return py::make_tuple(products_of_bytes, cpu::strip_size, cpu::strip_size,
                                  cpu::gemm_threads(rows, cols, k));
          return dtype == "float64" ? explain<double>(rows, cols, k, level) : explain<float>(rows, cols, k, level);
        });
  m.def("tile_fallbacks", cpu::tile_fallbacks);
  m.def("tile_multiply", tile_multiply);
  m.def("byte_multiply", byte_multiply);
  m.def("vectors", [] { return cpu::active_vectors().name; });
}

}  // namespace mlpfast::bindings
