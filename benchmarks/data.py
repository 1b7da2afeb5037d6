"""Inputs of a case, the same for every contender: uniform numbers from a fixed seed, so no denormals."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case

Floats = NDArray[Any]
VALIDATION = 10_000  # rows that fit evaluates after each epoch


@dataclass
class Product:
    """out = op(a) op(b): a and b lie as the form says, so "T" means stored transposed."""

    a: Floats
    b: Floats
    out: Floats

    def operands(self, form: str) -> tuple[Floats, Floats]:
        """Views [m, k] and [k, n]."""
        return (self.a.T if form[0] == "T" else self.a), (self.b.T if form[1] == "T" else self.b)


@dataclass
class Examples:
    """Features, seen by the network times scale, labels, and the first weights: w [in, out], b [out], ..."""

    x: Floats
    y: NDArray[np.int64]
    weights: list[Floats]
    scale: float = 1.0

    @property
    def validation(self) -> tuple[Floats, NDArray[np.int64]]:
        return self.x[:VALIDATION], self.y[:VALIDATION]

    @property
    def floats(self) -> Floats:
        """What the network sees."""
        return self.x if self.scale == 1.0 else self.x * self.weights[0].dtype.type(self.scale)


@dataclass
class Logits:
    logits: Floats
    labels: NDArray[np.int64]
    out: Floats


def make(case: Case) -> Any:
    """The data of a case: Product, Examples or Logits."""
    rng = np.random.default_rng(1)

    def uniform(*shape: int, scale: float = 1.0) -> Floats:
        array = rng.random(shape, dtype=np.dtype(case.dtype))
        array -= 0.5
        array *= 2 * scale
        return array

    if case.group == "gemm":
        m, n, k = case.shape
        a = uniform(*((k, m) if case.form[0] == "T" else (m, k)))
        b = uniform(*((n, k) if case.form[1] == "T" else (k, n)))
        return Product(a, b, np.ones((m, n), case.dtype))
    if case.group == "softmax":
        logits = uniform(*case.shape, scale=4.0)
        return Logits(logits, rng.integers(0, case.shape[1], case.shape[0]), np.ones_like(logits))
    rows = case.batch * case.batches
    weights = []
    for i, o in pairwise(case.shape):
        weights += [uniform(i, o, scale=(6 / i) ** 0.5), uniform(o, scale=0.1)]
    labels = rng.integers(0, case.shape[-1], rows)
    if case.features:
        return Examples(rng.integers(0, 256, (rows, case.shape[0]), case.features), labels, weights, 1 / 255)
    return Examples(uniform(rows, case.shape[0]), labels, weights)
