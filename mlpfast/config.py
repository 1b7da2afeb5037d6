"""What this installation runs on, and how many threads it may use."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mlpfast import _cpu, cuda, kernels
from mlpfast.arguments import integer

__version__ = "0.1.0"


def get_num_threads() -> int:
    """Threads that a call may use.

    By default the least of OpenMP's setting (OMP_NUM_THREADS, threadpoolctl), the affinity mask and the
    control group's CPU quota; MLPFAST_NUM_THREADS or `set_num_threads` override it. Small problems use fewer.
    """
    return _cpu.num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads for the whole process; results do not depend on it.

    Raises
    ------
    ValueError, TypeError
        If n is not an integer in 1 .. 1024.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    """
    n = integer("set_num_threads", "n", n)
    if not 1 <= n <= _cpu.max_threads():
        raise ValueError(f"set_num_threads: n is {n}; it must be at least 1 and at most {_cpu.max_threads()}")
    _cpu.set_num_threads(n)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use n threads within a with block.

    Examples
    --------
    >>> with threads(3):
    ...     get_num_threads()
    3
    """
    before = _cpu.requested_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        _cpu.set_num_threads(before)


def configuration() -> dict[str, str]:
    """Facts about the machine and the installation, as texts by name."""
    isas = [name for name, _ in _cpu.available_isas()]
    precisions = _cpu.precisions()
    return {
        "mlpfast": __version__,
        "cpu": _cpu_model(),
        "cpus usable": str(len(os.sched_getaffinity(0))),
        "threads": str(get_num_threads()),
        "isa": f"{_cpu.isa()} (of {', '.join(isas)})",
        **{f"precision {name}": kernels.explain(1024, 1024, 1024, precision=name)[0] for name in precisions},
        "blocks not fit for tiles": str(_cpu.tile_fallbacks()),
        "cuda": cuda.why_unavailable() or "available",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def show_config() -> None:
    """Print CPU, instruction set, the method of each precision level, threads and versions."""
    facts = configuration()
    width = max(map(len, facts))
    for name, text in facts.items():
        print(f"{name:<{width}}  {text}")


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.lower().startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
