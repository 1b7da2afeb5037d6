"""JAX: jit and lax.scan over a whole epoch, examples gathered by permutation inside, buffers donated."""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.contenders import Job


def gemm(case: Case, data: Any, threads: int) -> Job:
    jax, jnp = _library(case)
    a, b, state = jnp.asarray(data.a), jnp.asarray(data.b), [jnp.asarray(data.out)]
    ta, tb = case.form[0] == "T", case.form[1] == "T"

    @partial(jax.jit, donate_argnums=2, keep_unused=True)
    def product(a: Any, b: Any, out: Any) -> Any:
        return (a.T if ta else a) @ (b.T if tb else b)

    def run() -> None:
        state[0] = product(a, b, state[0]).block_until_ready()

    return Job(run, lambda: np.asarray(state[0]), jax.__version__)


def softmax(case: Case, data: Any, threads: int) -> Job:
    jax, jnp = _library(case)
    logits, labels = jnp.asarray(data.logits), jnp.asarray(data.labels, jnp.int32)
    state = [jnp.zeros(()), jnp.asarray(data.out)]

    @partial(jax.jit, donate_argnums=2, keep_unused=True)
    def both(logits: Any, labels: Any, out: Any) -> Any:
        return jax.value_and_grad(_cross_entropy)(logits, labels)

    def run() -> None:
        state[:] = jax.block_until_ready(both(logits, labels, state[1]))

    return Job(run, lambda: (float(state[0]), np.asarray(state[1])), jax.__version__)


def step(case: Case, data: Any, threads: int) -> Job:
    return _training(case, data, validate=False)


def fit(case: Case, data: Any, threads: int) -> Job:
    return _training(case, data, validate=True)


def predict(case: Case, data: Any, threads: int) -> Job:
    jax, jnp = _library(case)
    params, x = [jnp.asarray(w) for w in data.weights], jnp.asarray(data.x)
    classes = jax.jit(lambda params, x: _forward(params, x).argmax(1))
    return Job(
        lambda: classes(params, x).block_until_ready(),
        lambda: np.asarray(classes(params, x)),
        jax.__version__,
    )


def _training(case: Case, data: Any, validate: bool) -> Job:
    jax, jnp = _library(case)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y, jnp.int32)
    validation = tuple(map(jnp.asarray, data.validation)) if validate else ()
    state, rng = [[jnp.array(w) for w in data.weights]], np.random.default_rng(0)

    def loss(params: Any, features: Any, labels: Any) -> Any:
        if case.features:
            features = features.astype(params[0].dtype) * data.scale
        return _cross_entropy(_forward(params, features), labels)

    @partial(jax.jit, donate_argnums=0)
    def epoch(params: Any, order: Any, x: Any, y: Any) -> Any:
        def update(params: Any, rows: Any) -> Any:
            batch = (v.at[rows].get(mode="promise_in_bounds") for v in (x, y))
            value, gradients = jax.value_and_grad(loss)(params, *batch)
            return [p - case.lr * g for p, g in zip(params, gradients, strict=True)], value

        return jax.lax.scan(update, params, order)

    evaluate = jax.jit(loss)

    def run() -> float:
        total = 0.0
        for _ in range(case.epochs):
            order = rng.permutation(len(x)).astype(np.int32).reshape(case.batches, case.batch)
            state[0], losses = jax.block_until_ready(epoch(state[0], order, x, y))
            total += float(losses.mean())
            if validate:
                total += float(evaluate(state[0], *validation))
        return total

    return Job(run, lambda: [np.asarray(p).copy() for p in state[0]], jax.__version__)


def _forward(params: Any, h: Any) -> Any:
    import jax

    for i in range(0, len(params), 2):
        h = h @ params[i] + params[i + 1]
        h = h if i + 2 == len(params) else jax.nn.relu(h)
    return h


def _cross_entropy(logits: Any, labels: Any) -> Any:
    import jax

    log_p = jax.nn.log_softmax(logits)
    return -jax.numpy.take_along_axis(log_p, labels[:, None], axis=1).mean()


def _library(case: Case) -> tuple[Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", case.dtype == "float64")
    return jax, jax.numpy
