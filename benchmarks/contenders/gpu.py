"""What contenders on a GPU share: PyTorch's tensors of a case's inputs, and its events as the clock."""

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.contenders import NotAvailable

PAST_CACHES = 1 << 27  # bytes, twice the largest L2


def library(case: Case) -> Any:
    """PyTorch with a GPU; float32 products in float32, or in bf16 where a contender casts for "medium"."""
    import torch

    if not torch.cuda.is_available():
        raise NotAvailable("there is no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    return torch


def copies(size: int) -> int:
    """Of so many bytes, as many as no cache holds together."""
    return 1 + PAST_CACHES // size


def rotated(torch: Any, *arrays: Any, dtype: Any = None) -> Callable[[], list[Any]]:
    """Copies on the GPU, in turn, of that dtype; of large arrays too many to be made by the host."""
    first = [tensor(torch, array).to(dtype=dtype) for array in arrays]
    more = copies(sum(t.nbytes for t in first)) - 1
    sets = cycle([first, *([t.clone() for t in first] for _ in range(more))])
    return lambda: next(sets)


def tensor(torch: Any, array: Any) -> Any:
    """On the GPU."""
    return torch.from_numpy(np.ascontiguousarray(array)).cuda()


def clock(torch: Any) -> Callable[[Callable[[], object], int], float]:
    """Seconds of so many runs by the GPU's own events, on the current stream."""

    def seconds(run: Callable[[], object], repeats: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return seconds
