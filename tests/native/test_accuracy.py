"""Errors of exp, log, tanh and sigmoid on every instruction set, in ulp, against libm in a wider type.

By default every 64th float32, a million float64 numbers and all around each boundary. Every float32 and ten
million float64 numbers take `pytest -m exhaustive` and some minutes.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tolerances import VECTOR_ISAS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROW = re.compile(r'"(\w+)\|.*\|([^|"]*)"')
FLAGS = ["-std=gnu++20", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
BOUNDS = {
    "float": {"exp": 1, "log": 2, "tanh": 3, "sigmoid": 3},
    "double": {"exp": 2, "log": 2, "tanh": 2, "sigmoid": 2},
}


@pytest.fixture(scope="module")
def program(request, tmp_path_factory):
    """The measuring program of an instruction set, with the flags that CMakeLists.txt gives it."""
    name, compiler = request.param, shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    flags = dict(ROW.findall((ROOT / "CMakeLists.txt").read_text()))[name].split()
    binary = tmp_path_factory.mktemp(name) / "accuracy"
    source = ["-I", HERE, "-I", ROOT / "csrc", "-include", ROOT / f"csrc/cpu/isa/{name}.cpp"]
    command = [compiler, *FLAGS, *flags, *source, HERE / "accuracy.cpp", "-o", binary]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return binary


def check(program, dtype, amount):
    done = subprocess.run([program, dtype, str(amount)], capture_output=True, text=True, check=True)
    errors = {name: (float(error), at) for name, error, at in map(str.split, done.stdout.splitlines())}
    assert errors.keys() == BOUNDS[dtype].keys()
    for name, bound in BOUNDS[dtype].items():
        error, at = errors[name]
        assert error <= bound, f"{name}({at}) is {error} ulp off"


EVERY_ISA = pytest.mark.parametrize("program", VECTOR_ISAS, indirect=True)


@EVERY_ISA
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "amount"), [("float", 64), ("double", 10**6)])
def test_samples(program, dtype, amount):
    check(program, dtype, amount)


@EVERY_ISA
@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("dtype", "amount"), [("float", 1), ("double", 10**7)])
def test_all(program, dtype, amount):
    check(program, dtype, amount)
