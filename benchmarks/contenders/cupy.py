"""CuPy: cuBLAS by another way."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job, NotAvailable
from benchmarks.contenders.gpu import clock, library, rotated

DEVICES = ("cuda",)


def gemm(case: Case, data: Any, threads: int) -> Job:
    import cupy

    if case.precision == "medium":
        raise NotAvailable("computes in float32")
    torch = library(case)
    turn, last = rotated(torch, data.a, data.b, data.out), []

    def run() -> None:
        last[:] = turn()
        a, b, out = map(cupy.from_dlpack, last)
        a, b = a.T if case.form[0] == "T" else a, b.T if case.form[1] == "T" else b
        cupy.matmul(a, b, out=out)

    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    stream.use()
    return Job(run, lambda: last[2].cpu().numpy(), cupy.__version__, clock=clock(torch))
