"""Checks of what users pass to the Python side; messages name function and argument and say what fits."""

import math
import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PathLike = str | os.PathLike[str]
Dtype = type[np.float32] | type[np.float64]
DTYPES: dict[str, Dtype] = {"float32": np.float32, "float64": np.float64}
FLOAT32_MAX = float(np.finfo(np.float32).max)


def unfit(function: str, name: str, value: Any, expected: str) -> str:
    """The text of an error: function: name is VALUE; it must be EXPECTED."""
    return f"{function}: {name} is {repr(value)[:200]}; it must be {expected}"


def integer(function: str, name: str, value: Any, least: int | None = None) -> int:
    """An integer, at least `least`; a bool does not count."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(unfit(function, name, value, "an integer"))
    if least is not None and value < least:
        raise ValueError(unfit(function, name, value, f"at least {least}"))
    return int(value)


def real(function: str, name: str, value: Any, least: float = -FLOAT32_MAX) -> float:
    """A real number that float32 can hold, at least `least`; a bool does not count."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(unfit(function, name, value, "a real number"))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not least <= number <= FLOAT32_MAX:
        sign = "" if least else ", not negative"
        raise ValueError(unfit(function, name, value, "a finite float32 number" + sign))
    return number


def flag(function: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(unfit(function, name, value, "True or False"))
    return bool(value)


def choice(function: str, name: str, value: Any, known: Sequence[str]) -> str:
    """One of some names."""
    if not isinstance(value, str):
        raise TypeError(unfit(function, name, value, f"one of {', '.join(known)}"))
    if value not in known:
        raise ValueError(f"{function}: unknown {name} {value!r}; known are {', '.join(known)}")
    return str(value)


def listed(function: str, name: str, value: Any, expected: str) -> list[Any]:
    """The items of a list, a tuple, or an array of one dimension: what has an order."""
    text_or_bytes = str | bytes | bytearray | memoryview
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, text_or_bytes):
        raise TypeError(unfit(function, name, value, expected))
    if isinstance(value, np.ndarray) and value.ndim != 1:
        raise ValueError(unfit(function, name, value, expected))
    return list(value)


def file_path(function: str, name: str, value: Any) -> PathLike:
    """The path of a file or folder; not a number, though Python opens those."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(unfit(function, name, value, "a path, str or os.PathLike[str]"))
    return value


def numbers(function: str, name: str, value: ArrayLike) -> NDArray[Any]:
    """An array of real numbers of any dtype."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{function}: {name} is no array: {error}") from error
    if array.dtype.kind not in "fiub":
        kind, advice = type(value).__name__, "; of a sparse matrix pass .toarray()"
        advice = advice if hasattr(value, "toarray") else ""
        raise TypeError(f"{function}: {name} ({kind}) has dtype {array.dtype}, expected real numbers{advice}")
    return array
