"""NVIDIA GPUs: whether one can be used, and the extension that uses it.

The extension `mlpfast._cuda` is built where a CUDA compiler is found. It is loaded when it is first asked
for, and needs a driver only then.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlpfast.errors import DeviceError


def is_available() -> bool:
    """Tell whether ``device="cuda"`` can be used here.

    Examples
    --------
    >>> is_available() in (True, False)
    True
    """
    return not why_unavailable()


def synchronize() -> None:
    """Wait until the GPU has done everything asked of it; give back memory beyond 256 MB that is not in use.

    Raises
    ------
    DeviceError
        If no GPU can be used; the text says why, and what to do.
    ValueError
        If `mlpfast.kernels.softmax_cross_entropy` met a label on the GPU that is none of the classes.
    """
    extension().synchronize()


def from_numpy(array: ArrayLike) -> Any:
    """Copy an array to the GPU, for the functions of `mlpfast.kernels`.

    These then return arrays of the same kind. They have shape, dtype, ndim, size and device (a number), and
    ``numpy()`` for a copy in the host's memory; other libraries take them by DLPack.

    Parameters
    ----------
    array : integers, booleans or floats of any shape

    Raises
    ------
    DeviceError
        If no GPU can be used, or its memory does not suffice.
    """
    numbers = np.asarray(array)
    if numbers.dtype.kind not in "biuf":
        raise TypeError(f"from_numpy: array has dtype {numbers.dtype}; it must be of numbers or booleans")
    return extension().from_numpy(np.asarray(numbers, numbers.dtype.newbyteorder("="), order="C"))


def extension() -> ModuleType:
    """The compiled module, on a machine that can use it.

    Raises
    ------
    DeviceError
        If no GPU can be used.
    """
    if reason := why_unavailable():
        raise DeviceError(f"device 'cuda' cannot be used: {reason}")
    return compiled()


def compiled() -> ModuleType:
    """The compiled module, whose functions on arrays check that their GPU can be used.

    Raises
    ------
    DeviceError
        If it is missing.
    """
    if module := sys.modules.get("mlpfast._cuda"):
        return module
    try:
        return import_module("mlpfast._cuda")
    except ImportError as error:
        text = f"its extension cannot be loaded: {error}"
        if error.name == "mlpfast._cuda":
            text = "mlpfast was built without CUDA; install it where nvcc is in PATH, with MLPFAST_CUDA=ON"
        raise DeviceError(text) from error


def why_unavailable() -> str:
    """Say why no GPU can be used, and what to do; nothing where one can."""
    try:
        return str(compiled().why_unavailable())
    except DeviceError as error:
        return str(error)
