// One registration function a topic, called by the module.
#pragma once
#include <pybind11/pybind11.h>

namespace mlpfast::bindings {

void register_config(pybind11::module_& m);
void register_gemm(pybind11::module_& m);
void register_elementwise(pybind11::module_& m);
void register_softmax_xent(pybind11::module_& m);
void register_optimizer(pybind11::module_& m);
void register_tiles(pybind11::module_& m);
void register_network(pybind11::module_& m);

void register_cuda_kernels(pybind11::module_& m);
void register_device_array(pybind11::module_& m);

}  // namespace mlpfast::bindings
