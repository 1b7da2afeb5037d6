"""mlpfast.datasets: where files are found, which ones are refused, what the loaders return."""

import dataclasses
import gzip
import hashlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from idx_files import Store, as_stored, idx

from mlpfast import datasets
from mlpfast.errors import DataError

DATA = os.environ.get("MLPFAST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="MLPFAST_DATA names no folder with the real files")

NAMES = [f"{p}-{c}-ubyte.gz" for p in ("train", "t10k") for c in ("images-idx3", "labels-idx1")]


def write_set(folder: Path, *, train: int = 4, store: Store = gzip.compress) -> Path:
    folder.mkdir(parents=True)
    for name, rows in zip(NAMES, (train, train, 3, 3), strict=True):
        shape, high = ((rows, 28, 28), 256) if "images" in name else ((rows,), 10)
        array = np.random.default_rng(rows).integers(0, high, shape, np.uint8)
        (folder / (name if store is gzip.compress else name.removesuffix(".gz"))).write_bytes(
            store(idx(array))
        )
    return folder


@pytest.fixture(autouse=True)
def nothing_in_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data of this machine's user gets into a test."""
    monkeypatch.delenv("MLPFAST_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@as_stored
@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_loader(tmp_path: Path, name: str, store: Store) -> None:
    """Rows are flat, labels int32, and each part comes from its own files."""
    write_set(tmp_path / name, store=store)
    data = datasets.DATASETS[name](tmp_path)
    for x, y, rows in ((data.x_train, data.y_train, 4), (data.x_test, data.y_test, 3)):
        rng = [np.random.default_rng(rows) for _ in "xy"]
        np.testing.assert_array_equal(x, rng[0].integers(0, 256, (rows, 784), np.uint8), strict=True)
        np.testing.assert_array_equal(y, rng[1].integers(0, 10, rows, np.uint8).astype(np.int32), strict=True)
        assert x.flags.c_contiguous
    assert (data.input_scale, data.image_shape, len(data.class_names)) == (1 / 255, (28, 28), 10)


def test_dataset_is_frozen() -> None:
    """A shared dataset keeps its parts."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        datasets.xor().input_scale = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (np.zeros((4, 28, 28)), np.array([0, 9, 10, 3]), "train-labels.*: label 10 of row 2 is not in 0..9"),
        (np.zeros((4, 28, 28)), np.zeros(5), r"train-labels.*: shape \[5\], expected a label for each of 4"),
        (np.zeros((4, 28, 28)), np.zeros((4, 1)), r"train-labels.*: shape \[4, 1\], expected a label"),
        (np.zeros((4, 28, 27)), np.zeros(4), r"train-images.*: shape \[4, 28, 27\], expected \[n, 28, 28\]"),
        (np.zeros((4, 784)), np.zeros(4), r"train-images.*: shape \[4, 784\], expected \[n, 28, 28\]"),
    ],
    ids=["label 10", "count", "labels 2-d", "width", "images 2-d"],
)
def test_files_that_do_not_fit(tmp_path: Path, images: np.ndarray, labels: np.ndarray, text: str) -> None:
    """Each file is sound, together they are no dataset."""
    folder = write_set(tmp_path / "mnist")
    for name, array in zip(NAMES[:2], (images, labels), strict=True):
        (folder / name).write_bytes(gzip.compress(idx(array.astype(np.uint8))))
    with pytest.raises(DataError, match=text):
        datasets.mnist(tmp_path)


def test_lookup_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data_dir, then MLPFAST_DATA, then the cache, by default ~/.cache: told apart by their rows."""
    write_set(tmp_path / "cache/mlpfast/mnist", train=1)
    assert len(datasets.mnist().x_train) == 1
    write_set(tmp_path / ".cache/mlpfast/mnist", train=5)
    with monkeypatch.context() as without:
        without.delenv("XDG_CACHE_HOME")
        without.setenv("HOME", str(tmp_path))
        assert len(datasets.mnist().x_train) == 5
    write_set(tmp_path / "env/mnist", train=2)
    monkeypatch.setenv("MLPFAST_DATA", str(tmp_path / "env"))
    assert len(datasets.mnist().x_train) == 2
    write_set(tmp_path / "given/mnist", train=3)
    assert len(datasets.mnist(str(tmp_path / "given")).x_train) == 3


def test_given_folder_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in data_dir must not train on other data."""
    write_set(tmp_path / "env/mnist")
    monkeypatch.setenv("MLPFAST_DATA", str(tmp_path / "env"))
    with pytest.raises(DataError, match="typo") as caught:
        datasets.mnist(tmp_path / "typo")
    assert str(tmp_path / "env") not in str(caught.value)


def test_the_folder_may_be_the_set_itself(tmp_path: Path) -> None:
    """Unless another set gives it its name: all use the same files, digits must not be taken for clothes."""
    assert len(datasets.fashion_mnist(write_set(tmp_path / "anything")).x_train) == 4
    with pytest.raises(DataError, match="fashion-mnist was not found"):
        datasets.fashion_mnist(write_set(tmp_path / "mnist"))


def test_parts_of_two_folders_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete folder is passed over as a whole, and the text says what it lacks."""
    monkeypatch.setenv("MLPFAST_DATA", str(tmp_path / "env"))
    (write_set(tmp_path / "env/mnist", train=2) / NAMES[3]).unlink()
    with pytest.raises(DataError, match=rf"{tmp_path}/env/mnist: lacks {NAMES[3]}\n"):
        datasets.mnist()
    write_set(tmp_path / "cache/mlpfast/mnist", train=1)
    assert len(datasets.mnist().x_train) == 1


def test_text_for_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone offline can act on it alone: every place searched, all URLs, sizes and sha256 in full."""
    monkeypatch.setenv("MLPFAST_DATA", str(tmp_path / "env"))
    with pytest.raises(DataError) as caught:
        datasets.fashion_mnist()
    text = str(caught.value)
    for folder in ("env", "env/fashion-mnist", "cache/mlpfast", "cache/mlpfast/fashion-mnist"):
        assert f"{tmp_path / folder}: no such folder" in text
    for name in NAMES:
        assert f"https://storage.googleapis.com/tensorflow/tf-keras-datasets/{name}\n" in text
    assert "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84" in text
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", text))) == 4
    assert "26421880 bytes" in text and "data_dir" in text and "MLPFAST_DATA" in text


def test_directory_in_a_files_place(tmp_path: Path) -> None:
    """It is found, then refused by name: not reported as missing."""
    folder = write_set(tmp_path / "mnist")
    (folder / NAMES[0]).unlink()
    (folder / NAMES[0]).mkdir()
    for call in (datasets.mnist, lambda where: datasets.verify("mnist", where)):
        with pytest.raises(DataError, match=f"{NAMES[0]}: no such file, or not a regular one"):
            call(tmp_path)


def test_verify_names_what_it_expected_and_found(tmp_path: Path) -> None:
    """The loader takes any sound files; verify tells that these are not the published ones."""
    path = write_set(tmp_path / "mnist") / NAMES[0]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError) as caught:
        datasets.verify("mnist", tmp_path)
    assert str(caught.value) == (
        f"{path}: expected sha256 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 "
        f"(9912422 bytes), found {found} ({path.stat().st_size} bytes)"
    )


def test_verify_needs_the_published_files(tmp_path: Path) -> None:
    """There is no published sha256 of an unpacked file."""
    write_set(tmp_path / "mnist", store=bytes)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: only the published"):
        datasets.verify("mnist", tmp_path)


@pytest.mark.parametrize("name", ["digits", "xor", "kmnist"])
def test_verify_of_something_without_files(name: str) -> None:
    """A wrong argument, not damaged data."""
    with pytest.raises(ValueError, match=f"unknown name '{name}'; known are fashion-mnist, mnist"):
        datasets.verify(name)


# ---- sets without files


def test_xor() -> None:
    """The truth table, once as training and once as test part."""
    data = datasets.xor()
    assert data.x_train.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and data.x_train.dtype == np.float32
    assert data.y_train.tolist() == [a != b for a, b in data.x_train] and data.y_train.dtype == np.int32
    assert data.x_test is data.x_train and data.y_test is data.y_train
    assert (data.class_names, data.input_scale, data.image_shape) == (("0", "1"), 1.0, None)


def test_digits() -> None:
    """The split is the same everywhere: accuracies in the documentation depend on it."""
    pytest.importorskip("sklearn", reason="digits() reads scikit-learn's data")
    data = datasets.digits()
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 64), (360, 64))
    assert data.x_train.dtype == data.x_test.dtype == np.uint8 and data.x_train.flags.c_contiguous
    assert data.y_train.dtype == data.y_test.dtype == np.int32
    assert data.x_train.max() == 16 and data.input_scale == 1 / 16 and data.image_shape == (8, 8)
    assert data.class_names == tuple("0123456789") and set(data.y_train) == set(data.y_test) == set(range(10))
    digest = hashlib.sha256(data.x_train.tobytes() + data.y_train.astype("<i4").tobytes()).hexdigest()
    assert digest == "56c1c2626d569664419e7602f0050059599d4b50eecdd08f2ed6a0ac611bbea5"


def test_digits_without_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'mlpfast\[cli\]'"):
        datasets.digits()


def test_names_for_the_command_line() -> None:
    """They are part of the commands people type."""
    assert list(datasets.DATASETS) == ["digits", "fashion-mnist", "mnist", "xor"]


# ---- the real files

REAL = {"fashion-mnist": (72.94, "Ankle boot"), "mnist": (33.32, "9")}  # mean training pixel, last class


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_real_data(name: str) -> None:
    """The published files, read as their authors describe them."""
    data = datasets.DATASETS[name](DATA)
    mean, last_class = REAL[name]
    assert (data.x_train.shape, data.x_test.shape) == ((60_000, 784), (10_000, 784))
    assert (data.y_train.shape, data.y_test.shape) == ((60_000,), (10_000,))
    assert data.x_train.dtype == np.uint8 and data.y_train.dtype == np.int32
    assert data.x_train.mean() == pytest.approx(mean, abs=0.005)
    assert len(data.class_names) == 10 and data.class_names[-1] == last_class
    if name == "fashion-mnist":
        assert np.bincount(data.y_train).tolist() == [6000] * 10


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_verify_real_data(name: str) -> None:
    """The table of sha256 belongs to the files that people have."""
    datasets.verify(name, DATA)
