"""NumPy with everything in place: out= wherever it exists, no temporaries a careful user would avoid."""

import math
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.contenders import CHUNK, Job


def gemm(case: Case, data: Any, threads: int) -> Job:
    (a, b), out = data.operands(case.form), data.out
    return Job(lambda: np.matmul(a, b, out=out), lambda: out, np.__version__, _core())


def softmax(case: Case, data: Any, threads: int) -> Job:
    loss, out = [0.0], data.out

    def run() -> None:
        loss[0] = _softmax_cross_entropy(data.logits, data.labels, out) / len(out)
        np.multiply(out, 1 / len(out), out=out)

    return Job(run, lambda: (loss[0], out), np.__version__, _core())


def step(case: Case, data: Any, threads: int) -> Job:
    return _training(case, data, validate=False)


def fit(case: Case, data: Any, threads: int) -> Job:
    return _training(case, data, validate=True)


def predict(case: Case, data: Any, threads: int) -> Job:
    net = _Net(data.weights, case.batch)
    return Job(lambda: net.predict(data.x), lambda: net.predict(data.x), np.__version__, _core())


def _training(case: Case, data: Any, validate: bool) -> Job:
    net, rng = _Net([w.copy() for w in data.weights], case.batch), np.random.default_rng(0)
    (x, y), size = data.validation, math.gcd(len(data.validation[1]), CHUNK)
    held_out = _Net(net.weights, size) if validate else None

    def epoch() -> tuple[float, ...]:
        order = rng.permutation(len(data.x)).reshape(case.batches, case.batch)
        loss = sum(net.step(data, rows, case.lr) for rows in order) / len(data.x)
        if held_out is None:
            return (loss,)
        chunks = (slice(i, i + size) for i in range(0, len(y), size))
        parts = [held_out.evaluate(x[rows], y[rows], data.scale) for rows in chunks]
        return loss, *(sum(values) / len(y) for values in zip(*parts, strict=True))

    def run() -> list[tuple[float, ...]]:
        return [epoch() for _ in range(case.epochs)]

    return Job(run, lambda: net.weights, np.__version__, _core())


def _core() -> str:
    """The processor that its BLAS is made for, where threadpoolctl can tell."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return ""
    return " ".join(f"{lib['internal_api']} {lib.get('architecture', '')}" for lib in threadpool_info())


def _softmax_cross_entropy(logits: Any, labels: Any, out: Any) -> float:
    """Sum of losses; out = softmax - onehot, which may be the logits themselves."""
    rows = np.arange(len(labels))
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    picked = out[rows, labels]
    np.exp(out, out=out)
    total = out.sum(axis=1, keepdims=True)
    loss = np.log(total).sum() - picked.sum()
    np.divide(out, total, out=out)
    out[rows, labels] -= 1
    return float(loss)


class _Net:
    """Layers with buffers for one batch size, over the weights given."""

    def __init__(self, weights: list[Any], batch: int) -> None:
        self.weights = weights
        self.w, self.b = self.weights[::2], self.weights[1::2]
        dtype = self.w[0].dtype
        self.h = [np.ones((batch, w.shape[0]), dtype) for w in self.w]
        self.h.append(np.ones((batch, self.w[-1].shape[1]), dtype))
        self.d = [np.ones_like(h) for h in self.h]
        self.dw = [np.ones_like(w) for w in self.w]

    def forward(self, x: Any) -> Any:
        h = x
        for w, b, y in zip(self.w, self.b, self.h[1:], strict=True):
            np.matmul(h, w, out=y)
            y += b
            h = y if y is self.h[-1] else np.maximum(y, 0, out=y)
        return h

    def predict(self, x: Any) -> Any:
        return self.forward(x).argmax(axis=1)

    def evaluate(self, x: Any, y: Any, scale: float) -> tuple[float, int]:
        """Sum of losses, and how many classes are right."""
        np.multiply(x, self.h[0].dtype.type(scale), out=self.h[0])
        logits = self.forward(self.h[0])
        right = int((logits.argmax(axis=1) == y).sum())
        return _softmax_cross_entropy(logits, y, self.d[-1]), right

    def step(self, data: Any, rows: Any, lr: float) -> float:
        if data.x.dtype == self.h[0].dtype:
            np.take(data.x, rows, axis=0, out=self.h[0], mode="clip")  # "raise" would copy through a buffer
        else:
            np.multiply(data.x[rows], self.h[0].dtype.type(data.scale), out=self.h[0])
        loss = _softmax_cross_entropy(self.forward(self.h[0]), data.y[rows], self.d[-1])
        self.d[-1] *= lr / len(rows)
        product = np.matmul if len(rows) > 1 else np.multiply  # which broadcasts one row faster
        for i in reversed(range(len(self.w))):
            w, h, dy = self.w[i], self.h[i], self.d[i + 1]
            product(h.T, dy, out=self.dw[i])
            if i:
                np.matmul(dy, w.T, out=self.d[i])
                np.multiply(self.d[i], h > 0, out=self.d[i])
            w -= self.dw[i]
            self.b[i] -= dy.sum(axis=0)
        return loss
