"""JAX on a GPU: six bf16 products for float32 where it offers them, jit and lax.scan over a whole epoch."""

import os
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.contenders import Job, NotAvailable
from benchmarks.contenders import jax as on_cpu
from benchmarks.contenders.gpu import copies

DEVICES = ("cuda",)
ALGORITHMS = {"ieee": "F32_F32_F32", "highest": "BF16_BF16_F32_X6", "medium": "BF16_BF16_F32"}


def gemm(case: Case, data: Any, threads: int) -> Job:
    jax = _library()
    jnp, algorithm = jax.numpy, jax.lax.DotAlgorithmPreset[ALGORITHMS[case.precision]]
    operands = data.operands(case.form)
    sets = cycle([tuple(map(jnp.array, operands)) for _ in range(copies(sum(x.nbytes for x in operands)))])
    product, state = jax.jit(lambda a, b: jnp.matmul(a, b, precision=algorithm)), [None]

    def run() -> None:
        state[0] = product(*next(sets))

    def clock(run: Callable[[], object], repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        jax.block_until_ready(state[0])  # calls are done in order
        return time.perf_counter() - start

    return Job(run, lambda: np.asarray(state[0]), jax.__version__, algorithm.name, clock=clock)


def softmax(case: Case, data: Any, threads: int) -> Job:
    _library()
    return on_cpu.softmax(case, data, threads)


def step(case: Case, data: Any, threads: int) -> Job:
    _library()
    if case.precision == "medium":
        raise NotAvailable("computes in float32")
    return on_cpu.step(case, data, threads)


def _library() -> Any:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # its rivals need memory too
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")  # else float32 products may be tf32
    if jax.default_backend() != "gpu":
        raise NotAvailable("there is no GPU")
    return jax
