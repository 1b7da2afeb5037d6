"""Other processors, emulated: csrc/cpu builds for them without a warning and computes the same bits there.

AVX-512, which no common emulator has, is played by AVX2: native/avx512 has its intrinsics.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from tolerances import WITHOUT_FMA

from mlpfast import _cpu

ROOT = Path(__file__).resolve().parent.parent
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
TILES = {"amx", "amx_emulated"}
AARCH64 = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")


@dataclass(frozen=True)
class Machine:
    emulator: tuple[str, ...] = ()
    compiler: str = "c++"
    options: tuple[str, ...] = ()  # for CMake
    isas: frozenset[str] = frozenset()
    on: str = ""  # the emulator runs what is built on this processor


HERE = Machine()
EMULATED = {
    "aarch64": Machine(
        ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"),
        "aarch64-linux-gnu-g++",
        AARCH64,
        frozenset({"amx_emulated", "scalar", "neon"}),
    ),
    "x86-64 without SSSE3, SSE4 and AVX": Machine(
        ("qemu-x86_64", "-cpu", "Conroe,-ssse3"),
        isas=frozenset({"amx_emulated", "scalar", "sse2"}),
        on="x86_64",
    ),
}

PLAYED = f"-mavx2 -mfma -O1 -Wno-psabi -Wno-unused-function -I{ROOT / 'tests' / 'native' / 'avx512'}"
AVX512 = Machine(compiler="g++", options=(f"-DMLPFAST_ISAS=scalar|true|-O1;avx512|true|{PLAYED}",))


def program(name):
    return shutil.which(name, path=PATH) or pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    """digests(machine): {isa: {case: digest}} as tests/native prints them there."""

    @cache
    def build(compiler, options):
        folder = tmp_path_factory.mktemp("native")
        options = (*options, f"-DCMAKE_CXX_COMPILER={program(compiler)}", "-DCMAKE_BUILD_TYPE=Release")
        switches = ("-DMLPFAST_NATIVE_TEST=ON", "-DMLPFAST_WERROR=ON")
        run(program("cmake"), "-S", ROOT, "-B", folder, *switches, *options)
        run(program("cmake"), "--build", folder, "--parallel", "2")
        return folder / "test_kernels"

    @cache
    def digests(machine):
        emulator = [program(machine.emulator[0]), *machine.emulator[1:]] if machine.emulator else []
        isas = {}
        for line in run(*emulator, build(machine.compiler, machine.options)).splitlines():
            isa, number, case, digest = line.split()
            isas.setdefault(isa, {})[number, case] = digest
        return isas

    return digests


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", EMULATED.values(), ids=EMULATED)
def test_same_bits_on_other_processors(machine, digests):
    if machine.on not in ("", platform.machine()):
        pytest.skip(f"this is {platform.machine()}")
    there, here = digests(machine), digests(HERE)
    assert set(there) == machine.isas
    assert len(here["scalar"]) > 30
    for isa, cases in [*there.items(), *here.items()]:
        alike = isa if isa in WITHOUT_FMA else "amx_emulated" if isa in TILES else "scalar"
        assert cases == here[alike], isa


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_same_bits_by_avx512_played_by_avx2(digests):
    known = dict(_cpu.available_isas())
    if "avx512" in known or "avx2" not in known:
        pytest.skip("this processor has AVX-512, or lacks AVX2 too")
    isas = digests(AVX512)
    assert len(isas["scalar"]) > 30
    assert isas["avx512"] == isas["scalar"]
