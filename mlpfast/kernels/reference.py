"""The functions of ``mlpfast.kernels`` in NumPy float64: specification, oracle of the tests, and baseline.

Same names and keyword arguments, without ``out`` (except in ``gemm``, where it is C) and ``precision``.
Row-major: x [m, k], w [k, n], b [n], y = act(x @ w * scale + b); results are new float64 arrays.
Nothing is checked here, and NaN and Inf pass through without warnings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_ieee = np.errstate(all="ignore")


def _f64(x: npt.ArrayLike) -> Array:
    return np.asarray(x, dtype=np.float64)


class Activation(NamedTuple):
    """``forward(x, alpha)`` and ``backward(saved, dy, alpha)``; saved is the forward's input or output."""

    saves: Literal["input", "output"]
    default_alpha: float | None
    forward: Callable[[Array, float], Array]
    backward: Callable[[Array, Array, float], Array]


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation("output", None, lambda x, _: x.copy(), lambda y, dy, _: dy.copy()),
    "relu": Activation(
        "output", None, lambda x, _: np.where(x <= 0, 0.0, x), lambda y, dy, _: np.where(y > 0, dy, 0.0)
    ),
    "leaky_relu": Activation(
        "input", 0.01, lambda x, a: np.where(x > 0, x, a * x), lambda x, dy, a: np.where(x > 0, dy, a * dy)
    ),
    "sigmoid": Activation("output", None, lambda x, _: _sigmoid(x), lambda y, dy, _: dy * (y * (1.0 - y))),
    "tanh": Activation("output", None, lambda x, _: np.tanh(x), lambda y, dy, _: dy * (1.0 - y * y)),
}


def _alpha(name: str, alpha: float | None) -> float:
    return (ACTIVATIONS[name].default_alpha or 0.0) if alpha is None else alpha


@_ieee
def gemm(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    out: npt.ArrayLike | None = None,
) -> Array:
    """alpha * op(a) @ op(b) + beta * out; out is read only where beta is not 0, and never written."""
    op_a, op_b = _f64(a), _f64(b)
    product = alpha * ((op_a.T if transpose_a else op_a) @ (op_b.T if transpose_b else op_b))
    return product if out is None or beta == 0 else product + beta * _f64(out)


@_ieee
def linear(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    *,
    activation: str = "identity",
    alpha: float | None = None,
    scale: float = 1.0,
) -> Array:
    """act((x @ w) * scale + b)."""
    z = (_f64(x) @ _f64(w)) * scale + (0.0 if b is None else _f64(b))
    return ACTIVATIONS[activation].forward(z, _alpha(activation, alpha))


@_ieee
def linear_backward_input(
    dy: npt.ArrayLike,
    w: npt.ArrayLike,
    saved: npt.ArrayLike | None = None,
    *,
    activation: str = "identity",
    alpha: float | None = None,
) -> Array:
    """(dy @ w.T) * act'(saved); saved and activation are those of the layer that made this layer's input."""
    dx = _f64(dy) @ _f64(w).T
    return dx if saved is None else activation_backward(activation, dx, saved, alpha=alpha)


@_ieee
def linear_backward_weights(x: npt.ArrayLike, dy: npt.ArrayLike) -> Array:
    """x.T @ dy."""
    return _f64(x).T @ _f64(dy)


def bias_add(x: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """x + b, b added to every row."""
    return _f64(x) + _f64(b)


@_ieee
def bias_add_backward(dy: npt.ArrayLike) -> Array:
    """Column sums of dy."""
    return np.asarray(_f64(dy).sum(axis=0))


def relu(x: npt.ArrayLike) -> Array:
    """max(x, 0); NaN stays NaN."""
    return activation("relu", x)


def relu_backward(dy: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """dy where y > 0, else 0."""
    return activation_backward("relu", dy, y)


@_ieee
def activation(name: str, x: npt.ArrayLike, *, alpha: float | None = None) -> Array:
    """act(x)."""
    return ACTIVATIONS[name].forward(_f64(x), _alpha(name, alpha))


@_ieee
def activation_backward(
    name: str, dy: npt.ArrayLike, saved: npt.ArrayLike, *, alpha: float | None = None
) -> Array:
    """dy * act'; saved is what ``ACTIVATIONS[name].saves`` says."""
    return ACTIVATIONS[name].backward(_f64(saved), _f64(dy), _alpha(name, alpha))


@_ieee
def softmax(x: npt.ArrayLike) -> Array:
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(_f64(x) - np.max(_f64(x), axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


@_ieee
def softmax_cross_entropy(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    class_weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
) -> tuple[float | Array, Array]:
    """Loss and d_logits as in torch.nn.functional.cross_entropy, and a weight per row.

    With nll_j = logsumexp(x) - x_j, smoothing e, class weights w and sample weights s, a row with label y
    loses s * sum_j target_j * nll_j, where target_j = (1 - e) w_y [j = y] + (e / c) w_j; the mean divides by
    the sum of s * w_y. Ignored rows count nowhere, whatever they hold; where no weight is left, loss and
    gradient are 0.
    """
    x, y = _f64(logits), np.asarray(labels).astype(np.int64)
    m, c = x.shape
    w = np.ones(c) if class_weight is None else _f64(class_weight)
    s = np.ones(m) if sample_weight is None else _f64(sample_weight)
    kept = np.full(m, True) if ignore_index is None else y != ignore_index
    y = np.where(kept, y, 0)
    shifted = x - np.max(x, axis=1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    own, spread = (1.0 - label_smoothing) * w[y], label_smoothing / c * w
    target = own[:, None] * (np.arange(c) == y[:, None]) + spread
    loss = own * nll[np.arange(m), y] + ((spread * nll).sum(axis=1) if label_smoothing else 0.0)
    loss = np.where(kept, s * loss, 0.0)
    gradient = softmax(x) * target.sum(axis=1, keepdims=True) - target
    d_logits = np.where(kept[:, None], s[:, None] * gradient, 0.0)
    if reduction == "none":
        return loss, d_logits
    weight = float((s * w[y])[kept].sum()) if reduction == "mean" else 1.0
    share = 1.0 / weight if weight != 0 else 0.0
    return float(loss.sum()) * share if share else 0.0, d_logits * share


def sgd_step(
    w: Array,
    dw: npt.ArrayLike,
    *,
    lr: float,
    momentum: float = 0.0,
    velocity: Array | None = None,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """One step of torch.optim.SGD on float64 arrays, in place.

    g = dw + weight_decay w; v = momentum v + g; w -= lr * (g + momentum v if nesterov else v). Without
    velocity: w -= lr * g.
    """
    g = _f64(dw) + weight_decay * w
    if velocity is None:
        w -= lr * g
        return
    velocity *= momentum
    velocity += g
    w -= lr * (g + momentum * velocity if nesterov else velocity)
