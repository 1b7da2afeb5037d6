"""Fast multilayer perceptrons: hand-written CPU kernels under a thin trainer."""

import os as _os
import pkgutil as _pkgutil
from importlib.machinery import EXTENSION_SUFFIXES as _SUFFIXES
from typing import Any as _Any

# In a clone, the sources beside the caller find the installed extension.
if not _os.path.exists(_os.path.join(_os.path.dirname(__file__), f"_cpu{_SUFFIXES[0]}")):
    __path__ = _pkgutil.extend_path(__path__, __name__)

try:
    from mlpfast import _cpu as _cpu
except ImportError as error:
    raise ImportError(
        f"mlpfast's compiled extension cannot be loaded ({error}); install it with 'pip install .' and do "
        "not import mlpfast from its source folder"
    ) from error

from mlpfast import cuda, datasets, kernels
from mlpfast.config import __version__, get_num_threads, set_num_threads, show_config, threads
from mlpfast.errors import CheckpointError, DataError, DeviceError, DivergenceError, MlpfastError
from mlpfast.model import MLP
from mlpfast.optim import SGD
from mlpfast.trainer import History, Trainer

__all__ = [
    "MLP",
    "SGD",
    "CheckpointError",
    "DataError",
    "DeviceError",
    "DivergenceError",
    "History",
    "MlpfastError",
    "Trainer",
    "__version__",
    "callbacks",
    "cuda",
    "datasets",
    "get_num_threads",
    "kernels",
    "plots",
    "set_num_threads",
    "show_config",
    "threads",
]


def __getattr__(name: str) -> _Any:
    """The modules that load when they are first asked for."""
    if name in ("callbacks", "plots"):
        from importlib import import_module

        return import_module(f"mlpfast.{name}")
    raise AttributeError(f"module 'mlpfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Those that are not loaded yet, too."""
    return sorted({*globals(), *__all__})
