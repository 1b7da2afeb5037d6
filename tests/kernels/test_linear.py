"""linear, its backwards, bias_add and its backward: against float64, and fused == composed bit for bit."""

import itertools

import numpy as np
import pytest
from tolerances import assert_within, same_bits

from mlpfast import kernels
from mlpfast.kernels import reference

ROWS = [1, 2, 7, 13, 14, 16, 29]
COLUMNS = [1, 5, 15, 16, 17, 32, 33, 65]
DEPTHS = [1, 2, 28, 31, 63, 100]
SHAPES = [
    (m, n, k) for (m, n), k in zip(itertools.product(ROWS, COLUMNS), itertools.cycle(DEPTHS), strict=False)
]
SHAPES += [(64, 48, 100), (15, 10, 1500), (1500, 5, 13), (13, 1500, 15), (4, 3, 0), (0, 3, 4), (4, 0, 3)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)
ACTIVATIONS = [(name, None) for name in kernels.ACTIVATIONS] + [("leaky_relu", 0.3)]
EVERY_ACTIVATION = pytest.mark.parametrize(("name", "alpha"), ACTIVATIONS)
# They are applied to tiles of any shape alike: in turn, and each to the last shapes.
TURNS = list(zip(SHAPES, itertools.cycle(ACTIVATIONS), strict=False))
TURNS += [turn for turn in itertools.product(SHAPES[-7:], ACTIVATIONS) if turn not in TURNS]
SHAPES_AND_ACTIVATIONS = pytest.mark.parametrize(
    ("shape", "name", "alpha"), [(shape, *activation) for shape, activation in TURNS], ids=str
)


def layer(m, n, k, rng, dtype):
    """x, w, b and dy; x w + b stays where no activation is flat."""
    x, w, b, dy = (rng.standard_normal(shape, dtype) for shape in [(m, k), (k, n), (n,), (m, n)])
    return x, w / dtype(max(k, 1) ** 0.5), b, dy


@SHAPES_AND_ACTIVATIONS
def test_linear(shape, name, alpha, isa, rng, dtype):
    x, w, bias, _ = layer(*shape, rng, dtype)
    for b, scale in ((bias, 1.0), (None, 1.0), (bias, 1 / 255)):
        options = dict(activation=name, alpha=alpha, scale=scale)
        want = reference.linear(x, w, b, **options)
        size = reference.linear(np.abs(x), np.abs(w), None if b is None else np.abs(b), scale=scale)
        assert_within(kernels.linear(x, w, b, **options), want, "linear", k=shape[2], size=size)


def saved_values(name, shape, rng, dtype):
    """What a layer with this activation saves: its input, or its output."""
    z = rng.standard_normal(shape, dtype)
    return z if kernels.ACTIVATIONS[name][0] == "input" else kernels.activation(name, z)


@SHAPES_AND_ACTIVATIONS
def test_linear_backward_input(shape, name, alpha, isa, rng, dtype):
    m, n, k = shape
    _, w, _, dy = layer(*shape, rng, dtype)
    saved, options = saved_values(name, (m, k), rng, dtype), dict(activation=name, alpha=alpha)
    size = reference.linear_backward_input(np.abs(dy), np.abs(w))
    got = kernels.linear_backward_input(dy, w, saved, **options)
    assert_within(
        got, reference.linear_backward_input(dy, w, saved, **options), "linear_backward_input", n=n, size=size
    )


@EVERY_SHAPE
def test_linear_backward_weights(shape, isa, rng, dtype):
    x, _, _, dy = layer(*shape, rng, dtype)
    size = reference.linear_backward_weights(np.abs(x), np.abs(dy))
    got = kernels.linear_backward_weights(x, dy)
    assert_within(
        got, reference.linear_backward_weights(x, dy), "linear_backward_weights", m=shape[0], size=size
    )


@EVERY_SHAPE
def test_bias(shape, isa, rng, dtype):
    _, _, b, dy = layer(*shape, rng, dtype)
    assert same_bits(kernels.bias_add(dy, b), dy + b)
    size = reference.bias_add_backward(np.abs(dy))
    got = kernels.bias_add_backward(dy)
    assert_within(got, reference.bias_add_backward(dy), "bias_add_backward", m=shape[0], size=size)


@EVERY_ACTIVATION
@pytest.mark.parametrize("shape", [(15, 33, 100), (64, 10, 65), (1, 17, 1100)], ids=str)
def test_fused_is_the_composition_bit_for_bit(shape, name, alpha, isa, rng, dtype):
    m, _, k = shape
    x, w, b, dy = layer(*shape, rng, dtype)
    ieee, fused = dict(precision="ieee"), dict(precision="ieee", activation=name, alpha=alpha)
    z = kernels.bias_add(kernels.gemm(x, w, **ieee), b)
    assert same_bits(kernels.linear(x, w, b, **fused), kernels.activation(name, z, alpha=alpha))
    saved = saved_values(name, (m, k), rng, dtype)
    dx = kernels.gemm(dy, w, transpose_b=True, **ieee)
    want = kernels.activation_backward(name, dx, saved, alpha=alpha)
    assert same_bits(kernels.linear_backward_input(dy, w, saved, **fused), want)
    assert same_bits(
        kernels.linear_backward_weights(x, dy, **ieee), kernels.gemm(x, dy, transpose_a=True, **ieee)
    )


def test_scale_is_applied_before_the_bias(isa, rng, dtype):
    x, w, b, _ = layer(15, 33, 20, rng, dtype)
    got = kernels.linear(x, w, b, scale=0.0)
    assert same_bits(got, np.broadcast_to(b, got.shape).copy())


def test_no_activation_needs_nothing_saved(isa, rng, dtype):
    _, w, _, dy = layer(15, 33, 20, rng, dtype)
    saved = np.full((15, 20), np.nan, dtype)
    assert same_bits(kernels.linear_backward_input(dy, w), kernels.linear_backward_input(dy, w, saved))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(special, isa, rng, dtype):
    x, w, b, dy = layer(15, 33, 20, rng, dtype)
    x[3, 7], b[32], dy[14, 0] = special, special, special
    for name in kernels.ACTIVATIONS:
        want = reference.linear(x, w, b, activation=name)
        assert np.array_equal(np.isfinite(kernels.linear(x, w, b, activation=name)), np.isfinite(want))
    for function, arrays in [
        ("linear_backward_input", (dy, w)),
        ("linear_backward_weights", (x, dy)),
        ("bias_add_backward", (dy,)),
    ]:
        want = getattr(reference, function)(*arrays).astype(dtype)
        got = getattr(kernels, function)(*arrays)
        assert np.array_equal(got[~np.isfinite(want)], want[~np.isfinite(want)], equal_nan=True)
        assert np.isfinite(got[np.isfinite(want)]).all()
