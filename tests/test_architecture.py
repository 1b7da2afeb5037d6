"""The house plan (ARCHITECTURE.md) held by its sources. Each check yields (line, complaint) for one file."""

import ast
import re
import sys
from pathlib import Path

import pytest
from processes import python

import mlpfast

ROOT = Path(__file__).resolve().parent.parent
# Folder: what its files may include of ours, and of the system (None: anything).
INCLUDES = {
    "csrc/ops": (["ops/"], {"cstddef", "cstdint"}),
    "csrc/network": (["network/", "ops/"], {"cstddef", "cstdint", "vector"}),
    "csrc/cpu": (["cpu/", "network/", "ops/", "isa_list.h"], None),
    "csrc/cpu/isa": (
        ["cpu/dispatch.h", "cpu/isa/", "ops/"],
        {"cstddef", "cstdint", "immintrin.h", "arm_neon.h"},
    ),
    "csrc/cuda": (["cuda/", "network/", "ops/"], None),
    "csrc/bindings": (["bindings/", "cpu/", "cuda/", "network/", "ops/"], None),
}
# What only some files may include: the seal of isa/, the order of the passes, OpenMP, pybind11.
ONLY = {
    "cpu/isa/": "csrc/cpu/isa/",
    "network/step.h": r"csrc/(cpu|cuda)/backend\.",
    "omp.h": r"csrc/cpu/thread_count\.",
    "pybind11/": "csrc/bindings/",
}
# A module may import modules of its own floor, of those below, and leaves; leaves may import leaves.
LEAVES = {"arguments", "errors", "idx", "checkpoint", "datasets", "plots", "kernels.reference"}
FLOORS = {
    **dict.fromkeys(["_cpu", "_cuda"], 0),
    **dict.fromkeys(["kernels", "arrays", "config", "cuda"], 1),
    **dict.fromkeys(["model", "features", "weights", "optim", "init", "parameters", "spec"], 2),
    **dict.fromkeys(["trainer", "callbacks"], 3),
    **dict.fromkeys(["cli", "__main__", "__init__"], 4),
}
REQUIRED = {"numpy", "safetensors"}  # other packages are imported by the function that needs them
FORBIDDEN_NAMES = {"util", "utils", "common", "misc", "helper", "helpers", "manager"}
FORBIDDEN_FLAGS = r"-ffast-math|-Ofast|-funsafe-math|-march=native|-mtune=native|FetchContent|file\(DOWNLOAD"
GUARDS = {"#if defined(__CUDACC__)", "#if defined(__x86_64__)", "#else", "#endif"}
GUARDS |= {"#ifdef __CUDA_ARCH__"}
PUBLIC = """MLP Trainer History SGD cuda datasets kernels set_num_threads get_num_threads threads show_config
MlpfastError DivergenceError CheckpointError DataError DeviceError""".split()  # noqa: SIM905


def lines_of(text, pattern):
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(pattern, line):
            yield number, found


def includes(path, text):
    folder = max((f for f in INCLUDES if path.startswith(f + "/")), key=len, default=None)
    for number, found in lines_of(text, r'\s*#\s*include\s*(["<])(.*)[">]'):
        own, name = found[1] == '"', found[2]
        ours, system = INCLUDES.get(folder, ([], None))
        allowed = name.startswith(tuple(ours)) if own else system is None or name in system
        if not allowed:
            yield number, f"{folder} may not include {name}"
        for what, where in ONLY.items():
            if name.startswith(what) and not re.match(where, path):
                yield number, f"only {where} includes {name}"


def directives(path, text):
    for number, found in lines_of(text, r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b.*"):
        if found[0].strip() not in GUARDS:
            yield number, f"{found[0].strip()}: choose files in CMake instead"
    for number, _ in lines_of(text, r"\s*#\s*pragma\s+omp\b"):
        yield number, "threads live in csrc/cpu/team"


def flags(path, text):
    for number, found in lines_of(text, rf".*({FORBIDDEN_FLAGS})"):
        yield number, f"{found[1]} changes results, machines or sources"


def module_of(path):
    return path.removeprefix("mlpfast/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(node):
    """Dotted names that an import statement may bring in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def target_of(name):
    """The module of ours behind mlpfast.a.b, or the package itself."""
    inner = name.removeprefix("mlpfast").removeprefix(".")
    known = [m for m in [*FLOORS, *LEAVES] if inner == m or inner.startswith(m + ".")]
    return max(known, key=len, default="__init__")


def imports(path, text):
    module, tree = module_of(path), ast.parse(text)
    if module not in LEAVES and module not in FLOORS:
        yield 1, f"{module} has no floor"
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if getattr(node, "level", 0):
            yield node.lineno, "relative import"
            continue
        for name in imported(node):
            package, target = name.split(".")[0], target_of(name)
            above = target not in LEAVES and FLOORS[target] > FLOORS.get(module, -1)
            if package == "mlpfast" and above:
                yield node.lineno, f"{module} may not import {target}"
            outer = package not in sys.stdlib_module_names | REQUIRED | {"mlpfast"}
            if outer and node in tree.body:
                yield node.lineno, f"{package} is optional: import it where it is needed"


def docstrings(path, text):
    def missing(node, name):
        stub = isinstance(node, ast.FunctionDef) and ast.unparse(node.body) == "..."
        if not ast.get_docstring(node) and not stub:
            yield getattr(node, "lineno", 1), f"{name} has no docstring"
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                public = not isinstance(node, ast.FunctionDef)
                yield from missing(child, child.name) if public else ()

    yield from missing(ast.parse(text), path)


def lengths(path, text):
    if (count := len(text.splitlines())) > 400:
        yield count, "more than 400 lines"


def names(path, text):
    found = [(1, Path(path).name.split(".")[0])]
    found += [(n, m[1]) for n, m in lines_of(text, r"\s*(?:class|struct|namespace)\s+(\w+)")]
    for number, name in found:
        words = {word.lower() for word in re.findall(r"[A-Za-z][a-z]*", name)}
        if words & FORBIDDEN_NAMES:
            yield number, f"{name} says nothing"


SOURCES = r"(csrc|mlpfast|tests|benchmarks|examples)/.*\.(py|pyi|h|cpp|cu|cmake)$"
CHECKS = {
    includes: r"csrc/.*\.(h|cpp|cu)$",
    directives: r"csrc/.*\.(h|cpp|cu)$",
    flags: r"(csrc/.*|CMakeLists\.txt|pyproject\.toml)$",
    imports: r"mlpfast/.*\.py$",
    docstrings: r"mlpfast/.*\.py$",
    lengths: SOURCES,
    names: SOURCES,
}
PLANTED = {
    "csrc/ops/loss.h": '#include "cpu/gemm.h"',
    "csrc/ops/random.h": "#include <vector>",
    "csrc/network/step.h": '#include "cpu/team.h"',
    "csrc/cpu/gemm.cpp": '#include "bindings/checks.h"',
    "csrc/cpu/elementwise.cpp": '#include "cpu/isa/gemm.inl.h"',
    "csrc/cpu/run.cpp": '#include "network/step.h"',
    "csrc/cpu/run.h": "#include <omp.h>",
    "csrc/cpu/backend.h": "#include <pybind11/numpy.h>",
    "csrc/cpu/backend.cpp": "#pragma omp parallel for",
    "csrc/cpu/isa/avx2.cpp": '#include "cpu/team.h"',
    "csrc/cpu/isa/scalar.cpp": "#include <algorithm>",
    "csrc/cuda/gemm.cu": '#include "cpu/gemm.h"',
    "csrc/cpu/dispatch.cpp": "  #ifdef HAVE_AVX2",
    "csrc/cpu/dispatch.h": "#if MLPFAST_FAST",
    "csrc/cpu/features.h": "class RowManager {",
    "csrc/cpu/utils.h": "",
    "csrc/new_room/file.h": '#include "ops/loss.h"',
    "CMakeLists.txt": "add_compile_options(-O3 -ffast-math)",
    "mlpfast/model.py": "from mlpfast.trainer import Trainer",
    "mlpfast/optim.py": "def _f():\n    import mlpfast",
    "mlpfast/kernels/reference.py": "from mlpfast import _cpu",
    "mlpfast/trainer.py": "from mlpfast import SGD",
    "mlpfast/init.py": "from . import model",
    "mlpfast/plots.py": "import matplotlib.pyplot as plt",
    "mlpfast/new_room.py": '"""A module."""',
    "mlpfast/kernels/__init__.py": '"""Kernels."""\ndef gemm(): return 1',
    "tests/test_helpers.py": '"""Tests."""',
    "benchmarks/cases.py": "\n" * 401,
}


def complaints(path, text):
    return [
        f"{path}:{line}: {complaint}"
        for check, where in CHECKS.items()
        if re.match(where, path)
        for line, complaint in check(path, text)
    ]


def sources():
    folders = (ROOT / name for name in ("csrc", "mlpfast", "tests", "benchmarks", "examples"))
    for path in [*ROOT.glob("*.t*"), *(p for folder in folders for p in sorted(folder.rglob("*.*")))]:
        name = path.relative_to(ROOT).as_posix()
        if any(re.match(where, name) for where in CHECKS.values()) and "__pycache__" not in name:
            yield name, path.read_text()


def test_the_house_follows_its_plan():
    found = [complaint for name, text in sources() for complaint in complaints(name, text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(("path", "text"), PLANTED.items(), ids=PLANTED)
def test_a_planted_violation_is_found(path, text):
    document = '"""A text."""\n' if path.endswith(".py") and not text.startswith('"') else ""
    last = len((document + text).splitlines()) or 1
    found = complaints(path, document + text)
    assert len(found) == 1 and re.match(rf"{path}:(1|{last}): ", found[0]), found


def test_every_kind_of_file_is_looked_at():
    seen = {name for name, _ in sources()}
    assert {
        "CMakeLists.txt",
        "pyproject.toml",
        "csrc/cpu/team.cpp",
        "mlpfast/_cpu.pyi",
        "tests/conftest.py",
    } <= seen


def test_every_floor_is_of_a_module_that_exists():
    modules = {module_of(name) for name, _ in sources() if re.match(CHECKS[imports], name)}
    modules = {"__init__" if module == "mlpfast/__init__" else module for module in modules}
    assert modules | {"_cpu", "_cuda"} == {*FLOORS, *LEAVES}


def test_public_names():
    public = {name: value for name, value in vars(mlpfast).items() if not name.startswith("_")}
    own = {name for name, value in public.items() if getattr(value, "__module__", "").startswith("mlpfast.")}
    assert own | {"cuda", "datasets", "kernels"} == set(PUBLIC)


def test_some_modules_load_when_they_are_asked_for():
    code = """if True:
        import sys, mlpfast
        lazy = {"mlpfast.callbacks", "mlpfast.plots"}
        assert not lazy & set(sys.modules)
        assert mlpfast.callbacks.EarlyStopping and mlpfast.plots.curves and lazy < set(sys.modules)
        assert not hasattr(mlpfast, "nothing")"""
    done = python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_stub_names_what_the_extension_has():
    stub = ast.parse((ROOT / "mlpfast" / "_cpu.pyi").read_text())
    described = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert described == {name for name in dir(mlpfast._cpu) if not name.startswith("_")}
