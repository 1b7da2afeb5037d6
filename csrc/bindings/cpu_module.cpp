// mlpfast._cpu: the CPU kernels and the training step. Private; mlpfast.kernels and mlpfast.model are its users.
#include "bindings/register.h"

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  using namespace mlpfast::bindings;
  register_config(m);
  register_gemm(m);
  register_elementwise(m);
  register_softmax_xent(m);
  register_optimizer(m);
  register_tiles(m);
  register_network(m);
}
