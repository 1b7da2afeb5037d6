"""Training, evaluation and prediction on a GPU are the CPU's at "ieee", to the bit, whatever the shapes."""

import types
from pathlib import Path

import numpy as np
import pytest
from problems import assert_judges_as_it_predicts, pair
from tolerances import assert_same, same_bits

import mlpfast
from mlpfast import SGD, Trainer
from mlpfast.kernels import ACTIVATIONS

SIZES = [(7, 3), (37, 50, 10), (33, 130, 1, 5), (100, 40, 70, 17)]


def examples(rng, rows, model, kind=np.float32):
    x = rng.integers(0, 256, (rows, model.sizes[0])).astype(kind)
    return x if kind is np.uint8 else x / 100, rng.integers(0, model.sizes[-1], rows)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_training(sizes, kind, cuda, rng):
    """Two epochs, with a last batch of other size, momentum and weight decay."""
    models = pair(sizes, input_scale=1 / 255, input_shift=3)
    x, y = examples(rng, 150, models[0], kind)
    histories = [
        Trainer(m, SGD(0.1, momentum=0.9, weight_decay=1e-3)).fit(
            x, y, epochs=2, batch_size=64, validation_data=(x[:50], y[:50])
        )
        for m in models
    ]
    assert_same(*(m.parameters for m in models))
    for got, want in zip(*(h.epochs for h in histories), strict=True):
        for record in (got, want):
            record.pop("seconds")
        assert got["train_loss"] == pytest.approx(want.pop("train_loss"), rel=1e-15)
        got.pop("train_loss")
        assert got == want


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name, cuda, rng):
    models = pair((20, 30, 4), activation=name)
    x, y = examples(rng, 70, models[0])
    for m in models:
        Trainer(m, SGD(0.1)).fit(x, y, epochs=1, batch_size=70)
    assert_same(*(m.parameters for m in models))


@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
@pytest.mark.parametrize("fused", [True, False])
def test_weights_and_stored_gradients(weights, fused, cuda, rng):
    models = pair((20, 30, 4))
    x, y = examples(rng, 70, models[0])
    options = {weights: rng.random(70 if weights == "sample_weight" else 4)}
    for m in models:
        trainer = Trainer(m, SGD(0.1, nesterov=True, momentum=0.5))
        trainer.fused = fused
        trainer.fit(x, y, epochs=2, batch_size=32, shuffle=False, drop_last=True, **options)
    assert_same(*(m.parameters for m in models))


def test_weights_that_do_not_add_up_exactly(cuda, rng):
    """More than a block of threads adds at a time; the order shows in the sum."""
    models = pair((4, 3))
    x, y = examples(rng, 600, models[0])
    weights = rng.random(600) * 10.0 ** rng.integers(-20, 20, 600)
    trainers = [Trainer(m, SGD(1e-3)) for m in models]
    for trainer in trainers:
        options = dict(sample_weight=weights.clip(0, 1e20), class_weight=[0.1] * 3)
        trainer.fit(x, y, epochs=1, batch_size=599, **options)
    assert_same(*(m.parameters for m in models))
    assert trainers[0]._progress[3] == trainers[1]._progress[3]  # the sum of weights


def test_large_tiles(cuda, rng):
    """Products of 128 blocks of 64 x 64, and of 128 x 128; rows that end within a tile."""
    models = pair((9, 1024 + 40, 3))
    for rows in (500, 2060):
        x, _ = examples(rng, rows, models[0])
        assert same_bits(*(m.forward(x) for m in models))


def test_predictions_and_gradients(cuda, rng):
    models = pair((37, 50, 10), activation="tanh")
    x, y = examples(rng, 200, models[0])
    assert same_bits(*(m.forward(x) for m in models))
    assert same_bits(*(m.predict_proba(x[:0]) for m in models))
    assert models[0].evaluate(x, y) == models[1].evaluate(x, y)
    (loss, got), (other, want) = (m.loss_and_gradients(x, y) for m in models)
    assert loss == other
    for a, b in zip(got, want, strict=True):
        assert same_bits(a, b)


def test_many_classes(cuda, rng):
    """A row that does not fit registers is read again for its first largest logit."""
    models = pair((3, 33000))
    x, y = examples(rng, 5, models[0])
    y[:3] = models[1].predict(x[:3])
    got, want = (m.evaluate(x, y) for m in models)
    assert got["accuracy"] == want["accuracy"] >= 0.6
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-5)


def test_special_values(cuda):
    """-0, subnormal numbers, infinities and NaN."""
    models = pair((5, 6, 2), activation="leaky_relu")
    values = np.array([-0.0, 1e-45, -1e-40, 3e38, np.inf, -np.inf, np.nan, 1], np.float32)
    x = np.array([np.roll(values, i)[:5] for i in range(8)])
    for m in models:
        m.parameters[0][:, 0] = -0.0
        m.parameters[0][:, 1] = 1e-40
    got, want = (m.forward(x) for m in models)
    assert np.array_equal(got, want, equal_nan=True)
    assert same_bits(np.signbit(got[~np.isnan(got)]), np.signbit(want[~np.isnan(want)]))


@pytest.mark.parametrize("classes", [10, 700, 1200])
def test_accuracy_is_that_of_predictions(classes, cuda):
    assert_judges_as_it_predicts(mlpfast.MLP([2, classes], device="cuda"))


def test_a_sum_that_underflows_keeps_its_sign(cuda):
    """Were k filled up with zeros, -0 would become 0."""
    models = pair((5, 3), init="constant:-0.25")
    for m in models:
        m.parameters[1][:] = -0.0
        outputs = m.forward([[1e-45, 0, 0, 0, 0]])
        assert np.all(outputs == 0) and np.all(np.signbit(outputs))


def test_a_loss_that_is_not_finite(cuda, rng):
    """Weights are those before the step, the metrics those of the epoch so far; another fit may follow."""
    models = pair((20, 30, 4))
    x, y = examples(rng, 90, models[0])
    x[60] = np.nan
    said = []
    for m in models:
        with pytest.raises(mlpfast.DivergenceError) as error:
            Trainer(m, SGD(0.1)).fit(x, y, epochs=3, batch_size=20, shuffle=False)
        said.append(str(error.value))
        Trainer(m, SGD(0.1)).fit(x[:60], y[:60], epochs=1, batch_size=20)
    assert said[0] == said[1] and "epoch 1, step 4" in said[0]
    assert_same(*(m.parameters for m in models))


def test_training_goes_on_where_it_stopped(cuda, rng, monkeypatch):
    """In native calls of no length, and in a second fit."""
    monkeypatch.setattr("mlpfast.trainer.SECONDS_PER_CALL", 0.0)
    models = pair((5, 6, 2))
    x, y = examples(rng, 200, models[0])
    for m in models:
        trainer = Trainer(m, SGD(0.1, momentum=0.9))
        for _ in range(2):
            trainer.fit(x, y, epochs=1, batch_size=1)
    assert_same(*(m.parameters for m in models))


def test_by_hand_equals_native(cuda, rng):
    """examples/from_scratch.py on arrays of the GPU: the weights of a fit, bit for bit."""
    path = Path(__file__).parents[2] / "examples" / "from_scratch.py"
    scratch = types.ModuleType("from_scratch")
    exec(path.read_text(encoding="utf-8"), scratch.__dict__)
    x, y, gpu = rng.random((300, 200), np.float32), rng.integers(0, 7, 300), mlpfast.cuda.from_numpy
    model = mlpfast.MLP((200, 50, 7), seed=1, device="cuda")
    by_hand, losses = [gpu(p) for p in model.parameters], []
    for _ in range(3):
        for rows in (slice(0, 128), slice(128, 256), slice(256, 300)):
            loss = scratch.step(by_hand, gpu(x[rows]), gpu(y[rows]), 0.1)
            losses.append(float(loss) * len(y[rows]) / len(y))
    history = Trainer(model, SGD(0.1)).fit(x, y, epochs=3, batch_size=128, shuffle=False)
    assert_same([p.numpy() for p in by_hand], model.parameters)
    trained = [sum(losses[i : i + 3]) for i in (0, 3, 6)]
    assert [e["train_loss"] for e in history.epochs] == pytest.approx(trained, rel=1e-6)


def test_recorded_steps(cuda, rng):
    """From the second epoch on steps are replayed: with another rate, order and batch size, in both modes."""
    models = pair((5, 6, 2))
    x, y = examples(rng, 90, models[0])
    for m in models:
        trainer = Trainer(m, SGD(0.1, momentum=0.9))

        def slow_down(trainer, record):
            trainer.optimizer.lr /= 2

        trainer.fit(x, y, epochs=4, batch_size=20, callbacks=[slow_down])
        trainer.fused = False
        trainer.fit(x, y, epochs=3, batch_size=7, shuffle=False, drop_last=True)
    assert_same(*(m.parameters for m in models))


def test_weights_may_be_written_between_calls(cuda, rng):
    models = pair((5, 6, 2))
    x, y = examples(rng, 40, models[0])

    def freeze(trainer, record):
        trainer.model.parameters[1][:] = 1

    for m in models:
        Trainer(m, SGD(0.1)).fit(x, y, epochs=2, batch_size=8, callbacks=[freeze])
        assert np.all(m.parameters[1] == 1)
    assert_same(*(m.parameters for m in models))


def test_what_a_callback_may_change(cuda, rng):
    """The scale of the inputs, from then on; the examples' shape, which is refused."""
    models = pair((6, 4, 3))
    x, y = examples(rng, 40, models[0])

    def rescale(trainer, record):
        trainer.model.input_scale, trainer.model.input_shift = 0.5, record["epoch"]

    def reshape(trainer, record):
        x.resize((80, 3), refcheck=False)

    for m in models:
        Trainer(m, SGD(0.1)).fit(x, y, epochs=4, batch_size=8, callbacks=[rescale])
        with pytest.raises(ValueError, match="x has shape"):
            Trainer(m, SGD(0.1)).fit(x, y, epochs=2, batch_size=8, callbacks=[reshape])
        x.resize((40, 6), refcheck=False)
    assert_same(*(m.parameters for m in models))


@pytest.mark.parametrize("kind", [bool, np.int16, np.int64, np.float64, ">f4"])
def test_features_of_other_dtypes(kind, cuda, rng):
    models = pair((5, 6, 2))
    x = rng.integers(0, 2, (9, 10)).astype(kind)[:, ::2]
    assert same_bits(*(m.forward(x) for m in models))


def test_features_beyond_float32(cuda):
    models = pair((2, 3))
    assert same_bits(*(m.forward(np.array([[1e300, 0.0]])) for m in models))


def test_fashion_mnist(cuda, data_dir):
    """The course's network on its real images: the CPU's weights, bit for bit, and so its losses."""
    data = mlpfast.datasets.fashion_mnist(data_dir)
    x, y, held_out = data.x_train[:700], data.y_train[:700], (data.x_test[:300], data.y_test[:300])
    models = pair((784, 256, 10), input_scale=data.input_scale)
    histories = [
        Trainer(m, SGD(0.1)).fit(x, y, epochs=2, batch_size=256, validation_data=held_out) for m in models
    ]
    assert_same(*(m.parameters for m in models))
    for got, want in zip(*(h.epochs for h in histories), strict=True):
        assert got["train_loss"] == pytest.approx(want["train_loss"], rel=1e-14)
        assert all(got[key] == want[key] for key in ("train_accuracy", "val_loss", "val_accuracy"))


def test_all_of_fashion_mnist(cuda, data_dir):
    """At the default level losses within 1e-3 of the CPU's after every epoch."""
    if cuda == "shim":
        pytest.skip("takes a quarter of an hour on the CPU that plays a GPU")
    data = mlpfast.datasets.fashion_mnist(data_dir)
    histories = []
    for device in ("cuda", "cpu"):
        model = mlpfast.MLP((784, 256, 10), input_scale=data.input_scale, init="normal:0.01", device=device)
        histories.append(Trainer(model, SGD(0.1)).fit(data.x_train, data.y_train, epochs=10, batch_size=256))
    for got, want in zip(*(h.epochs for h in histories), strict=True):
        assert got["train_loss"] == pytest.approx(want["train_loss"], abs=1e-3)
