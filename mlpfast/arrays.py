"""Arrays of other libraries, such as PyTorch, JAX, CuPy and Numba, on a GPU or not, without a copy.

A call computes where its arrays lie, and its results are arrays of the first one's library.
They are exchanged by DLPack (dmlc.github.io/dlpack) or the CUDA Array Interface (Numba's documentation).
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np

from mlpfast import _cpu, cuda

_PLAIN = frozenset([np.ndarray, float, int, bool, str, list, tuple, type(None)])
_ON_GPU = (2, 13)  # DLPack's device types of CUDA, and of its managed memory


def call(name: str, stream: Any, *arguments: Any) -> Any:
    """Call the function of that name in the extension for the device that the arrays lie on."""
    if stream is None and _PLAIN.issuperset(map(type, arguments)):
        return getattr(_cpu, name)(*arguments)
    foreign = [a for a in arguments if is_foreign(a)]
    on_gpu = next((a for a in foreign if is_on_gpu(a)), None)
    if on_gpu is not None:
        place = _place(on_gpu, [a for a in foreign if is_on_gpu(a)], stream)
        given = [lendable(a) for a in arguments]
        return like(on_gpu, getattr(cuda.compiled(), name)(place, *given), given, arguments)
    if stream is not None:
        raise ValueError(f"{name}: stream is given, but no array lies on a GPU")
    if not foreign:
        return getattr(_cpu, name)(*arguments)
    given = [on_host(a, name, parameter) for a, parameter in zip(arguments, _parameters(name), strict=True)]
    return like(foreign[0], getattr(_cpu, name)(*given), given, arguments)


def _place(first: Any, arrays: Sequence[Any], stream: Any) -> tuple[Any, ...]:
    """Where a call computes: on the stream given, or the current one of the first library that has such."""
    currents: dict[str, Any] = {}
    for array in arrays:
        name = _library(array)
        if name not in currents:
            currents[name] = _current_stream(array)
    current = currents[_library(first)]
    owner = next((c for c in currents.values() if c is not None), None) if stream is None else stream
    number = stream_number(owner)
    # A library reuses what it frees in the order of its own stream: on another stream it must wait.
    in_order = current is not None and number == stream_number(current) and len(currents) == 1
    later = {stream_number(c) for c in currents.values() if c is not None}
    if "numba" in currents:
        later.add(0)  # on which it works
    make = None if current is None else _maker(first, current, number)
    return (number, owner, make, in_order, sorted(later - {number}))


def lendable(value: Any) -> Any:
    """A tensor of PyTorch as its DLPack lets it pass: one that needs a gradient, while none is recorded."""
    if _library(value) != "torch" or not is_foreign(value):
        return value
    if value.is_neg() or value.is_conj():
        raise TypeError("a tensor's numbers are not stored as they are; pass x.resolve_conj().resolve_neg()")
    recorded = sys.modules["torch"].is_grad_enabled()
    return value.detach() if value.requires_grad and not recorded else value


@cache
def _parameters(function: str) -> list[str]:
    """Those of the kernel that are handed to `call`."""
    parameters = inspect.signature(getattr(sys.modules["mlpfast.kernels"], function)).parameters
    return [name for name in parameters if name != "stream"]


def is_foreign(value: Any) -> bool:
    """Tell whether this is an array of another library, or one of ours on a GPU."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, np.ndarray | np.generic):
        return False
    return hasattr(kind, "__dlpack_device__") or hasattr(kind, "__cuda_array_interface__")


def is_on_gpu(array: Any) -> bool:
    """Tell whether a foreign array lies on a GPU."""
    if _library(array) == "torch":
        return bool(array.is_cuda)
    if not hasattr(type(array), "__dlpack_device__"):
        return True
    try:
        return int(array.__dlpack_device__()[0]) in _ON_GPU
    except (BufferError, TypeError):  # JAX's that lie on several devices, which it gathers, or are deleted
        return False


def on_host(array: Any, function: str, name: str) -> Any:
    """A foreign array's numbers in the host's memory, copied from a GPU; other values as they are."""
    if not is_foreign(array):
        return array
    if is_on_gpu(array):
        return cuda.compiled().view(lendable(array), function, name).numpy()
    library = _library(array)
    try:
        if library == "torch":
            return array.numpy()  # refuses numbers not stored as they are, which DLPack lets pass
        return np.asarray(array) if library == "jaxlib" else np.from_dlpack(array)
    except (RuntimeError, TypeError, BufferError, ValueError) as error:
        raise TypeError(
            f"{function}: {name} of type {type(array).__name__} cannot be read; its numbers must be of a "
            f"dtype of NumPy, and need no gradient: {error}"
        ) from error


def like(array: Any, results: Any, given: Sequence[Any] = (), originals: Sequence[Any] = ()) -> Any:
    """Results as arrays of the array's library, where it can take them; what was given as out is returned."""
    if isinstance(results, tuple):
        return tuple(like(array, result, given, originals) for result in results)
    for same, original in zip(given, originals, strict=True):
        if results is same:
            return original
    if not isinstance(results, np.ndarray) and type(results).__name__ != "DeviceArray":
        return results
    take = _taker(array, isinstance(results, np.ndarray))
    return results if take is None else take(results)


def _library(array: Any) -> str:
    """Name of the library that the array's class, or one that it is derived from, comes from."""
    kind: Any = type(array)
    return _library_of(kind)


@cache
def _library_of(kind: type) -> str:
    for base in kind.__mro__:
        name = base.__module__.partition(".")[0]
        if name in ("numba", "jaxlib") or hasattr(sys.modules.get(name), "from_dlpack"):
            return name
    return ""


def _taker(array: Any, on_host: bool) -> Callable[[Any], Any] | None:
    """What makes an array of the same library."""
    name = _library(array)
    names = {"torch": "from_numpy"} if on_host else {"numba": "as_cuda_array"}  # Numba has no DLPack
    module = sys.modules.get({"numba": "numba.cuda", "jaxlib": "jax.dlpack"}.get(name, name))
    take: Callable[[Any], Any] | None = getattr(module, names.get(name, "from_dlpack"), None)
    return take


def _maker(array: Any, current: Any, number: int) -> Callable[[tuple[int, ...]], Any]:
    """What makes float32 arrays for a stream, of a library with memory for each, on the array's device."""
    library = sys.modules[_library(array)]
    here = number == stream_number(current)

    def of_torch(shape: tuple[int, ...]) -> Any:
        if here:
            return library.empty(shape, dtype=library.float32, device=array.device)
        streams = library.cuda  # whose external stream 0 is no default stream
        stream = (
            streams.ExternalStream(number, array.device) if number else streams.default_stream(array.device)
        )
        with streams.stream(stream):
            made = library.empty(shape, dtype=library.float32, device=array.device)
        made.record_stream(current)
        return made

    def of_cupy(shape: tuple[int, ...]) -> Any:
        with array.device, nullcontext() if here else library.cuda.ExternalStream(number):
            return library.empty(shape, library.float32)

    return of_torch if _library(array) == "torch" else of_cupy


def _current_stream(array: Any) -> Any:
    """The stream on which the array's library works now, of libraries that have such a thing."""
    name = _library(array)
    if name == "torch":
        return sys.modules["torch"].cuda.current_stream(array.device)
    if name == "cupy":
        return sys.modules["cupy"].cuda.get_current_stream(array.device.id)
    return None


def stream_number(stream: Any) -> int:
    """Give the address of a stream: an integer, PyTorch's, CuPy's or any with ``__cuda_stream__``.

    Examples
    --------
    >>> stream_number(None), stream_number(7)
    (0, 7)
    """
    number = _stream_number(stream)
    return 0 if number == 1 else number  # both are the legacy default stream


def _stream_number(stream: Any) -> int:
    if stream is None:
        return 0
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for name in ("cuda_stream", "ptr"):  # of PyTorch, of CuPy
        if hasattr(stream, name):
            return int(getattr(stream, name))
    if isinstance(stream, int | np.integer) and not isinstance(stream, bool) and 0 <= stream < 2**63:
        return int(stream)
    raise TypeError(f"stream is {stream!r}; it must be a CUDA stream of PyTorch or CuPy, or its address")
