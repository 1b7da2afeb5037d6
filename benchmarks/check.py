"""Nobody cheats: each contender's first result against NumPy's, before the clock starts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import data as inputs
from benchmarks.cases import Case
from benchmarks.contenders import numpy as reference

# Frobenius, relative: float32 chains of 4096 stay below 2e-6, bf16 and tf32 do not
GEMM_ERROR = {"ieee": 1e-5, "highest": 1e-5, "high": 1e-5, "medium": 4e-3}
FLOAT_ERROR = 1e-5
DROP_ERROR = 0.05  # of the loss's fall in an epoch: contenders shuffle differently, which makes 1.5 %
SAMPLE = 2048  # rows that a loss is taken over
PART = 256  # rows that are float64 at a time


def verify(case: Case, data: Any, result: Any, losses: list[float]) -> str:
    """ "" where the result is right, else what is wrong with it; losses are those of reference_losses()."""
    return CHECKS[case.group](case, data, result, losses)


def reference_losses(case: Case, data: Any) -> list[float]:
    """Those before and after NumPy's training, which takes long and serves all contenders; else none."""
    if case.group not in ("step", "fit"):
        return []
    job = reference.step(case, data, 1)
    job.run()
    return [_loss(data, weights) for weights in (data.weights, job.result())]


def gemm(case: Case, data: inputs.Product, out: Any, _: list[float]) -> str:
    a, b = data.operands(case.form)
    rows = _rows(len(a))
    expected = a[rows].astype(np.float64) @ b.astype(np.float64)
    return _close("product", np.asarray(out)[rows], expected, GEMM_ERROR[case.precision])


def softmax(case: Case, data: inputs.Logits, result: tuple[float, Any], _: list[float]) -> str:
    rows = _rows(len(data.labels))
    z = data.logits[rows].astype(np.float64)
    gradient = np.exp(z - z.max(axis=1, keepdims=True))
    gradient /= gradient.sum(axis=1, keepdims=True)
    gradient[np.arange(len(rows)), data.labels[rows]] -= 1
    loss, out = result
    expected = _cross_entropy(data.logits, data.labels)
    if not abs(loss - expected) <= FLOAT_ERROR * expected:
        return f"loss {loss:.8g}, expected {expected:.8g}"
    return _close("gradient", np.asarray(out)[rows], gradient / len(data.labels))


def step(case: Case, data: inputs.Examples, weights: list[Any], losses: list[float]) -> str:
    """The loss after the epochs: the fall is that of NumPy's, though the order of examples differs."""
    before, expected = losses
    got = _loss(data, weights)
    if not abs(got - expected) <= DROP_ERROR * abs(before - expected):
        return f"loss {got:.5g} after an epoch from {before:.5g}, NumPy's {expected:.5g}"
    return ""


def predict(case: Case, data: inputs.Examples, classes: Any, _: list[float]) -> str:
    expected = _forward(data.floats, data.weights).argmax(axis=1)
    return "" if np.array_equal(np.ravel(classes), expected) else f"classes {classes}, expected {expected}"


CHECKS: dict[str, Callable[[Case, Any, Any, list[float]], str]] = {
    "gemm": gemm,
    "softmax": softmax,
    "step": step,
    "fit": step,
    "predict": predict,
}


def _close(what: str, got: Any, expected: Any, most: float = FLOAT_ERROR) -> str:
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    return "" if error <= most else f"{what}: relative error {error:.2g} over {most}"


def _forward(x: Any, weights: list[Any]) -> Any:
    h = x
    for i in range(0, len(weights), 2):
        h = h @ np.asarray(weights[i]) + np.asarray(weights[i + 1])
        if i + 2 < len(weights):
            np.maximum(h, 0, out=h)
    return h


def _loss(data: inputs.Examples, weights: list[Any]) -> float:
    return _cross_entropy(_forward(data.floats[:SAMPLE], weights), data.y[:SAMPLE])


def _cross_entropy(logits: Any, labels: Any) -> float:
    """The mean loss in float64, which of all rows at a time might take a gigabyte."""
    losses = []
    for i in range(0, len(labels), PART):
        z, y = logits[i : i + PART].astype(np.float64), labels[i : i + PART]
        z -= z.max(axis=1, keepdims=True)
        own = z[np.arange(len(y)), y]
        losses.append(np.log(np.exp(z, out=z).sum(axis=1)) - own)
    return float(np.concatenate(losses).mean())


def _rows(count: int) -> Any:
    """The first and last eight rows, and eight between them that no contender can know."""
    return np.r_[: min(8, count), np.random.default_rng().integers(0, count, 8), max(0, count - 8) : count]
