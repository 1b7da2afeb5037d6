"""Model files: safetensors, which hold numbers and text only, so loading one runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpfast.arguments import PathLike, file_path
from mlpfast.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "1"


def save(path: PathLike, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts to one file, which appears whole or not at all.

    Raises
    ------
    CheckpointError
        If the file cannot be written; an existing one is then unchanged.
    """
    import tempfile  # these are slow to import, and not needed for training
    from pathlib import Path

    from safetensors.numpy import save as serialize

    path = file_path("save", "path", path)
    metadata = {"mlpfast.format": FORMAT, "mlpfast.model": json.dumps(dict(facts))}
    content = serialize({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata)
    try:
        path = Path(os.path.realpath(path))  # a link stays, its target is written
        if path.exists() and not path.is_file():
            raise OSError("it exists and is not a regular file")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mlpfast.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        with suppress(OSError):  # the file is in its place, and not every file system or mode allows this
            _sync_directory(path.parent)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot write {path}: {error}; choose a path that can be written") from error


def load(path: PathLike) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not of this format.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fspath(file_path("load", "path", path))
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for a writer
            raise OSError("it is not a regular file")
        with open(path, "rb"):
            pass
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "mlpfast.model" not in metadata:
                raise CheckpointError(f"{path} is a safetensors file, but not a model of mlpfast")
            if metadata.get("mlpfast.format") != FORMAT:
                found = metadata.get("mlpfast.format")
                raise CheckpointError(f"{path} has format {found!r}, this mlpfast reads {FORMAT!r}")
            facts = json.loads(metadata["mlpfast.model"])
            if not isinstance(facts, dict):
                raise CheckpointError(f"{path}: its description is not a JSON object")
            names = list(file.keys())
            if {file.get_slice(name).get_dtype() for name in names} not in ({"F32"}, {"F64"}):
                raise CheckpointError(f"{path}: its tensors are not all float32 or all float64")
            return {name: file.get_tensor(name) for name in names}, facts
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a valid model file: {error}") from error


def _umask() -> int:
    """The process's mask for new files, read without setting it for an instant."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 8) for line in file if line.startswith("Umask:")), 0o077)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
