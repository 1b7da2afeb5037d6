"""Weights of examples, one for each row or for each class, as `Trainer.fit` takes them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from mlpfast import arrays
from mlpfast.arguments import numbers, unfit
from mlpfast.parameters import Floats

Weights = tuple[Floats | None, Floats | None]  # of rows, of classes


def checked_weights(
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | ArrayLike | None,
    rows: int,
    classes: int,
    dtype: str,
) -> Weights:
    """Of the model's dtype; weights and products of both are 0, or have an inverse and finite sums."""
    if isinstance(class_weight, str):
        expected = "an array, one weight for each class, or {class: weight}"
        raise TypeError(unfit("fit", "class_weight", class_weight, expected))
    if isinstance(class_weight, Mapping):
        if unknown := [c for c in class_weight if c not in range(classes)]:
            raise ValueError(f"fit: class_weight has keys {unknown}, outside 0 .. {classes - 1}")
        class_weight = [class_weight.get(c, 1.0) for c in range(classes)]
    by_row = _checked("sample_weight", sample_weight, rows, "row of x", dtype)
    by_class = _checked("class_weight", class_weight, classes, "class", dtype)
    if by_row is not None and by_class is not None:
        _check_products(by_row, by_class, dtype)
    return by_row, by_class


def _checked(name: str, weights: ArrayLike | None, size: int, each: str, dtype: str) -> Floats | None:
    if weights is None:
        return None
    array = numbers("fit", name, arrays.on_host(weights, "fit", name))
    if array.shape != (size,):
        raise ValueError(f"fit: {name} has shape {array.shape}, expected ({size},), one for each {each}")
    least, most = _range(dtype)
    wide = array.astype(np.result_type(array, np.float64))
    wrong = np.flatnonzero(~((wide == 0) | ((wide >= least) & (wide <= most))))
    if wrong.size:
        expected = f"a finite {dtype} number, not negative: 0, or {least:.3g} .. {most:.3g}"
        raise ValueError(unfit("fit", f"{name}[{wrong[0]}]", array[wrong[0]], expected))
    return np.ascontiguousarray(array, dtype)


def _check_products(by_row: Floats, by_class: Floats, dtype: str) -> None:
    above = [weights[weights > 0].astype(np.float64) for weights in (by_row, by_class)]
    if not all(weights.size for weights in above):
        return
    least, most = _range(dtype)
    with np.errstate(over="ignore", under="ignore"):
        low, high = (np.prod([end(weights) for weights in above]) for end in (np.min, np.max))
    if low < least or high > most:
        raise ValueError(
            f"fit: sample_weight times class_weight is {low:.3g} .. {high:.3g}; "
            f"products must be 0, or {least:.3g} .. {most:.3g}"
        )


def _range(dtype: str) -> tuple[np.float64, np.float64]:
    """The least and the most of weights above 0."""
    info = np.finfo(dtype)
    return np.float64(info.tiny), np.float64(2.0 ** (info.maxexp * 25 // 32))
