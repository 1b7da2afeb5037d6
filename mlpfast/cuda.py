"""NVIDIA GPUs: whether one can be used, and the extension that uses it.

The extension `mlpfast._cuda` is built where a CUDA compiler is found. It is loaded when it is first asked
for, and needs a driver only then.
"""

from importlib import import_module
from types import ModuleType

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
    """Wait until the GPU has done everything asked of it.

    Raises
    ------
    DeviceError
        If no GPU can be used; the text says why, and what to do.
    """
    extension().synchronize()


def extension() -> ModuleType:
    """The compiled module, on a machine that can use it.

    Raises
    ------
    DeviceError
        If no GPU can be used.
    """
    if reason := why_unavailable():
        raise DeviceError(f"device 'cuda' cannot be used: {reason}")
    return import_module("mlpfast._cuda")


def why_unavailable() -> str:
    """Say why no GPU can be used, and what to do; nothing where one can."""
    try:
        module = import_module("mlpfast._cuda")
    except ImportError as error:
        if error.name == "mlpfast._cuda":
            return "mlpfast was built without CUDA; install it where nvcc is in PATH, with MLPFAST_CUDA=ON"
        return f"its extension cannot be loaded: {error}"
    reason: str = module.why_unavailable()
    return reason
