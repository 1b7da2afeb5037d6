"""A control: six bf16 products of ready operands, float32's accuracy with PyTorch's kernels."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job, NotAvailable
from benchmarks.contenders.torch_eager import library


def gemm(case: Case, data: Any, threads: int) -> Job:
    if (case.dtype, case.precision) != ("float32", "highest") or min(case.shape) < 512:
        raise NotAvailable("no such product")
    torch = library(threads, case)
    a, b = (torch.from_numpy(x).bfloat16() for x in data.operands(case.form))
    out = torch.ones(case.shape[:2], dtype=torch.bfloat16)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(6):
            torch.mm(a, b, out=out)

    return Job(run, lambda: out, torch.__version__)
