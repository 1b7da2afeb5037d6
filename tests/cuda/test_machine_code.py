"""What nvcc made of the kernels on each architecture: no spills, the instructions meant, no driver."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import mlpfast

FUSED = {"128": 8 * 8 * 16, "64": 4 * 4 * 16, "32": 4 * 4 * 32}  # multiply-adds of a tile, by its rows
LOADS = {"128": 4 * 16, "64": 2 * 16, "32": 2 * 32}  # of four numbers
KERNELS = {"gemm_kernel": 12, "short_rows_kernel": 3, "long_rows_kernel": 3, "weigh_kernel": 2}
KERNELS |= {"tensor_kernel": 4, "split_kernel": 2}
KERNELS |= {f"{name}_kernel": 1 for name in ("reduce", "classify", "forward", "backward", "update", "bias")}
KERNELS |= {"gather_kernel": 1, "head_kernel": 1, "count_kernel": 1, "probe": 1}


@pytest.fixture(scope="module")
def library():
    spec = importlib.util.find_spec("mlpfast._cuda")
    if spec is None:
        pytest.skip("mlpfast was built without CUDA")
    return spec.origin


@pytest.fixture(scope="module")
def machine_code(library):
    """{architecture: {kernel's mangled name: Counter of its instructions}}"""
    folders = [folder for name in ("cuobjdump", "nvdisasm") if (folder := folder_of(name))]
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    tool = shutil.which("cuobjdump", path=path)
    if tool is None or shutil.which("nvdisasm", path=path) is None:
        pytest.skip("cuobjdump and nvdisasm are missing (pip install '.[test]' has them)")
    done = subprocess.run(
        [tool, "-sass", library], capture_output=True, text=True, env={"PATH": path}, timeout=200
    )
    assert done.returncode == 0, done.stderr
    code, kernel = defaultdict(dict), Counter()
    for line in done.stdout.splitlines():
        if found := re.match(r"\s*arch = (\w+)", line):
            architecture = found[1]
        elif found := re.match(r"\s*Function : (\S+)", line):
            kernel = code[architecture][found[1]] = Counter()
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?([A-Z][A-Z0-9_.]*)", line):
            kernel[found[1]] += 1
    return code


def folder_of(tool):
    """Of a program that PyPI's nvidia-cuda-* brought."""
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{tool}") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(Path(f.locate()).parent) for f in files if f.name == tool), None)


def total(kernel, *prefixes):
    return sum(count for name, count in kernel.items() if name.startswith(prefixes))


def test_every_architecture_has_every_kernel(machine_code):
    assert machine_code
    for architecture, kernels in machine_code.items():
        found = Counter(next(k for k in KERNELS if k in name) for name in kernels)
        assert found == KERNELS, architecture


def test_no_kernel_uses_memory_in_place_of_registers(machine_code):
    for architecture, kernels in machine_code.items():
        for name, kernel in kernels.items():
            assert sum(kernel.values()) > (0 if "probe" in name else 20)
            assert total(kernel, "LDL", "STL") == 0, f"{architecture} {name}"


def test_products_are_fused_multiply_adds_of_wide_loads(machine_code):
    for architecture, kernels in machine_code.items():
        for name, kernel in kernels.items():
            if found := re.search(r"gemm_kernel.*ShapeILi(\d+)E", name):
                assert total(kernel, "FFMA") >= FUSED[found[1]], f"{architecture} {name}"
                wide = total(kernel, "LDS.128", "LDS.U.128")
                assert wide >= 0.9 * LOADS[found[1]], f"{architecture} {name}"
                assert total(kernel, "HMMA", "HGMMA") == 0
                assert total(kernel, "LDGSTS") > 0 or architecture == "sm_75"  # straight to shared memory


def test_tensor_cores_multiply_bf16(machine_code):
    """A warp's 64 x 32 sums, or twice as many of one part, take 16 instructions for 16 of k: six times, or
    three, of several parts. Twice that is written out, or so for each stage, but for the five small products
    of three parts."""
    expected = {"3": 16 * (5 + 2), "2": 16 * 3 * 2, "1": 32 * 2}
    for architecture, kernels in machine_code.items():
        for name, kernel in kernels.items():
            if found := re.search(r"tensor_kernel.*ShapeILi(\d)E", name):
                products = total(kernel, "HMMA.16816.F32.BF16")
                if architecture == "sm_75":  # has none of this kind
                    assert products == 0
                    continue
                assert products > 0 and products % expected[found[1]] == 0, f"{architecture} {name}"
                assert total(kernel, "LDSM.16.M88.4") > 0, f"{architecture} {name}"
                assert total(kernel, "LDGSTS.E.BYPASS.128") > 0, f"{architecture} {name}"


def test_it_loads_where_there_is_no_driver(library):
    """And says so, or where there is one, that it is too old, say: not that it is broken."""
    assert mlpfast.cuda.is_available() or "loaded" not in mlpfast.cuda.why_unavailable()


def test_a_wheel_is_small(library):
    """Twenty megabytes are asked for all architectures; a part of them has its part."""
    parts = Path(library).parent.glob("_c*.so")
    assert sum(len(zlib.compress(part.read_bytes(), 6)) for part in parts) <= 20e6


def test_the_driver_is_not_needed_to_load_it(library):
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf")
    done = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    needed = re.findall(r"NEEDED.*\[(.*)\]", done.stdout)
    assert needed and not [name for name in needed if "cuda" in name]
