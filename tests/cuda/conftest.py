"""The fixtures `cuda` and `gpu`: the CUDA code on a CPU, compiled against shim/, and on a GPU if any."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mlpfast

SHIM = Path(__file__).resolve().parent / "shim"
CSRC = SHIM.parents[2] / "csrc"
BINDINGS = ["checks", "cuda_kernels", "cuda_module", "device_array", "dlpack", "scalars", "spec"]
KERNELS = sorted(CSRC.glob("cuda/*.cu"))
FLAGS = ["-std=gnu++20", "-O1", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-x", "c++"]
FLAGS += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-parameter"]


@pytest.fixture(scope="session")
def shim_path(tmp_path_factory):
    """The extension for a GPU that is played by the CPU."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    pybind11 = pytest.importorskip(
        "pybind11", reason="pybind11 is not installed (pip install '.[test]' has it)"
    )
    folder = tmp_path_factory.mktemp("shim")
    includes = [
        SHIM,
        SHIM.with_name("ptx"),
        CSRC,
        pybind11.get_include(),
        sysconfig.get_path("include"),
    ]
    options = [*FLAGS, *(f"-I{path}" for path in includes)]

    def run(*command):
        done = subprocess.run([compiler, *map(str, command)], capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        return command[-1]

    def build(source):
        language = ["-D__CUDACC__", "-include", "cuda_runtime.h"] if source.suffix == ".cu" else []
        return run(*options, *language, "-c", source, "-o", folder / f"{source.name}.o")

    bindings = folder / "bindings.cpp"  # as one, for pybind11 takes long
    bindings.write_text("".join(f'#include "bindings/{name}.cpp"\n' for name in BINDINGS))
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(build, [bindings, *KERNELS]))
    return run("-shared", *objects, "-o", folder / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}")


@pytest.fixture(scope="session")
def shim(shim_path):
    spec = importlib.util.spec_from_file_location("shim._cuda", shim_path)  # pybind11 knows modules by name
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["shim", "gpu"])
def cuda(request, monkeypatch):
    """Name of what plays the GPU in this test."""
    if request.param == "shim":
        monkeypatch.setitem(sys.modules, "mlpfast._cuda", request.getfixturevalue("shim"))
    elif not mlpfast.cuda.is_available():
        pytest.skip(f"no GPU: {mlpfast.cuda.why_unavailable()}")
    return request.param


@pytest.fixture(params=["first to last", "last to first"])
def gpu(cuda, request, monkeypatch):
    """Brings an array to the GPU, whose blocks come in this order."""
    if cuda == "shim":
        monkeypatch.setenv("SHIM_BACKWARDS", str(int(request.param == "last to first")))
    elif request.param == "last to first":
        pytest.skip("a GPU has an order of its own")
    return mlpfast.cuda.from_numpy


@pytest.fixture
def limit_memory(cuda):
    """Sets how many bytes the GPU seems to have for examples."""
    module = mlpfast.cuda.extension()
    yield module.set_most_free_bytes
    module.set_most_free_bytes(2**63 - 1)
