"""relu and every activation, forward and backward: values, tails, special values, identities."""

import numpy as np
import pytest
from tolerances import U, assert_within, same_bits

from mlpfast import kernels
from mlpfast.kernels import reference

NAMES = pytest.mark.parametrize("name", kernels.ACTIVATIONS)
LENGTHS = [0, 1, 2, 5, 7, 8, 9, 13, 15, 16, 17, 28, 29, 31, 32, 33, 48, 63, 64, 65, 100, 1023]
SHAPES = [(), (1,), (0, 3), (3, 0, 2), (5, 7), (2, 3, 5, 7)]
MAGNITUDES = [0.0, 1e-45, 2.0**-126, 1e-4, 1.0, 9.01, 16.6355, 88.0, 88.8, 104.0, 3.4e38, np.inf]
SPECIAL = np.array(
    [np.nan, *(sign * x for x in MAGNITUDES for sign in (1, -1))],
    np.float32,
)


def sweep():
    """Float32 numbers of every exponent and a dense range around zero."""
    dense = np.linspace(-20, 20, 20001)
    every = np.geomspace(1e-40, 3e38, 4001)
    return np.concatenate([dense, every, -every]).astype(np.float32)


def assert_forward(name, x, **alpha):
    want = reference.activation(name, x, **alpha)
    assert_within(kernels.activation(name, x, **alpha), want, name)


def assert_backward(name, dy, saved, **alpha):
    want = reference.activation_backward(name, dy, saved, **alpha)
    got = kernels.activation_backward(name, dy, saved, **alpha)
    assert_within(got, want, "activation_backward", dy=dy)


def test_the_lists_agree():
    assert set(kernels.ACTIVATIONS) == set(reference.ACTIVATIONS)
    for name, (saves, has_alpha, default_alpha) in kernels.ACTIVATIONS.items():
        row = reference.ACTIVATIONS[name]
        assert (saves, has_alpha) == (row.saves, row.default_alpha is not None)
        assert not has_alpha or default_alpha == pytest.approx(row.default_alpha, rel=U)


@NAMES
def test_values(name, isa, rng):
    x = sweep()
    assert_forward(name, x)
    saved = x if kernels.ACTIVATIONS[name][0] == "input" else kernels.activation(name, x)
    assert_backward(name, rng.standard_normal(x.shape, np.float32), saved)


@NAMES
@pytest.mark.parametrize("n", LENGTHS)
def test_every_length(name, n, isa, rng):
    x, dy = rng.standard_normal((2, n), np.float32)
    assert_forward(name, x)
    assert_backward(name, dy, x)


@NAMES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(name, shape, isa, rng):
    x, dy = rng.standard_normal((2, *shape), np.float32)
    assert_forward(name, np.asarray(x))
    assert_backward(name, np.asarray(dy), np.asarray(x))


@NAMES
def test_special_values_in_every_lane(name, isa):
    for shift in range(len(SPECIAL)):
        x = np.roll(SPECIAL, shift)
        assert_forward(name, x)
        if name in ("identity", "relu", "leaky_relu"):  # the others save finite outputs
            assert_backward(name, np.ones_like(x), x)
            assert_backward(name, x, np.ones_like(x))
            assert_backward(name, x, -np.ones_like(x))


@NAMES
def test_nan_passes_through(name, isa):
    x = np.full(37, np.nan, np.float32)
    assert np.isnan(kernels.activation(name, x)).all()
    assert np.isnan(kernels.activation_backward(name, x, np.full_like(x, 0.5))).all()


def test_relu_is_the_activation(isa, rng):
    x, dy = np.concatenate([SPECIAL, sweep()]), rng.standard_normal(len(SPECIAL) + len(sweep()), np.float32)
    y = kernels.relu(x)
    assert same_bits(y, kernels.activation("relu", x))
    assert same_bits(kernels.relu_backward(dy, y), kernels.activation_backward("relu", dy, y))
    assert same_bits(kernels.relu_backward(dy, y), np.where(y > 0, dy, np.float32(0)))


def test_relu_at_zero_and_nan(isa):
    x = np.array([np.nan, 0.0, -0.0, -1.0, 2.0], np.float32)
    assert np.array_equal(kernels.relu(x), np.array([np.nan, 0, 0, 0, 2], np.float32), equal_nan=True)
    assert np.array_equal(kernels.relu_backward(np.ones_like(x), x), [0, 0, 0, 0, 1])
    infinite = np.full_like(x, np.inf)
    assert np.array_equal(kernels.relu_backward(infinite, x), [0, 0, 0, 0, np.inf])


def test_identity_keeps_the_bits_in_a_new_array(isa):
    got = kernels.activation("identity", SPECIAL)
    assert same_bits(got, SPECIAL)
    assert not np.may_share_memory(got, SPECIAL)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0, -0.5])
def test_leaky_relu_takes_its_slope(alpha, isa, rng):
    x, dy = rng.standard_normal((2, 1023), np.float32)
    assert_forward("leaky_relu", x, alpha=alpha)
    assert_backward("leaky_relu", dy, x, alpha=alpha)


def test_sigmoid_and_tanh_identities(isa):
    x = sweep() / 2
    tanh, sigmoid = kernels.activation("tanh", x), kernels.activation("sigmoid", x)
    assert np.abs(tanh.astype(np.float64) + 1 - 2.0 * kernels.activation("sigmoid", 2 * x)).max() <= 12 * U
    assert np.abs(sigmoid.astype(np.float64) + kernels.activation("sigmoid", -x) - 1).max() <= 8 * U
    assert np.array_equal(kernels.activation("tanh", -x), -tanh)
    assert (np.abs(tanh) <= 1).all() and (sigmoid >= 0).all() and (sigmoid <= 1).all()
    limits = np.array([-np.inf, -0.0, 0.0, np.inf], np.float32)
    assert np.array_equal(kernels.activation("tanh", limits), [-1, 0, 0, 1])
    assert np.array_equal(kernels.activation("sigmoid", limits), [0, 0.5, 0.5, 1])
