"""One contender of one case in its own process: ``python -m benchmarks.worker``, JSON lines in and out.

First in: {"case", "contender", "threads", "losses"}; out: {"version", "note", "check", "losses", "flops",
"repeats", "steps"} or {"unavailable": why}. losses, of check.reference_losses(), are null till a contender of
the case has found them. Then {"run": repeats} is answered by {"seconds": of a call or step}, till input ends.
"""

import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

if sys.path[0] in ("", os.getcwd()):
    sys.path.append(
        sys.path.pop(0)
    )  # an installed mlpfast goes before the source folder, which has no extension

from benchmarks import check, contenders, data
from benchmarks.cases import Case
from benchmarks.contenders import Job, NotAvailable

ROUND = 0.05  # seconds that a round takes at least
WARM = 10  # a round's runs are preceded by a tenth of them: caches and threads were someone else's
WARM_GPU = 0.1  # seconds of runs before a round there: an idle GPU has slow clocks
WARM_FIRST = 1.0  # and before the first


def measure(job: Job, repeats: int, warm: float = 0.0) -> float:
    """Seconds of one run, the mean over one round, after `warm` seconds of runs at least."""
    start = time.monotonic()
    for _ in range(repeats // WARM):
        job.run()
    while time.monotonic() < start + warm:
        job.clock(job.run, 1)  # which waits for the GPU
    return job.clock(job.run, repeats) / repeats


def calibrate(job: Job) -> int:
    """Runs that make up a round."""
    repeats = 1
    while (seconds := measure(job, repeats)) * repeats < ROUND:
        repeats = max(repeats + 1, min(4 * repeats, math.ceil(ROUND / seconds)))
    return repeats


def prepare(request: dict[str, Any]) -> tuple[Job, dict[str, Any]]:
    """Build the job, check its first result, warm up."""
    case = Case(**{**request["case"], "shape": tuple(request["case"]["shape"])})
    inputs = data.make(case)
    job = contenders.build(request["contender"], case, inputs, request["threads"])
    job.run()
    peak = request["contender"] in contenders.PEAKS
    unchecked = peak or request["contender"] in contenders.CONTROLS
    losses, wrong = request["losses"], ""
    if not unchecked:
        losses = check.reference_losses(case, inputs) if losses is None else losses
        wrong = check.verify(case, inputs, job.result(), losses)
    gc.collect()
    gc.disable()
    if case.device == "cuda":
        measure(job, 1, WARM_FIRST)
    repeats = calibrate(job)
    return job, {
        "version": job.version,
        "note": job.note,
        "check": wrong,
        "losses": losses,
        "flops": job.flops or case.flops,
        "repeats": repeats,
        "steps": case.batches * case.epochs if case.group == "step" and not peak else 1,
    }


def serve(lines: TextIO, answer: Callable[[dict[str, Any]], None]) -> None:
    try:
        request = json.loads(lines.readline())
        job, ready = prepare(request)
    except NotAvailable as reason:
        return answer({"unavailable": str(reason)})
    except ImportError as error:
        return answer({"unavailable": "not installed", "note": str(error)})
    except Exception as error:
        return answer({"unavailable": f"failed: {type(error).__name__}: {str(error)[:200]}"})
    answer(ready)
    warm = WARM_GPU if request["case"]["device"] == "cuda" else 0.0
    for line in lines:
        answer({"seconds": measure(job, json.loads(line)["run"], warm) / ready["steps"]})


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    serve(sys.stdin, lambda reply: print(json.dumps(reply), file=replies, flush=True))


if __name__ == "__main__":
    main()
