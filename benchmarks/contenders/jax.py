"""JAX: jit and lax.scan over a whole epoch, examples gathered by permutation inside, buffers donated."""

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.contenders import Job, fastest

Product = Callable[[Any, Any], Any]


def gemm(case: Case, data: Any, threads: int) -> Job:
    return fastest([partial(_gemm, case, data, product) for product in _products(case)])


def softmax(case: Case, data: Any, threads: int) -> Job:
    return fastest([partial(_softmax, case, data, both) for both in (_by_autodiff, _by_hand)])


def step(case: Case, data: Any, threads: int) -> Job:
    return fastest([partial(_training, case, data, False, product) for product in _products(case)])


def fit(case: Case, data: Any, threads: int) -> Job:
    loops, trials = (
        [partial(_training, c, data, True, product) for product in _products(case)]
        for c in (case, replace(case, epochs=1))
    )
    return fastest(loops, trials=trials)


def _gemm(case: Case, data: Any, product: Product) -> Job:
    jax, jnp = _library(case)
    a, b, state = jnp.asarray(data.a), jnp.asarray(data.b), [jnp.asarray(data.out)]
    ta, tb = case.form[0] == "T", case.form[1] == "T"

    @partial(jax.jit, donate_argnums=2, keep_unused=True)
    def called(a: Any, b: Any, out: Any) -> Any:
        return product(a.T if ta else a, b.T if tb else b)

    def run() -> None:
        state[0] = called(a, b, state[0]).block_until_ready()

    return Job(run, lambda: np.asarray(state[0]), jax.__version__, product.__name__)


def _softmax(case: Case, data: Any, formula: Product) -> Job:
    jax, jnp = _library(case)
    logits, labels = jnp.asarray(data.logits), jnp.asarray(data.labels, jnp.int32)
    state = [jnp.zeros(()), jnp.asarray(data.out)]

    @partial(jax.jit, donate_argnums=2, keep_unused=True)
    def both(logits: Any, labels: Any, out: Any) -> Any:
        return formula(logits, labels)

    def run() -> None:
        state[:] = jax.block_until_ready(both(logits, labels, state[1]))

    def result() -> tuple[float, Any]:
        return float(state[0]), np.asarray(state[1])

    return Job(run, result, jax.__version__, formula.__name__)


def predict(case: Case, data: Any, threads: int) -> Job:
    jax, jnp = _library(case)
    params, x = [jnp.asarray(w) for w in data.weights], jnp.asarray(data.x)
    classes = jax.jit(lambda params, x: _forward(params, x).argmax(1))
    return Job(
        lambda: classes(params, x).block_until_ready(),
        lambda: np.asarray(classes(params, x)),
        jax.__version__,
    )


def _training(case: Case, data: Any, validate: bool, product: Product) -> Job:
    jax, jnp = _library(case)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y, jnp.int32)
    validation = tuple(map(jnp.asarray, data.validation)) if validate else ()
    state, rng = [[jnp.array(w) for w in data.weights]], np.random.default_rng(0)

    def outcome(params: Any, features: Any, labels: Any) -> Any:
        if case.features:
            features = features.astype(params[0].dtype) * data.scale
        logits = _forward(params, features, product)
        return _cross_entropy(logits, labels), logits

    def loss(params: Any, features: Any, labels: Any) -> Any:
        return outcome(params, features, labels)[0]

    @partial(jax.jit, donate_argnums=0)
    def epoch(params: Any, order: Any, x: Any, y: Any) -> Any:
        def update(params: Any, rows: Any) -> Any:
            batch = (v.at[rows].get(mode="promise_in_bounds") for v in (x, y))
            value, gradients = jax.value_and_grad(loss)(params, *batch)
            return [p - case.lr * g for p, g in zip(params, gradients, strict=True)], value

        return jax.lax.scan(update, params, order)

    @jax.jit
    def evaluate(params: Any, features: Any, labels: Any) -> Any:
        value, logits = outcome(params, features, labels)
        return value, (logits.argmax(1) == labels).mean()

    def run() -> list[float]:
        values = []
        for _ in range(case.epochs):
            order = rng.permutation(len(x)).astype(np.int32).reshape(case.batches, case.batch)
            state[0], losses = jax.block_until_ready(epoch(state[0], order, x, y))
            values.append(float(losses.mean()))
            if validate:
                values += map(float, evaluate(state[0], *validation))
        return values

    return Job(run, lambda: [np.asarray(p).copy() for p in state[0]], jax.__version__, product.__name__)


def _forward(params: Any, h: Any, product: Product = operator.matmul) -> Any:
    import jax

    for i in range(0, len(params), 2):
        h = product(h, params[i]) + params[i + 1]
        h = h if i + 2 == len(params) else jax.nn.relu(h)
    return h


def _products(case: Case) -> list[Product]:
    """Ways to multiply; for "medium", operands in bf16 are another."""
    return [operator.matmul, _bf16] if case.precision == "medium" else [operator.matmul]


def _bf16(a: Any, b: Any) -> Any:
    from jax import numpy as jnp

    return jnp.matmul(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _by_autodiff(logits: Any, labels: Any) -> Any:
    import jax

    return jax.value_and_grad(_cross_entropy)(logits, labels)


def _by_hand(logits: Any, labels: Any) -> Any:
    """Loss and gradient from one array of exponentials."""
    from jax import numpy as jnp

    largest = logits.max(1, keepdims=True)
    powers = jnp.exp(logits - largest)
    total = powers.sum(1, keepdims=True)
    hit = labels[:, None] == jnp.arange(logits.shape[1])
    losses = jnp.log(total) + largest - jnp.take_along_axis(logits, labels[:, None], 1)
    return losses.mean(), (powers / total - hit) / len(labels)


def _cross_entropy(logits: Any, labels: Any) -> Any:
    import jax

    log_p = jax.nn.log_softmax(logits)
    return -jax.numpy.take_along_axis(log_p, labels[:, None], axis=1).mean()


def _library(case: Case) -> tuple[Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", case.dtype == "float64")
    return jax, jax.numpy
