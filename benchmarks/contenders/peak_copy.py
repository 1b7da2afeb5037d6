"""Not a peer: a copy of the logits onto the gradient by all threads, the same bytes as the case."""

from typing import Any

from benchmarks import peaks
from benchmarks.cases import Case
from benchmarks.contenders import Job


def softmax(case: Case, data: Any, threads: int) -> Job:
    library = peaks.library()
    out, logits, size = data.out.ctypes.data, data.logits.ctypes.data, data.out.nbytes

    def result() -> Any:
        return data.out  # keeps the arrays alive behind the addresses

    return Job(lambda: library.peak_copy(out, logits, size, threads), result, "")
