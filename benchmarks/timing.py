"""Workers of one case take turns: a round runs each contender once, the next when the last is idle."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.cases import Case
from benchmarks.load import QUIET, Others, await_quiet, cpu_seconds

ROOT = Path(__file__).resolve().parent.parent
BUILD_TIMEOUT = 900.0  # seconds; torch.compile is slow
IDLE_STEP, IDLE_SHARE, IDLE_LIMIT = 0.01, 0.02, 0.5  # seconds, CPU time in a step over its length, seconds
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "MLPFAST_NUM_THREADS",
    "NPROC",  # XLA's thread pool
)
# Each only takes speed from a library, so no worker has them: peers are shown in their best form.
THROTTLES = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "NPY_DISABLE_CPU_FEATURES",
    "JAX_DISABLE_JIT",
    "JAX_DEBUG_NANS",
    "TORCH_COMPILE_DISABLE",
)
OPENBLAS_USERS = ("numpy", "sklearn")  # NumPy only checks the others' results: on a CPU it leaves no threads
Record = dict[str, Any]


class WorkerError(Exception):
    """A worker died or hangs."""


class Worker:
    """The parent's end of benchmarks.worker."""

    def __init__(self, name: str, device: str, threads: int) -> None:
        cpus = sorted(os.sched_getaffinity(0))[:threads]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env=variables(name, device, threads),
        )
        os.sched_setaffinity(self.process.pid, cpus)  # before it has threads: they inherit it

    def ask(self, request: Record, timeout: float = BUILD_TIMEOUT) -> Record:
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            raise WorkerError(f"no answer within {timeout:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        reply: Record = json.loads(line)
        return reply

    def settle(self) -> bool:
        """Wait until its threads sleep; False if they still run after the limit."""
        end = time.monotonic() + IDLE_LIMIT
        while time.monotonic() < end:
            start, before = time.monotonic(), cpu_seconds(self.process.pid)
            time.sleep(IDLE_STEP)
            if cpu_seconds(self.process.pid) - before < IDLE_SHARE * (time.monotonic() - start):
                return True
        return False

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def _last_words(self) -> str:
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return f"died with code {self.process.returncode}: {lines[-1] if lines else 'no message'}"[:300]


def variables(name: str, device: str, threads: int) -> dict[str, str]:
    """A worker's environment: ours with these threads, without what throttles."""
    leaves_none = device == "cpu" and name not in OPENBLAS_USERS
    inherited = {key: value for key, value in os.environ.items() if key not in THROTTLES}
    counts = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**inherited, **counts, "OPENBLAS_NUM_THREADS": "1" if leaves_none else str(threads)}


@dataclass(frozen=True)
class Plan:
    """patience: seconds of a case that may go into waiting for a quiet machine and repeating rounds."""

    threads: int
    rounds: int
    patience: float = 0.0


def race(case: Case, names: Sequence[str], plan: Plan) -> tuple[dict[str, Record], list[float]]:
    """Facts and seconds of each contender, or {"unavailable": why}; and CPUs others used in each round."""
    with ExitStack() as stack:
        results, workers = {}, {}
        losses = None  # by which results are checked
        for name in names:
            request = {"case": asdict(case), "contender": name, "threads": plan.threads, "losses": losses}
            results[name], worker = _start(stack, request)
            losses = results[name].pop("losses", losses)
            if worker:
                workers[name] = worker
        pids = [worker.process.pid for worker in workers.values()]
        disturbance: list[float] = []
        deadline = time.monotonic() + plan.patience
        while len(disturbance) < plan.rounds:
            await_quiet(pids, deadline)
            others = Others(pids)
            seconds = _round(results, workers, len(disturbance))
            cpus = others.cpus()
            if cpus > QUIET and time.monotonic() < deadline:
                continue
            disturbance.append(cpus)
            for name, value in seconds.items():
                results[name]["seconds"].append(value)
        return results, disturbance


def _start(stack: ExitStack, request: Record) -> tuple[Record, Worker | None]:
    worker = Worker(request["contender"], request["case"]["device"], request["threads"])
    stack.enter_context(_closing(worker))
    try:
        result = worker.ask(request)
    except WorkerError as error:
        return {"unavailable": str(error)}, None
    if "unavailable" in result:
        return result, None
    worker.settle()
    return {**result, "seconds": [], "restless": 0}, worker


def _round(results: dict[str, Record], workers: dict[str, Worker], number: int) -> dict[str, float]:
    """Seconds by contender; one that dies leaves the race."""
    seconds = {}
    for name in _rotated(list(workers), number):
        try:
            seconds[name] = workers[name].ask({"run": results[name]["repeats"]})["seconds"]
        except WorkerError as error:
            results[name]["unavailable"] = str(error)
            del workers[name]
        else:
            results[name]["restless"] += not workers[name].settle()
    return seconds


def _rotated(names: list[str], by: int) -> list[str]:
    """Each round starts with another contender, so that nobody always follows the same neighbour's cache."""
    by %= len(names) or 1
    return names[by:] + names[:by]


@contextmanager
def _closing(worker: Worker) -> Iterator[Worker]:
    try:
        yield worker
    finally:
        worker.close()


def entrants(case: Case, wanted: Sequence[str]) -> list[str]:
    """Contenders of a case in the list's order: those wanted, or all and the peak."""
    names = [
        n for n in (*contenders.NAMES, *contenders.CONTROLS, *contenders.PEAKS) if contenders.offers(n, case)
    ]
    return [n for n in names if n in wanted] if wanted else names
