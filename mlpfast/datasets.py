"""Datasets that examples, tests and the command line train on: find the files, parse them, check them.

Nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlpfast.arguments import PathLike, choice, file_path
from mlpfast.errors import DataError
from mlpfast.idx import read_idx, reading

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DATASETS", "Dataset", "digits", "fashion_mnist", "mnist", "verify", "xor"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification problem, split into a training and a test part.

    Attributes
    ----------
    x_train, x_test : ndarray, uint8 or float32, [rows, features]
        C-contiguous features, as stored in the source.
    y_train, y_test : ndarray, int32, [rows]
        Indices into `class_names`.
    class_names : tuple of str
    input_scale : float
        Brings the features to 0..1: the `input_scale` of a model that learns them.
    image_shape : tuple of int, or None
        Height and width of a row seen as an image.

    Examples
    --------
    >>> xor().x_train.shape
    (4, 2)
    """

    x_train: NDArray[Any]
    y_train: NDArray[np.int32]
    x_test: NDArray[Any]
    y_test: NDArray[np.int32]
    class_names: tuple[str, ...]
    input_scale: float
    image_shape: tuple[int, int] | None


class _IdxSet(NamedTuple):
    urls: tuple[str, ...]
    published: tuple[tuple[int, str], ...]  # byte size and sha256 of each of _FILES
    class_names: tuple[str, ...]


_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_IMAGE_SHAPE = (28, 28)
_IDX_SETS = {
    "fashion-mnist": _IdxSet(
        urls=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        published=(
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        class_names=tuple(
            [
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ]
        ),
    ),
    "mnist": _IdxSet(
        urls=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        published=(
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        class_names=tuple("0123456789"),
    ),
}


def fashion_mnist(data_dir: PathLike | None = None) -> Dataset:
    """Load Fashion-MNIST: 70,000 grey pictures of clothes in ten classes (Xiao, Rasul, Vollgraf 2017).

    x is uint8 [60000, 784] and [10000, 784], y is int32 [60000] and [10000].

    Parameters
    ----------
    data_dir : path, optional
        The only folder to look in. Without it: the folder in the environment variable MLPFAST_DATA, then
        ``mlpfast`` in the user's cache. The files lie in its subfolder ``fashion-mnist`` or in itself,
        under their published names, with or without ``.gz``. They are not hashed: see `verify`.

    Raises
    ------
    DataError
        Files are missing (the text says where to get them and where to put them) or damaged.
    TypeError
        `data_dir` is not a path.

    Examples
    --------
    >>> fashion_mnist("data").x_train.shape  # doctest: +SKIP
    (60000, 784)
    """
    return _load("fashion-mnist", data_dir)


def mnist(data_dir: PathLike | None = None) -> Dataset:
    """Load MNIST: 70,000 handwritten digits (LeCun, Cortes, Burges 1998).

    Parameters, shapes, dtypes and errors are those of `fashion_mnist`; the subfolder is ``mnist``.

    Examples
    --------
    >>> mnist("data").y_test[:3]  # doctest: +SKIP
    array([7, 2, 1], dtype=int32)
    """
    return _load("mnist", data_dir)


def digits() -> Dataset:
    """Load the 1,797 handwritten 8x8 digits that come with scikit-learn, in one fixed order and split.

    x is uint8 [1437, 64] and [360, 64] with values 0..16, y is int32 [1437] and [360].

    Raises
    ------
    ImportError
        scikit-learn is not installed.

    Examples
    --------
    >>> digits().x_train.shape  # doctest: +SKIP
    (1437, 64)
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("digits() needs scikit-learn: pip install 'mlpfast[cli]'") from error
    features, labels = load_digits(return_X_y=True)
    train, test = np.split(np.random.default_rng(0).permutation(len(labels)), [1437])
    x, y = features.astype(np.uint8), labels.astype(np.int32)
    return Dataset(x[train], y[train], x[test], y[test], tuple("0123456789"), 1 / 16, (8, 8))


def xor() -> Dataset:
    """Return exclusive or: four points, x float32 [4, 2] and y int32 [4], as training and as test part.

    Examples
    --------
    >>> xor().y_train
    array([0, 1, 1, 0], dtype=int32)
    """
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.array([0, 1, 1, 0], np.int32)
    return Dataset(x, y, x, y, ("0", "1"), 1.0, None)


DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "mnist": mnist,
    "xor": xor,
}


def verify(name: str, data_dir: PathLike | None = None) -> None:
    """Hash the four files that the loader of `name` would read, and compare with the published ones.

    Parameters
    ----------
    name : {"fashion-mnist", "mnist"}
    data_dir : path, optional
        As for `fashion_mnist`.

    Raises
    ------
    DataError
        A file is missing, or differs: the text names the expected and the found sha256 of the first one.
    ValueError, TypeError
        `name` is not a dataset that is read from files, or `data_dir` not a path.

    Examples
    --------
    >>> verify("mnist", "data")  # doctest: +SKIP
    """
    choice("verify", "name", name, list(_IDX_SETS))
    for path, (size, sha256) in zip(_locate(name, data_dir), _IDX_SETS[name].published, strict=True):
        if path.name not in _FILES:
            raise DataError(f"{path}: only the published {path.name}.gz has a known sha256")
        with reading(path) as file:
            import hashlib  # loads OpenSSL

            found, read = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
        if found != sha256:
            raise DataError(f"{path}: expected sha256 {sha256} ({size} bytes), found {found} ({read} bytes)")


def _load(name: str, data_dir: PathLike | None) -> Dataset:
    paths, class_names = _locate(name, data_dir), _IDX_SETS[name].class_names
    train, test = (_read_pair(x, y, len(class_names)) for x, y in (paths[:2], paths[2:]))
    return Dataset(*train, *test, class_names, 1 / 255, _IMAGE_SHAPE)


def _read_pair(x_path: Path, y_path: Path, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Read images as rows [n, pixels] and their labels [n]."""
    x, y = read_idx(x_path), read_idx(y_path)
    if x.ndim != 3 or x.shape[1:] != _IMAGE_SHAPE:
        raise DataError(f"{x_path}: shape {list(x.shape)}, expected [n, 28, 28]")
    if y.shape != x.shape[:1]:
        raise DataError(f"{y_path}: shape {list(y.shape)}, expected a label for each of {len(x)} images")
    if y.max() >= classes:
        row = y.argmax()
        raise DataError(f"{y_path}: label {y[row]} of row {row} is not in 0..{classes - 1}")
    return x.reshape(len(x), -1), y.astype(np.int32)


def _locate(name: str, data_dir: PathLike | None) -> list[Path]:
    """Find the files of a set, in the order of _FILES, in the first folder that holds them all."""
    searched = []
    for folder in _folders(name, data_dir):
        found = {file: path for file in _FILES if (path := _present(folder / file))}
        if len(found) == len(_FILES):
            return list(found.values())
        lacking = "lacks " + ", ".join(file for file in _FILES if file not in found)
        searched.append(f"  {folder}: {lacking if folder.is_dir() else 'no such folder'}")
    raise DataError(_missing_text(name, searched))


def _folders(name: str, data_dir: PathLike | None) -> list[Path]:
    """List where a set may be, but no folder named after another set: their files have the same names."""
    from pathlib import Path  # slow to import, and not needed for training

    if data_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        roots = [Path(root) for root in (os.environ.get("MLPFAST_DATA"), f"{cache}/mlpfast") if root]
    else:
        roots = [Path(file_path(name, "data_dir", data_dir))]
    others = _IDX_SETS.keys() - {name}
    return [folder for root in roots for folder in (root / name, root) if folder.name not in others]


def _present(path: Path) -> Path | None:
    return next((p for p in (path, path.with_suffix("")) if os.path.exists(p)), None)


def _missing_text(name: str, searched: list[str]) -> str:
    lines = [f"{name} was not found. Searched:", *searched]
    lines += ["Put these files into one of these folders, or name another by data_dir or MLPFAST_DATA:"]
    for file, (size, sha256) in zip(_FILES, _IDX_SETS[name].published, strict=True):
        lines += [f"  {file}, {size} bytes, sha256 {sha256}"]
        lines += [f"    {url}{file}" for url in _IDX_SETS[name].urls]
    return "\n".join(lines)
