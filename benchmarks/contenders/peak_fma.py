"""Not a peer: the rate of a loop of FMAs, the ceiling of everything that multiplies in float32."""

from typing import Any

from benchmarks import peaks
from benchmarks.cases import Case
from benchmarks.contenders import Job

ITERATIONS = 100_000  # about a millisecond


def gemm(case: Case, data: Any, threads: int) -> Job:
    library = peaks.library()
    flops = library.peak_fma_flops(ITERATIONS, threads) * (1 if case.dtype == "float32" else 0.5)
    return Job(
        lambda: library.peak_fma(ITERATIONS, threads),
        lambda: None,
        "",
        note=f"ISA {peaks.active_isa()}",
        flops=flops,
    )


step = gemm
