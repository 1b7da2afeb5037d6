"""MLP: its answers, copies and weights."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from problems import assert_judges_as_it_predicts, reference_gradients
from tolerances import same_bits, unit

from mlpfast import MLP, kernels


def model_of(*sizes, **options):
    return MLP(sizes, seed=1, **options)


def test_no_rows_have_no_predictions():
    model, x = model_of(3, 4, 2), np.zeros((4, 3), np.float32)[4:]
    assert model.forward(x).shape == model.predict_proba(x).shape == (0, 2)
    assert model.predict(x).shape == (0,)


@pytest.mark.parametrize("rows", [1, 300, 1023, 1024, 1025])
@pytest.mark.parametrize("sizes", [(3, 2), (37, 50, 10), (5, 1, 4)], ids=str)
def test_answers(rows, sizes, dtype, rng, isa):
    """predict, predict_proba and evaluate follow from forward, which is the float64 network's."""
    model = model_of(*sizes, input_scale=0.5, dtype=dtype.__name__)
    x = rng.standard_normal((rows, sizes[0]), dtype)
    y = rng.integers(0, sizes[-1], rows)
    loss, _ = reference_gradients(model, x, y)
    outputs = model.forward(x)
    assert outputs.shape == (rows, sizes[-1]) and outputs.dtype == dtype
    assert same_bits(model.predict(x), outputs.argmax(axis=1))
    assert same_bits(model.predict_proba(x), kernels.softmax(outputs))
    judged = model.evaluate(x, y)
    assert judged == {
        "loss": pytest.approx(loss, rel=300 * unit(dtype)),
        "accuracy": (outputs.argmax(axis=1) == y).mean(),
    }
    assert model.loss_and_gradients(x, y)[0] == pytest.approx(judged["loss"], rel=20 * unit(dtype))


LAYOUTS = {
    "rows apart": lambda x: np.repeat(x, 2, axis=0)[::2],
    "rows that overlap": lambda x: np.lib.stride_tricks.sliding_window_view(x.ravel()[: len(x) + 36], 37),
    "the same row": lambda x: np.broadcast_to(x[0], x.shape),
    "last row first": lambda x: x[::-1],
    "a wider array's columns": lambda x: np.hstack([x, x])[:, 5:42],
}


@pytest.mark.parametrize("rows", [1, 40, 1500])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_features_are_read_where_they_lie(layout, rows, dtype, rng, isa):
    """Those of the other float type are copied."""
    model = model_of(37, 50, 10, input_scale=0.5, dtype=dtype.__name__)
    x, y = layout(rng.integers(-9, 9, (rows, 37)).astype(dtype)), rng.integers(0, 10, rows)
    copied = x.astype(np.float64 if dtype is np.float32 else np.float32)
    assert same_bits(model.forward(x), model.forward(copied))
    assert model.evaluate(x, y) == model.evaluate(copied, y)


@pytest.mark.parametrize("kind", ["i4", "u4", "i8", "u8", "f8", "g"])
def test_features_are_shifted_before_they_are_rounded(kind):
    shift = 2**24 + 1  # which float32 does not hold
    model = MLP([1, 2], input_shift=shift, init="constant:1")
    x = np.arange(shift - (kind[0] != "u"), shift + 4)[:, None].astype(kind)
    assert np.array_equal(model.forward(x)[:, 0], x[:, 0].astype(float) - shift)


@pytest.mark.parametrize("classes", [3, 70])
def test_accuracy_is_that_of_predictions(classes, dtype, isa):
    assert_judges_as_it_predicts(MLP([2, classes], dtype=dtype.__name__))


def test_an_attribute_must_fit_float32():
    model = MLP([1, 2])
    model.input_scale = 1e39
    with pytest.raises(ValueError, match="input_scale is 1e\\+39"):
        model.forward(np.ones((1, 1)))


def test_a_row_is_answered_alike_in_any_company(rng, threads):
    model, x = model_of(37, 200, 10), rng.standard_normal((1100, 37), np.float32)
    with threads(1):
        want = model.forward(x)
    for n in (2, 3, 7):
        with threads(n):
            assert same_bits(model.forward(x), want)
    for i in (0, 1, 549, 550, 1023, 1024, 1099):
        assert same_bits(model.forward(x[i : i + 1]), want[i : i + 1])


def test_very_wide_rows(rng):
    """Fewer at a time."""
    model, x = model_of(40000, 3), rng.standard_normal((430, 40000), np.float32)
    want = np.concatenate([model.forward(x[i : i + 1]) for i in range(len(x))])
    assert same_bits(model.forward(x), want)


def test_equal_outputs_give_the_first_class():
    assert np.array_equal(MLP([3, 4], init="zeros").predict(np.ones((2, 3))), [0, 0])


def test_images_are_flattened(rng):
    model, x = model_of(12, 5), rng.standard_normal((6, 3, 2, 2), np.float32)
    assert same_bits(model.forward(x), model.forward(x.reshape(6, 12)))


def test_nan_is_not_hidden():
    model = model_of(3, 4, 2)
    assert np.isnan(model.forward(np.full((1, 3), np.nan))).all()
    assert np.isnan(model.evaluate(np.full((1, 3), np.nan), [0])["loss"])
    loss, gradients = model.loss_and_gradients(np.full((1, 3), np.nan), [0])
    assert np.isnan(loss) and np.isnan(gradients[-1]).all()


def test_predictions_from_several_python_threads(rng, threads):
    model, x = model_of(50, 120, 10), rng.standard_normal((1500, 50), np.float32)
    want, judged = model.forward(x), model.evaluate(x, np.zeros(1500, int))
    with threads(2), ThreadPoolExecutor(4) as pool:
        for outputs in pool.map(lambda _: model.forward(x), range(16)):
            assert same_bits(outputs, want)
        assert all(r == judged for r in pool.map(lambda _: model.evaluate(x, np.zeros(1500, int)), range(16)))


COPIES = {
    "copy()": MLP.copy,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies_are_independent(duplicate, dtype, rng):
    options = dict(activation=["tanh", "leaky_relu"], input_scale=0.5, input_shift=2, dtype=dtype.__name__)
    model = model_of(3, 4, 5, 2, **options)
    x, twin = rng.standard_normal((9, 3)), duplicate(model)
    want = model.forward(x)
    assert repr(twin) == repr(model) and twin.dtype == model.dtype and same_bits(twin.forward(x), want)
    for p in twin.parameters:
        p[...] = 0
    assert same_bits(model.forward(x), want) and not twin.forward(x).any()
    with model._busy, twin._busy:
        pass


def test_parameters_are_views_of_the_weights_in_use(rng):
    model, x = model_of(3, 4, 2), rng.standard_normal((9, 3))
    for i, p in enumerate(model.parameters):
        before = model.forward(x)
        p[...] += 1
        assert not np.array_equal(model.forward(x), before), i
    before = model.forward(x)
    model.parameters[2] = np.zeros((4, 2))
    model.parameters[3] -= 1
    assert not np.array_equal(before, model.forward(x))
    assert not model.parameters[2].any()
    more = [p + 1 for p in model.parameters[:2]]
    model.parameters[:2] = more
    assert all(map(same_bits, model.parameters[:2], more))
    assert [p.shape for p in model.parameters] == [(3, 4), (4,), (4, 2), (2,)]


def test_the_same_seed_gives_the_same_weights():
    a, b, c = MLP([30, 20, 4], seed=3), MLP([30, 20, 4], seed=np.int64(3)), MLP([30, 20, 4], seed=4)
    assert same_bits(a.parameters[0], b.parameters[0]) and not same_bits(a.parameters[0], c.parameters[0])
    assert not a.parameters[1].any() and not a.parameters[3].any()


def test_summary_names_every_layer():
    lines = MLP([784, 256, 64, 10], activation=["relu", "tanh"]).summary().splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["1", "784", "256", "relu", "200,960"],
        ["2", "256", "64", "tanh", "16,448"],
        ["3", "64", "10", "softmax", "650"],
        ["total,", "float32", "218,058"],
    ]
