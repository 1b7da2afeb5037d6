"""Initialisers: their distributions, and the names they are found by."""

import numpy as np
import pytest

from mlpfast import MLP
from mlpfast.init import INITIALIZERS, PARAMETRIC, initializer

ROWS, COLS = 300, 200
# name: deviation, smallest and largest value
NORMAL = (-np.inf, np.inf)
LIMIT = (6 / (ROWS + COLS)) ** 0.5
EXPECTED = {
    "he": ((2 / ROWS) ** 0.5, *NORMAL),
    "lecun": ((1 / ROWS) ** 0.5, *NORMAL),
    "xavier": (LIMIT / 3**0.5, -LIMIT, LIMIT),
    "normal:0.01": (0.01, *NORMAL),
    "normal:2": (2.0, *NORMAL),
    "zeros": (0.0, 0.0, 0.0),
    "constant:-1.5": (0.0, -1.5, -1.5),
}


def test_every_initialiser_is_tested():
    assert {name.split(":")[0] for name in EXPECTED} == set(INITIALIZERS) | set(PARAMETRIC)


@pytest.mark.parametrize("name", EXPECTED)
def test_distribution(name, dtype, rng):
    deviation, low, high = EXPECTED[name]
    w = initializer(name)(rng, ROWS, COLS, dtype)
    assert w.shape == (ROWS, COLS) and w.dtype == dtype
    assert w.min() >= dtype(low) and w.max() <= dtype(high)
    assert np.std(w, dtype=np.float64) == pytest.approx(deviation, rel=0.02)
    if deviation:
        mean = deviation / w.size**0.5
        assert abs(w.mean()) < 4 * mean
        for moments in (w.std(axis=0), w.std(axis=1)):  # no row or column is apart
            assert (np.abs(moments / deviation - 1) < 0.3).all()
    if np.isfinite(high) and deviation:  # uniform: the ends are reached, and the middle half holds half
        assert w.max() > 0.999 * high and w.min() < 0.999 * low
        assert (np.abs(w) < high / 2).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_model_uses_it(name, dtype):
    model = MLP([ROWS, COLS, 3], init=name, seed=5, dtype=dtype.__name__)
    rng = np.random.default_rng(5)
    for w, b in zip(model.parameters[::2], model.parameters[1::2], strict=True):
        assert np.array_equal(w, initializer(name)(rng, *w.shape, dtype)) and not b.any()


def test_draws_that_overflow_the_dtype():
    with pytest.raises(ValueError, match=r"^MLP: init is 'normal:3e\+38'; it must be .* float32"):
        MLP([ROWS, COLS], init="normal:3e38")
    assert np.isfinite(MLP([ROWS, COLS], init="normal:3e38", dtype="float64").parameters[0]).all()
