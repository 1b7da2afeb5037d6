"""Builds peaks.cpp with the C++ compiler that is found."""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.contenders import NotAvailable

X86_FLAGS = {
    "amx": ["-mavx512f"],
    "avx512": ["-mavx512f"],
    "avx2": ["-mavx2", "-mfma"],
    "sse2": [],
    "scalar": [],
}  # an ISA that is not here, such as one emulated, has no peak


def active_isa() -> str:
    """The ISA that mlpfast runs on."""
    try:
        from mlpfast import _cpu
    except ImportError as error:
        raise NotAvailable("not measured: mlpfast, which names the ISA, is not installed") from error
    return _cpu.isa()


def library() -> ctypes.CDLL:
    """The peaks for the active ISA; raises NotAvailable where there is no compiler."""
    x86, isa = platform.machine() in ("x86_64", "AMD64"), active_isa()
    if x86 and isa not in X86_FLAGS:
        raise NotAvailable(f"not measured: no peak is known for {isa}")
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    if not compiler:
        raise NotAvailable("not measured: no C++ compiler")
    flags = X86_FLAGS[isa] if x86 else []
    source = Path(__file__).with_name("peaks.cpp")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peaks.so"
        command = [
            compiler,
            "-O2",
            "-fopenmp",
            "-ffp-contract=fast",
            *flags,
            "-shared",
            "-fPIC",
            source,
            "-o",
            target,
        ]
        built = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if built.returncode:
            raise NotAvailable(f"not measured: {compiler} failed: {built.stderr.strip()[:200]}")
        peaks = ctypes.CDLL(str(target))
    peaks.peak_fma_flops.restype = ctypes.c_double
    peaks.peak_fma_flops.argtypes = peaks.peak_fma.argtypes = [ctypes.c_int64, ctypes.c_int]
    peaks.peak_copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    return peaks
