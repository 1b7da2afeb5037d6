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

from mlpfast import cuda as cuda
from mlpfast import datasets as datasets
from mlpfast import kernels as kernels
from mlpfast.config import __version__ as __version__
from mlpfast.config import get_num_threads as get_num_threads
from mlpfast.config import set_num_threads as set_num_threads
from mlpfast.config import show_config as show_config
from mlpfast.config import threads as threads
from mlpfast.errors import CheckpointError as CheckpointError
from mlpfast.errors import DataError as DataError
from mlpfast.errors import DeviceError as DeviceError
from mlpfast.errors import DivergenceError as DivergenceError
from mlpfast.errors import MlpfastError as MlpfastError
from mlpfast.model import MLP as MLP
from mlpfast.optim import SGD as SGD
from mlpfast.trainer import History as History
from mlpfast.trainer import Trainer as Trainer


def __getattr__(name: str) -> _Any:
    """The modules that load when they are first asked for."""
    if name in ("callbacks", "plots"):
        from importlib import import_module

        return import_module(f"mlpfast.{name}")
    raise AttributeError(f"module 'mlpfast' has no attribute {name!r}")
