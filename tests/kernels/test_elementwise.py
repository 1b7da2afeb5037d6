"""relu and every activation, forward and backward: values, tails, special values, identities."""

import numpy as np
import pytest
from tolerances import U, assert_within, same_bits, unit

from mlpfast import kernels
from mlpfast.kernels import reference

NAMES = pytest.mark.parametrize("name", kernels.ACTIVATIONS)
LENGTHS = [0, 1, 2, 5, 7, 8, 9, 13, 15, 16, 17, 28, 29, 31, 32, 33, 48, 63, 64, 65, 100, 1023]
SHAPES = [(), (1,), (0, 3), (3, 0, 2), (5, 7), (2, 3, 5, 7)]
MAGNITUDES = {
    np.float32: [1e-45, 2.0**-126, 1e-4, 1.0, 9.01, 16.6355, 88.0, 88.8, 104.0, 3.4e38],
    np.float64: [5e-324, 2.0**-1022, 1e-8, 1.0, 19.07, 36.75, 708.39, 709.79, 745.14, 1.7e308],
}


def special(dtype):
    sizes = np.array([0.0, *MAGNITUDES[dtype], np.inf, np.nan], dtype)
    return np.concatenate([sizes, -sizes])


def sweep(dtype):
    """Numbers of every exponent and a dense range around zero."""
    dense = np.linspace(-20, 20, 20001)
    every = np.geomspace(np.finfo(dtype).tiny / 64, np.finfo(dtype).max / 2, 4001)
    return np.concatenate([dense, every, -every]).astype(dtype)


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
def test_values(name, isa, rng, dtype):
    x = sweep(dtype)
    assert_forward(name, x)
    saved = x if kernels.ACTIVATIONS[name][0] == "input" else kernels.activation(name, x)
    assert_backward(name, rng.standard_normal(x.shape, dtype), saved)


@NAMES
@pytest.mark.parametrize("n", LENGTHS)
def test_every_length(name, n, isa, rng, dtype):
    x, dy = rng.standard_normal((2, n), dtype)
    assert_forward(name, x)
    assert_backward(name, dy, x)


@NAMES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(name, shape, isa, rng, dtype):
    x, dy = rng.standard_normal((2, *shape), dtype)
    assert_forward(name, np.asarray(x))
    assert_backward(name, np.asarray(dy), np.asarray(x))


@NAMES
def test_special_values_in_every_lane(name, isa, dtype):
    values = special(dtype)
    for shift in range(len(values)):
        x = np.roll(values, shift)
        assert_forward(name, x)
        if name in ("identity", "relu", "leaky_relu"):  # the others save finite outputs
            assert_backward(name, np.ones_like(x), x)
            assert_backward(name, x, np.ones_like(x))
            assert_backward(name, x, -np.ones_like(x))


@NAMES
def test_nan_passes_through(name, isa, dtype):
    x = np.full(37, np.nan, dtype)
    assert np.isnan(kernels.activation(name, x)).all()
    assert np.isnan(kernels.activation_backward(name, x, np.full_like(x, 0.5))).all()


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wider type to compare with")
def test_float64_is_within_two_ulp_to_the_smallest_numbers(isa, rng):
    tails = np.concatenate([rng.uniform(-746, -700, 20000), rng.uniform(-40, 40, 20000)])
    x = np.concatenate([sweep(np.float64), tails, rng.uniform(-1, 1, 20000)])
    wide = x.astype(np.longdouble)
    with np.errstate(over="ignore", under="ignore"):
        wants = {"sigmoid": 1 / (1 + np.exp(-wide)), "tanh": np.tanh(wide)}
    for name, want in wants.items():
        error = np.abs(kernels.activation(name, x) - want)
        assert (error <= 2 * np.spacing(np.abs(want).astype(np.float64))).all(), name


def test_relu_is_the_activation(isa, rng, dtype):
    x = np.concatenate([special(dtype), sweep(dtype)])
    dy = rng.standard_normal(len(x), dtype)
    y = kernels.relu(x)
    assert same_bits(y, kernels.activation("relu", x))
    assert same_bits(kernels.relu_backward(dy, y), kernels.activation_backward("relu", dy, y))
    assert same_bits(kernels.relu_backward(dy, y), np.where(y > 0, dy, dtype(0)))


def test_relu_at_zero_and_nan(isa, dtype):
    x = np.array([np.nan, 0.0, -0.0, -1.0, 2.0], dtype)
    assert np.array_equal(kernels.relu(x), np.array([np.nan, 0, 0, 0, 2], dtype), equal_nan=True)
    assert np.array_equal(kernels.relu_backward(np.ones_like(x), x), [0, 0, 0, 0, 1])
    infinite = np.full_like(x, np.inf)
    assert np.array_equal(kernels.relu_backward(infinite, x), [0, 0, 0, 0, np.inf])


def test_identity_keeps_the_bits_in_a_new_array(isa, dtype):
    x = special(dtype)
    got = kernels.activation("identity", x)
    assert same_bits(got, x)
    assert not np.may_share_memory(got, x)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0, -0.5])
def test_leaky_relu_takes_its_slope(alpha, isa, rng, dtype):
    x, dy = rng.standard_normal((2, 1023), dtype)
    assert_forward("leaky_relu", x, alpha=alpha)
    assert_backward("leaky_relu", dy, x, alpha=alpha)


def test_sigmoid_and_tanh_identities(isa, dtype):
    x, u = sweep(dtype) / 2, unit(dtype)
    tanh, sigmoid = kernels.activation("tanh", x), kernels.activation("sigmoid", x)
    assert np.abs(tanh.astype(np.float64) + 1 - 2.0 * kernels.activation("sigmoid", 2 * x)).max() <= 12 * u
    assert np.abs(sigmoid.astype(np.float64) + kernels.activation("sigmoid", -x) - 1).max() <= 8 * u
    assert np.array_equal(kernels.activation("tanh", -x), -tanh)
    assert (np.abs(tanh) <= 1).all() and (sigmoid >= 0).all() and (sigmoid <= 1).all()
    limits = np.array([-np.inf, -0.0, 0.0, np.inf], dtype)
    assert np.array_equal(kernels.activation("tanh", limits), [-1, 0, 0, 1])
    assert np.array_equal(kernels.activation("sigmoid", limits), [0, 0.5, 0.5, 1])


def test_wrong_arguments():
    x = np.zeros((3, 5), np.float32)
    for call in (
        lambda: kernels.activation("swoosh", x),
        lambda: kernels.activation_backward("swoosh", x, x),
    ):
        with pytest.raises(ValueError, match=r"swoosh.*identity.*relu.*leaky_relu.*sigmoid.*tanh"):
            call()
    for call in (
        lambda: kernels.relu_backward(x, x[:2]),
        lambda: kernels.relu_backward(x, x.T),
        lambda: kernels.activation_backward("tanh", x, x.ravel()),
        lambda: kernels.relu(x, out=np.zeros((5, 3), np.float32)),
    ):
        with pytest.raises(ValueError, match=r"shape|out"):
            call()
