"""The float64 reference against central differences."""

import numpy as np
import pytest

from mlpfast.kernels import reference

LOSSES = {
    "plain": {},
    "smoothing": dict(label_smoothing=0.1),
    "ignore": dict(ignore_index=1),
    "class weight": dict(class_weight=[0.5, 2.0, 1.0, 0.25, 3.0]),
    "sample weight": dict(sample_weight=[0.5, 2.0, 0.0, 1.0]),
}
LOSSES["everything"] = {name: value for options in LOSSES.values() for name, value in options.items()}
H = 1e-5


def central_difference(f, x):
    """Gradient of the scalar function f at x, one element at a time."""
    gradient = np.empty_like(x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = H
        gradient[at] = (f(x + step) - f(x - step)) / (2 * H)
    return gradient


def assert_close(got, want):
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activation_gradient(name, rng):
    x = np.concatenate([rng.uniform(0.01, 6, 200), rng.uniform(-6, -0.01, 200)])
    row = reference.ACTIVATIONS[name]
    for alpha in (None,) if row.default_alpha is None else (None, 0.3):
        y = reference.activation(name, x, alpha=alpha)
        slope = (
            reference.activation(name, x + H, alpha=alpha) - reference.activation(name, x - H, alpha=alpha)
        ) / (2 * H)
        saved = x if row.saves == "input" else y
        assert_close(reference.activation_backward(name, np.full_like(x, 2.0), saved, alpha=alpha), 2 * slope)


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_gradient(options, reduction, rng):
    x, y = rng.normal(0, 2, (4, 5)), np.array([1, 4, 0, 3])

    def loss(x):
        return np.sum(reference.softmax_cross_entropy(x, y, reduction=reduction, **options)[0])

    assert_close(
        reference.softmax_cross_entropy(x, y, reduction=reduction, **options)[1], central_difference(loss, x)
    )


def test_conventions():
    """relu(NaN) is NaN, relu'(0) = 0, stable tails, a row of only -inf is NaN, no weight left is 0."""
    assert np.array_equal(reference.relu([np.nan, -1, 0, 2]), [np.nan, 0, 0, 2], equal_nan=True)
    assert np.array_equal(reference.relu_backward([1, 1, np.inf, 5], [0, np.nan, -0.0, 1]), [0, 0, 0, 5])
    assert np.array_equal(reference.activation("sigmoid", [-1e4, 0, 1e4, -np.inf, np.inf]), [0, 0.5, 1, 0, 1])
    assert np.array_equal(reference.activation("tanh", [-1e4, 0, 1e4, -np.inf, np.inf]), [-1, 0, 1, -1, 1])
    assert np.isnan(reference.softmax_cross_entropy(np.full((1, 3), -np.inf), [0])[0])
    assert reference.softmax_cross_entropy([[1e4, -1e4]], [1])[0] == 2e4
    loss, gradient = reference.softmax_cross_entropy(np.ones((2, 3)), [1, 1], ignore_index=1)
    assert loss == 0 and not gradient.any()
