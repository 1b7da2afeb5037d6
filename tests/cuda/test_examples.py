"""Examples on the GPU are used where they lie, those that do not fit come in chunks: with the CPU's bits."""

import sys

import numpy as np
import pytest
from problems import pair
from tolerances import assert_same, same_bits

import mlpfast
from mlpfast import MLP, SGD, Trainer

ROWS = 150


@pytest.fixture(params=[np.uint8, np.float32, bool], ids=lambda kind: kind.__name__)
def examples(request, rng):
    return rng.integers(0, 256, (ROWS, 37)).astype(request.param), rng.integers(0, 5, ROWS)


def test_on_the_device(examples, cuda):
    x, y = examples
    gpu = mlpfast.cuda.from_numpy
    models = pair((37, 20, 5), input_scale=1 / 255, input_shift=3)
    for m, given in zip(models, ((gpu(x), gpu(y)), (x, y)), strict=True):
        history = Trainer(m, SGD(0.1)).fit(*given, epochs=2, batch_size=64, validation_data=given)
        assert len(history.epochs) == 2
    assert_same(*(m.parameters for m in models))
    on_gpu, on_cpu = models
    for ask in ("forward", "predict", "predict_proba"):
        got = getattr(on_gpu, ask)(gpu(x))
        assert type(got).__name__ == "DeviceArray"
        assert np.array_equal(got.numpy(), getattr(on_cpu, ask)(x))
    assert on_gpu.evaluate(gpu(x), y) == on_cpu.evaluate(x, y)
    (loss, got), (other, want) = (
        on_gpu.loss_and_gradients(gpu(x), gpu(y)),
        on_cpu.loss_and_gradients(x, y),
    )
    assert loss == other and all(map(same_bits, got, want))


def test_images_are_flattened(cuda, rng):
    models, x = pair((12, 5)), rng.random((4, 3, 4), np.float32)
    assert same_bits(models[0].forward(mlpfast.cuda.from_numpy(x)).numpy(), models[1].forward(x))
    assert models[0].forward(mlpfast.cuda.from_numpy(x[:0])).shape == (0, 5)


def test_classes_of_special_numbers(cuda):
    """NumPy's argmax: the first of equal ones, 0 and -0 among them; NaN is largest."""
    nan, inf = np.nan, np.inf
    rows = [
        [1, 3, 3, 2],
        [-0.0, 0.0, 0, -0.0],
        [-5, -3, -4, -3],
        [0, nan, inf, nan],
        [-inf] * 4,
        [0, 0, 0, 1e-45],
    ]
    z = np.array(rows, np.float32)
    classes = sys.modules["mlpfast._cuda"].classify(mlpfast.cuda.from_numpy(z)).numpy()
    assert np.array_equal(classes, z.argmax(axis=1)) and classes.dtype == np.int64


def test_what_cannot_be(cuda, rng):
    x = rng.random((4, 3))
    gpu = mlpfast.cuda.from_numpy
    model = MLP((3, 2), device="cuda")
    with pytest.raises(TypeError, match="x has dtype float64; on a GPU it must be float32, uint8 or bool"):
        model.forward(gpu(x))
    with pytest.raises(ValueError, match="x has 4 features a row, the model takes 3"):
        model.forward(gpu(x.T.astype(np.float32)))
    with pytest.raises(ValueError, match=r"y\[1\] is 2, outside 0 .. 1"):
        model.evaluate(gpu(x.astype(np.float32)), gpu([0, 2, 0, 0]))
    with pytest.raises(ValueError, match="x lies on a GPU, the model computes on the CPU"):
        MLP((3, 2)).forward(gpu(x.astype(np.float32)))


@pytest.fixture
def little_memory(limit_memory):
    """Of which the examples would take more than half."""
    limit_memory(2 * ROWS * 37 - 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", [{}, dict(shuffle=False, drop_last=True)], ids=str)
def test_more_than_fits(weighted, options, examples, little_memory, rng):
    x, y = examples
    models = pair((37, 2, 5), input_scale=1 / 255)
    weights = dict(sample_weight=rng.random(ROWS), class_weight=rng.random(5)) if weighted else {}
    losses = []
    for m in models:
        trainer = Trainer(m, SGD(0.1, momentum=0.9))
        history = trainer.fit(x, y, epochs=3, batch_size=13, validation_data=(x, y), **weights, **options)
        trainer.fused = False
        trainer.fit(x, y, epochs=1, batch_size=13, **weights, **options)
        losses.append([record["train_loss"] for record in history.epochs])
    assert_same(*(m.parameters for m in models))
    assert losses[0] == pytest.approx(losses[1], rel=1e-14)
    assert same_bits(*(m.forward(x) for m in models))


def test_interrupted_feeding(little_memory, rng, monkeypatch):
    """Calls of no length: each goes on where the last one stopped."""
    monkeypatch.setattr("mlpfast.trainer.SECONDS_PER_CALL", 0.0)
    models = pair((37, 2, 5))
    x, y = rng.random((ROWS, 37), np.float32), rng.integers(0, 5, ROWS)
    x[140] = np.nan
    for m in models:
        Trainer(m, SGD(0.1)).fit(x[:140], y[:140], epochs=2, batch_size=10)
        with pytest.raises(mlpfast.DivergenceError, match="epoch 1, step 15"):
            Trainer(m, SGD(0.1)).fit(x, y, epochs=2, batch_size=10, shuffle=False)
    assert_same(*(m.parameters for m in models))
