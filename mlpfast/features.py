"""Features, as the extensions read them: [rows, inputs] where they lie, copied only where that is needed."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpfast import arrays, cuda
from mlpfast.arguments import numbers
from mlpfast.errors import DeviceError

READ_AS_IS = frozenset(map(np.dtype, "?bBhHiIlLqQfd"))
READ_ON_GPU = frozenset(map(np.dtype, "?Bf"))


def features(x: ArrayLike, inputs: int, device: str, function: str) -> NDArray[Any]:
    """x as the extension of a device reads it, of a native real dtype; errors name the function.

    Examples
    --------
    >>> features([[[1, 2], [3, 4]]], 4, "cpu", "predict")
    array([[1, 2, 3, 4]])
    """
    if type(x) is np.ndarray and x.shape[1:] == (inputs,) and x.dtype in READ_AS_IS:
        flags = x.flags
        if flags.c_contiguous and flags.aligned:
            return x
    on_gpu = arrays.is_foreign(x) and arrays.is_on_gpu(x)
    if on_gpu and device != "cuda":
        text = "x lies on a GPU, the model computes on the CPU; bring x there, or make it with device='cuda'"
        raise ValueError(f"{function}: {text}")
    if on_gpu:
        array = cuda.compiled().view(arrays.lendable(x), function, "x")
    else:
        array = numbers(function, "x", arrays.on_host(x, function, "x"))
    if array.ndim < 2:
        expected = f"[rows, {inputs}]; for one row use x[None]"
        raise ValueError(f"{function}: x has shape {array.shape}, expected {expected}")
    if array.ndim > 2:
        array = array.reshape(array.shape[0], math.prod(array.shape[1:]))
    if array.shape[1] != inputs:
        text = f"x has {array.shape[1]} features a row, the model takes {inputs}"
        raise ValueError(f"{function}: {text}")
    if on_gpu and array.dtype not in READ_ON_GPU:
        text = f"x has dtype {array.dtype}; on a GPU it must be float32, uint8 or bool"
        raise TypeError(f"{function}: {text}")
    return array if on_gpu else _native(array)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Of a dtype that is read as it is, with adjacent numbers in a row."""
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    native = array.dtype.newbyteorder("=")
    adjacent = array.shape[1] < 2 or array.strides[1] == array.itemsize
    if array.dtype != native or not array.flags.aligned or not adjacent:
        array = np.require(array, native, ["C", "A"])
    return array


def on_device(x: Any, device: str) -> Any:
    """What `features` returned, copied to the device; unchanged if it does not fit there."""
    if device == "cpu" or not isinstance(x, np.ndarray):
        return x
    with np.errstate(over="ignore"):
        x = x if x.dtype in READ_ON_GPU else x.astype(np.float32)
    try:
        return cuda.from_numpy(x)
    except DeviceError:
        return x
