"""Weight initialisers: functions of a random generator, a layer's sizes and a dtype. Biases start as 0.

The generator's type is quoted, because touching numpy.random loads it: a third of our import time.
"""

from collections.abc import Callable

import numpy as np

from mlpfast.arguments import FLOAT32_MAX, Dtype, unfit
from mlpfast.parameters import Floats

Initializer = Callable[["np.random.Generator", int, int, Dtype], Floats]


def _normal(deviation: float) -> Initializer:
    def draw(rng: "np.random.Generator", rows: int, cols: int, dtype: Dtype) -> Floats:
        try:
            with np.errstate(over="raise"):
                return rng.standard_normal((rows, cols), dtype) * dtype(deviation)
        except FloatingPointError:
            expected = f"of a deviation whose draws {dtype.__name__} can hold"
            raise ValueError(unfit("MLP", "init", f"normal:{deviation}", expected)) from None

    return draw


def _constant(value: float) -> Initializer:
    return lambda rng, rows, cols, dtype: np.full((rows, cols), value, dtype)


def he(rng: "np.random.Generator", rows: int, cols: int, dtype: Dtype) -> Floats:
    """Normal with deviation sqrt(2 / in) (He et al. 2015)."""
    return _normal((2 / rows) ** 0.5)(rng, rows, cols, dtype)


def xavier(rng: "np.random.Generator", rows: int, cols: int, dtype: Dtype) -> Floats:
    """Uniform within +-sqrt(6 / (in + out)) (Glorot and Bengio 2010)."""
    limit = (6 / (rows + cols)) ** 0.5
    return (rng.random((rows, cols), dtype) * 2 - 1) * dtype(limit)


def lecun(rng: "np.random.Generator", rows: int, cols: int, dtype: Dtype) -> Floats:
    """Normal with deviation sqrt(1 / in) (LeCun et al. 1998)."""
    return _normal((1 / rows) ** 0.5)(rng, rows, cols, dtype)


INITIALIZERS: dict[str, Initializer] = {"he": he, "xavier": xavier, "lecun": lecun, "zeros": _constant(0.0)}
PARAMETRIC: dict[str, Callable[[float], Initializer]] = {"normal": _normal, "constant": _constant}


def initializer(name: str) -> Initializer:
    """The initialiser of a name such as "he" or "normal:0.01".

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> initializer("constant:2")(np.random.default_rng(0), 1, 2, np.float32)
    array([[2., 2.]], dtype=float32)
    """
    kind, colon, value = str(name).partition(":")
    if not colon and kind in INITIALIZERS:
        return INITIALIZERS[kind]
    if colon and kind in PARAMETRIC:
        try:
            number = float(value)
        except ValueError:
            number = np.nan
        if abs(number) <= FLOAT32_MAX:
            return PARAMETRIC[kind](number)
    known = [*INITIALIZERS, *(f"{kind}:NUMBER" for kind in PARAMETRIC)]
    raise ValueError(f"init: unknown initialiser {name!r}; known are {', '.join(known)}")
