"""PyTorch on a GPU, the loss compiled, with CUDA graphs."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job
from benchmarks.contenders.gpu import library
from benchmarks.contenders.torch_gpu import training

DEVICES = ("cuda",)


def step(case: Case, data: Any, threads: int) -> Job:
    torch = library(case)
    return training(case, data, lambda loss_of: torch.compile(loss_of, mode="reduce-overhead"))
