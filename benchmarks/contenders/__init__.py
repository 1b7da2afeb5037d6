"""The competitors: one module each, with a function for each group it takes part in.

``gemm``, ``step``, ``fit``, ``softmax``, ``predict``: (case, data, threads) -> Job. A module imports its
library inside these functions, so that a missing one is a cell that says so.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.cases import Case

NAMES = (
    "mlpfast",
    "numpy",
    "torch_eager",
    "torch_manual",
    "torch_compile",
    "jax",
    "sklearn",
    "onnxruntime",
    "torch_gpu",
    "torch_gpu_compile",
    "torch_gpu_graph",
    "cupy",
    "jax_gpu",
)
PEAKS = ("peak_fma", "peak_copy")
CONTROLS = ("torch_six_bf16",)  # other work, timed for comparison: not checked, nobody's peer
FLOAT32 = ("numpy", "sklearn")  # compute in nothing less
CHUNK = 1000  # rows of a validation at a time, about, where a contender's loop over them is its own


class NotAvailable(Exception):
    """This contender cannot run this case; the text says why, for the row."""


def by_host(run: Callable[[], object], repeats: int) -> float:
    """Seconds of so many runs, each done when it returns."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return time.perf_counter() - start


@dataclass
class Job:
    """run() does the work once; result() is what check.py looks at, after a run.

    gemm: the product. softmax: (loss, gradient). step, fit: weights as in data.Examples. predict: classes.
    """

    run: Callable[[], object]
    result: Callable[[], Any]
    version: str
    note: str = ""
    flops: float = 0.0  # of one run, where it is not the case's (the peaks)
    clock: Callable[[Callable[[], object], int], float] = by_host  # seconds of so many runs


def offers(name: str, case: Case) -> bool:
    """Whether a contender takes part in a case's group, on its device."""
    module = import_module(f"benchmarks.contenders.{name}")
    return hasattr(module, case.group) and case.device in getattr(module, "DEVICES", ("cpu",))


def build(name: str, *arguments: Any) -> Job:
    """The job of a contender for (case, data, threads)."""
    if arguments[0].precision == "medium" and name in FLOAT32:
        raise NotAvailable("computes in float32")
    job: Job = getattr(import_module(f"benchmarks.contenders.{name}"), arguments[0].group)(*arguments)
    return job


def fastest(
    builders: Sequence[Callable[[], Job]], runs: int = 3, trials: Sequence[Callable[[], Job]] = ()
) -> Job:
    """A peer's best form counts: time each form for at least 20 ms and build the best one afresh.

    A form that fails takes no part, unless all do. Jobs too long to be timed have shorter `trials`, as many.
    """
    if len(builders) == 1:
        return builders[0]()
    best: list[tuple[float, int]] = []
    for i, trial in enumerate(trials or builders):
        try:
            best.append((_median(trial(), runs), i))
        except Exception as error:
            print(f"a form fails: {type(error).__name__}: {error}", file=sys.stderr)
            if i + 1 == len(builders) and not best:
                raise
    return builders[min(best)[1]]()


def _median(job: Job, runs: int) -> float:
    times: list[float] = []
    job.run()
    end = time.perf_counter() + 0.02
    while len(times) < runs or time.perf_counter() < end:
        times.append(job.clock(job.run, 1))
    return sorted(times)[len(times) // 2]
