"""Arrays of other libraries, such as PyTorch, JAX, CuPy and Numba, on a GPU or not, without a copy.

A call computes where its arrays lie, and its results are arrays of the first one's library.
They are exchanged by DLPack (dmlc.github.io/dlpack) or the CUDA Array Interface (Numba's documentation).
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlpfast import _cpu, cuda

_PLAIN = frozenset([np.ndarray, float, int, bool, str, list, tuple, type(None)])
_ON_GPU = (2, 13)  # DLPack's device types of CUDA, and of its managed memory


def call(name: str, stream: Any, *arguments: Any) -> Any:
    """Call the function of that name of the extension for the device on which the arrays lie."""
    if stream is None and _PLAIN.issuperset(map(type, arguments)):
        return getattr(_cpu, name)(*arguments)
    foreign = [a for a in arguments if is_foreign(a)]
    on_gpu = next((a for a in foreign if is_on_gpu(a)), None)
    if on_gpu is not None:
        owner = current_stream(on_gpu) if stream is None else stream
        function = getattr(cuda.extension(), name)
        return like(on_gpu, function(stream_number(owner), owner, *arguments), arguments, arguments)
    if stream is not None:
        raise ValueError(f"{name}: stream is given, but no array lies on a GPU")
    if not foreign:
        return getattr(_cpu, name)(*arguments)
    given = [on_host(a, name, "") for a in arguments]
    return like(foreign[0], getattr(_cpu, name)(*given), given, arguments)


def is_foreign(value: Any) -> bool:
    """Tell whether this is an array of another library, or one of ours on a GPU."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, np.ndarray | np.generic):
        return False
    return hasattr(kind, "__dlpack_device__") or hasattr(kind, "__cuda_array_interface__")


def is_on_gpu(array: Any) -> bool:
    """Tell whether a foreign array lies on a GPU."""
    if hasattr(type(array), "__dlpack_device__"):
        return int(array.__dlpack_device__()[0]) in _ON_GPU
    return True


def on_host(array: Any, function: str, name: str) -> Any:
    """The numbers of a foreign array in the host's memory, of a GPU's a copy; others as they are."""
    if not is_foreign(array):
        return array
    if is_on_gpu(array):
        return cuda.extension().view(array, function, name).numpy()
    return np.from_dlpack(array)


def like(array: Any, results: Any, given: Sequence[Any] = (), originals: Sequence[Any] = ()) -> Any:
    """Results as arrays of the array's library, where it can take them; what was given to write as it was."""
    if isinstance(results, tuple):
        return tuple(like(array, result, given, originals) for result in results)
    for same, original in zip(given, originals, strict=True):
        if results is same:
            return original
    take = _taker(array) if hasattr(type(results), "__dlpack__") else None
    return results if take is None else take(results)


def _taker(array: Any) -> Callable[[Any], Any] | None:
    """What makes an array of the same library."""
    for kind in type(array).__mro__:
        name = kind.__module__.partition(".")[0]
        if name == "numba":  # has no DLPack
            take: Callable[[Any], Any] = sys.modules["numba.cuda"].as_cuda_array
            return take
        if name == "jaxlib":
            name = "jax.dlpack"
        if hasattr(sys.modules.get(name), "from_dlpack"):
            take = sys.modules[name].from_dlpack
            return take
    return None


def current_stream(array: Any) -> Any:
    """The stream on which the array's library works now, of libraries that have such a thing."""
    name = type(array).__module__.partition(".")[0]
    if name == "torch":
        return sys.modules["torch"].cuda.current_stream(array.device)
    if name == "cupy":
        return sys.modules["cupy"].cuda.get_current_stream()
    return None


def stream_number(stream: Any) -> int:
    """Give the address of a stream: an integer, PyTorch's, CuPy's or any with ``__cuda_stream__``.

    Examples
    --------
    >>> stream_number(None), stream_number(7)
    (0, 7)
    """
    if stream is None:
        return 0
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for name in ("cuda_stream", "ptr"):  # of PyTorch, of CuPy
        if hasattr(stream, name):
            return int(getattr(stream, name))
    if isinstance(stream, int) and not isinstance(stream, bool) and 0 <= stream < 2**64:
        return stream
    raise TypeError(f"stream is {stream!r}; it must be a CUDA stream of PyTorch or CuPy, or its address")
