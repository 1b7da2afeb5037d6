"""The examples run, reach what they say, and the one by hand gives the native step's weights bit for bit."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import mlpfast
from mlpfast import _cpu

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install 'mlpfast[cli]')")
    return mlpfast.datasets.digits()


def both_ways(x, y, hidden, classes, *, epochs, batch_size, lr=0.1, seed=3):
    """Parameters trained by hand, and by Trainer, from the same start in the same order."""
    scratch, sizes = example("from_scratch"), [x.shape[1], hidden, classes]
    by_hand = scratch.initial(sizes, seed)
    model = mlpfast.MLP(sizes, init="normal:0.01", seed=seed)
    assert all(map(np.array_equal, by_hand, model.parameters))
    scratch.train(
        by_hand,
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        order=lambda rows, epoch: _cpu.shuffled(rows, seed, epoch),
    )
    mlpfast.Trainer(model, mlpfast.SGD(lr)).fit(x, y, epochs=epochs, batch_size=batch_size, seed=seed)
    assert not np.array_equal(model.parameters[0], scratch.initial(sizes, seed)[0])
    return by_hand, model.parameters


@pytest.mark.parametrize(
    ("rows", "features", "hidden", "classes", "batch_size"),
    [
        (300, 65, 33, 3, 64),
        (600, 130, 70, 10, 256),
        (40, 7, 5, 2, 3),
        (5, 3, 1, 2, 1),
        (1500, 20, 16, 4, 1500),
    ],
)
@pytest.mark.parametrize("team", [1, 3])
def test_by_hand_equals_native(isa, threads, team, rng, rows, features, hidden, classes, batch_size):
    x = rng.standard_normal((rows, features), np.float32)
    y = rng.integers(0, classes, rows)
    with threads(team):
        by_hand, native = both_ways(x, y, hidden, classes, epochs=2, batch_size=batch_size)
    for mine, theirs in zip(by_hand, native, strict=True):
        assert np.array_equal(mine, theirs)


def test_by_hand_equals_native_at_full_size(rng):
    x = rng.random((1000, 784), np.float32)
    by_hand, native = both_ways(x, rng.integers(0, 10, 1000), 256, 10, epochs=2, batch_size=256)
    for mine, theirs in zip(by_hand, native, strict=True):
        assert np.array_equal(mine, theirs)


def test_by_hand_equals_native_on_digits(digits):
    x = digits.x_train * np.float32(digits.input_scale)
    by_hand, native = both_ways(x, digits.y_train, 256, 10, epochs=3, batch_size=256)
    for mine, theirs in zip(by_hand, native, strict=True):
        assert np.array_equal(mine, theirs)


def test_from_scratch_falls_back(digits, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLPFAST_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert example("from_scratch").main(epochs=5) > 0.9
    assert "digits instead" in capsys.readouterr().out


def test_xor():
    found = example("xor").main()
    assert list(found) == list(range(10))
    assert all(deep == 1 and flat <= 0.75 for deep, flat in found.values())


@pytest.mark.parametrize("name", ["mnist_sigmoid", "fashion_mnist"])
def test_recipes_learn_digits(digits, name):
    assert example(name).main(epochs=10, data=digits) > 0.85


def test_softmax_regression(digits, capsys):
    totals = example("softmax_regression").main(epochs=10, data=digits)
    assert totals["network"] == totals["regression"] - totals["mended"] + totals["new"]
    assert totals["mended"] > totals["new"]
    table = capsys.readouterr().out.splitlines()
    by_class = np.array([line.split()[1:] for line in table[1:11]], int)
    assert list(by_class.sum(axis=0)) == list(totals.values())


@pytest.mark.slow
@pytest.mark.timeout(1200)  # of the scalar kernels
def test_fashion_mnist_recipe(data_dir):
    assert example("fashion_mnist").main() >= 0.88


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mnist_sigmoid_recipe(data_dir):
    assert example("mnist_sigmoid").main(epochs=20) >= 0.97  # of 30
