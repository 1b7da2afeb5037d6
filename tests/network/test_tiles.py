"""Training by tiles: same bits for any team and form of features, near "ieee", numbers that do not fit."""

import numpy as np
import pytest
from tolerances import TILE_ISAS, assert_same, same_bits, skip_what_amx_does

import mlpfast
from mlpfast import _cpu, kernels

SIZES = (150, 160, 130, 10)  # every product but those of the last layer is worth splitting
ROWS, BATCH = 300, 140  # the last batch of 20 rows is not


def examples(rng):
    return rng.integers(0, 256, (ROWS, SIZES[0]), np.uint8), rng.integers(0, SIZES[-1], ROWS)


def trained(x, y, *, sizes=SIZES, first=None, sample_weight=None, batch_size=BATCH, **options):
    """Parameters and history after two epochs; `first` prepares the model."""
    model = mlpfast.MLP(sizes, input_scale=1 / 255, seed=3, **options)
    if first:
        first(model)
    history = mlpfast.Trainer(model, mlpfast.SGD(0.1, momentum=0.9)).fit(
        x, y, epochs=2, batch_size=batch_size, sample_weight=sample_weight
    )
    return [*model.parameters, np.array([record["train_loss"] for record in history.epochs])]


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_same_bits_for_any_number_of_threads(kind, precision, tiles, threads, rng):
    x, y = examples(rng)
    x = x.astype(kind) / 3 if kind is np.float32 else x
    with threads(1):
        want = trained(x, y, precision=precision)
    for n in (2, 3, 5, 8) if tiles == "amx" else (3,):
        with threads(n):
            assert_same(trained(x, y, precision=precision), want)


@pytest.mark.parametrize("sizes", [(140, 600, 150, 3), (150, 130, 600, 3), (32, 600, 100, 2)], ids=str)
def test_same_bits_in_slabs(sizes, tiles, threads, rng):
    """Three slabs of one thread, two of two, one of three; in the last network only gradients take tiles."""
    skip_what_amx_does(tiles)
    rows = 1000
    x, y = rng.standard_normal((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)
    options = dict(sizes=sizes, batch_size=rows, precision="medium")
    with threads(1):
        want = trained(x, y, **options)
    for n in (2, 3):
        with threads(n):
            assert_same(trained(x, y, **options), want)


def test_integers(tiles, threads, rng):
    """Large enough a network for "highest" to split floats: same bits for any team, near "ieee"."""
    skip_what_amx_does(tiles)
    rows, sizes = 600, (400, 700, 620, 3)
    x, y = rng.random((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)
    options = dict(sizes=sizes, batch_size=rows, activation="tanh")  # no kink for a rounding to cross
    before = _cpu.tile_fallbacks()
    with threads(1):
        want = trained(x, y, **options)
    assert _cpu.tile_fallbacks() == before
    for n in (2, 3, 5, 8):
        with threads(n):
            assert_same(trained(x, y, **options), want)
    ieee = trained(x, y, precision="ieee", **options)
    assert not same_bits(want[-1], ieee[-1])
    assert max(np.abs(a - b).max() for a, b in zip(want, ieee, strict=True)) < 1e-6


@pytest.mark.parametrize("shift", [0.0, 128.0, 0.5])
def test_bytes_are_the_numbers_they_stand_for(shift, tiles, rng):
    x, y = examples(rng)
    options = dict(sizes=(150, 160, 10), input_shift=shift)
    for precision, bound in (("highest", 1e-5), ("medium", 1e-2)):
        got = trained(x, y, precision=precision, **options)
        want = trained(x.astype(np.float32), y, precision="ieee", **options)
        assert not same_bits(got[-1], want[-1])
        assert max(np.abs(a - b).max() for a, b in zip(got, want, strict=True)) < bound


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize(("sizes", "rows"), [(SIZES, 140), ((150, 600, 130, 3), 1000)], ids=str)
def test_a_step_is_its_products(precision, sizes, rows, tiles, rng):
    """Rows split once for two products: their bits, whether strips need scales or not; in slabs."""
    x = rng.standard_normal((rows, sizes[0]), np.float32)
    x[41] *= np.float32(2.0**-125)  # seen by what relu lets through
    x[:, 101] *= np.float32(2.0**-120)
    x[:, 102] = 0
    x[33, 102] = 2.0**-120  # in one block of rows
    y = rng.integers(0, sizes[-1], rows)
    model = mlpfast.MLP(sizes, precision=precision, init="he", seed=1)
    w1, b1, w2, b2, w3, b3 = model.parameters

    def gemm(a, b, **transposes):
        return kernels.gemm(a, b, precision=precision, **transposes)

    h1 = kernels.linear(x, w1, b1, activation="relu", precision=precision)
    h2 = kernels.linear(h1, w2, b2, activation="relu", precision=precision)
    loss, d3 = kernels.softmax_cross_entropy(kernels.linear(h2, w3, b3, precision=precision), y)
    d2 = kernels.relu_backward(gemm(d3, w3, transpose_b=True), h2)
    d1 = kernels.relu_backward(gemm(d2, w2, transpose_b=True), h1)
    want = []
    for a, d in ((x, d1), (h1, d2), (h2, d3)):
        want += [gemm(a, d, transpose_a=True), kernels.bias_add_backward(d)]
    got_loss, gradients = model.loss_and_gradients(x, y)
    assert got_loss == pytest.approx(loss, rel=1e-6)
    assert_same(gradients, want)


def test_the_tiles_of_this_machine_are_those_emulated(use_isa, rng):
    if "amx" not in TILE_ISAS:
        pytest.skip("this machine has no AMX")
    x, y = examples(rng)
    with use_isa("amx_emulated"):
        want = trained(x, y)
    with use_isa("amx"):
        assert_same(trained(x, y), want)


def test_near_ieee(tiles, rng):
    x, y = examples(rng)
    before = _cpu.tile_fallbacks()
    losses = {p: trained(x, y, precision=p)[-1] for p in ("ieee", "highest", "high", "medium")}
    assert _cpu.tile_fallbacks() == before
    assert not same_bits(losses["highest"], losses["ieee"])  # tiles did compute it
    for precision, bound in (("highest", 1e-5), ("high", 1e-4), ("medium", 3e-2)):
        assert np.abs(losses[precision] - losses["ieee"]).max() < bound


def test_predictions(tiles, threads, rng):
    """A chunk of rows, and one of too few rows for tiles."""
    x, y = rng.integers(0, 256, (1024 + 40, SIZES[0]), np.uint8), rng.integers(0, SIZES[-1], 1024 + 40)
    model = mlpfast.MLP(SIZES, input_scale=1 / 255)
    ieee = mlpfast.MLP(SIZES, input_scale=1 / 255, precision="ieee")
    outputs, want, judged = model.forward(x), ieee.forward(x), model.evaluate(x, y)
    assert not same_bits(outputs[:1024], want[:1024]) and np.abs(outputs - want).max() < 1e-5
    assert same_bits(outputs[1024:], want[1024:])
    for n in (1, 2, 3, 5):
        with threads(n):
            assert same_bits(model.forward(x), outputs) and model.evaluate(x, y) == judged


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_weights_that_are_not_finite(kind, tiles, rng):
    x, y = examples(rng)
    x = x.astype(kind)
    model, ieee = (mlpfast.MLP(SIZES, input_scale=1 / 255, precision=p) for p in ("high", "ieee"))
    for m in (model, ieee):
        m.parameters[0][5, 7] = np.inf
        m.parameters[4][:] = 0
        m.parameters[4][7 % 130, 2] = np.nan
    got, want = model.forward(x), ieee.forward(x)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    with pytest.raises(mlpfast.DivergenceError):
        mlpfast.Trainer(model, mlpfast.SGD(0.1)).fit(x, y, epochs=1, batch_size=BATCH)


@pytest.mark.parametrize("weight", [0, 1e-6, 1e-30])
def test_gradients_far_apart(weight, tiles, rng):
    """One example counts more than all others; digits hold it."""
    x, y = examples(rng)
    weights = np.full(ROWS, weight, np.float32)
    weights[77] = 1
    options = dict(activation="leaky_relu", sample_weight=weights, batch_size=ROWS)
    before = _cpu.tile_fallbacks()
    got = trained(x, y, **options)
    assert _cpu.tile_fallbacks() == before
    want = trained(x, y, precision="ieee", **options)
    assert all(np.abs(a - b).max() < 1e-5 for a, b in zip(got, want, strict=True))


def test_a_feature_far_above_the_others(tiles, rng):
    """What the others say must not drown in its rounding."""
    x = rng.standard_normal((600, 400), np.float32)
    models = [mlpfast.MLP((400, 512, 10), precision=precision) for precision in ("highest", "ieee")]
    for factor in (1e2, 1e4, 1e6):
        x[:, 5] *= np.float32(factor)
        for model in models:
            model.parameters[0][5] /= np.float32(factor)
        got, want = (model.forward(x) for model in models)
        assert np.abs(got - want).max() < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_integers_of_images(name, tiles, data_dir):
    """Pixels of which some are nearly always 0: no block falls back, from the first epoch to the last."""
    skip_what_amx_does(tiles)
    rows, last = (20_000, 12) if tiles == "amx" else (2048, 2)  # the emulator is thousands of times slower
    data = getattr(mlpfast.datasets, name)(data_dir)
    x, y, before, losses = (
        data.x_train[:rows].astype(np.float32),
        data.y_train[:rows],
        _cpu.tile_fallbacks(),
        {},
    )
    for precision, epochs in (("ieee", 1), ("highest", last)):
        model = mlpfast.MLP((784, 512, 512, 10), input_scale=data.input_scale, precision=precision)
        history = mlpfast.Trainer(model, mlpfast.SGD(0.03)).fit(x, y, epochs=epochs, batch_size=512)
        losses[precision] = [record["train_loss"] for record in history.epochs]
    assert _cpu.tile_fallbacks() == before
    assert 0 < abs(losses["highest"][0] - losses["ieee"][0]) <= 1e-4
    assert losses["highest"][-1] < (0.5 if tiles == "amx" else 1) * losses["highest"][0]


def test_a_batch_too_large_for_tiles_and_a_smaller_last_one(tiles, rng):
    skip_what_amx_does(tiles)
    x, y = rng.integers(0, 256, (40_000, 130), np.uint8), rng.integers(0, 10, 40_000)
    options = dict(sizes=(130, 128, 10), batch_size=33_000)
    got = trained(x, y, **options)
    want = trained(x, y, precision="ieee", **options)
    assert all(np.abs(a - b).max() < 1e-4 for a, b in zip(got, want, strict=True))


@pytest.mark.slow
def test_fashion_mnist(tiles, data_dir):
    """An epoch in which no block falls back to FMAs, beside one at "ieee"."""
    skip_what_amx_does(tiles)
    data = mlpfast.datasets.fashion_mnist(data_dir)
    rows, before = 60_000 if tiles == "amx" else 6000, _cpu.tile_fallbacks()
    losses = {}
    for precision in ("ieee", "highest", "medium"):
        model = mlpfast.MLP((784, 256, 10), input_scale=data.input_scale, precision=precision)
        history = mlpfast.Trainer(model, mlpfast.SGD(0.1)).fit(
            data.x_train[:rows], data.y_train[:rows], epochs=1, batch_size=256
        )
        losses[precision] = history.epochs[0]["train_loss"]
    assert _cpu.tile_fallbacks() == before
    assert 0 < abs(losses["highest"] - losses["ieee"]) <= 1e-4
    assert abs(losses["medium"] - losses["ieee"]) <= 1e-2
