"""sgd_step: every combination of its options over several steps, in place, against float64."""

import itertools

import numpy as np
import pytest
from tolerances import assert_within, same_bits

from mlpfast import kernels
from mlpfast.kernels import reference

SHAPES = [(0,), (1,), (7,), (15,), (16,), (17,), (33,), (100,), (13, 29), (3, 5, 65)]
OPTIONS = [
    dict(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    for lr, momentum, nesterov, weight_decay in itertools.product(
        (0.1, 2.0), (0.0, 0.9), (False, True), (0.0, 0.01)
    )
    if momentum or not nesterov
]
CASES = [
    (o, with_velocity)
    for o in OPTIONS
    for with_velocity in (False, True)
    if with_velocity or not o["momentum"]
]


def assert_step(w, dw, velocity, options):
    """One step in place; the float64 step starts from the same float32 numbers."""
    want_w, want_v = w.astype(np.float64), None if velocity is None else velocity.astype(np.float64)
    g = np.abs(dw) + options["weight_decay"] * np.abs(want_w)
    g += 0.0 if want_v is None else options["momentum"] * np.abs(want_v)
    size = np.abs(want_w) + options["lr"] * (1 + options["momentum"]) * g
    reference.sgd_step(want_w, dw, velocity=want_v, **options)
    assert kernels.sgd_step(w, dw, velocity=velocity, **options) is None
    assert_within(w, want_w, "sgd_step", size=size)
    if velocity is not None:
        assert_within(velocity, want_v, "sgd_step", size=g)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("options", "with_velocity"), CASES, ids=str)
def test_steps(shape, options, with_velocity, isa, rng, dtype):
    w, velocity = (
        rng.standard_normal(shape, dtype),
        np.zeros(shape, dtype) if with_velocity else None,
    )
    for _ in range(4):
        assert_step(w, rng.standard_normal(shape, dtype), velocity, options)


def test_nothing_beside_the_weights_is_written(isa, rng, dtype):
    frame_w, frame_v = np.full((2, 64 + 37 + 64), np.nan, dtype)
    w, v, dw = frame_w[64:-64], frame_v[64:-64], rng.standard_normal(37, dtype)
    w[:], v[:] = 1.0, 0.5
    kernels.sgd_step(w, dw, lr=0.1, momentum=0.9, velocity=v)
    for frame in (frame_w, frame_v):
        assert np.isnan(frame[:64]).all() and np.isnan(frame[-64:]).all() and np.isfinite(frame[64:-64]).all()


MOVING = [{}, dict(momentum=0.0), dict(momentum=0.9), dict(momentum=0.9, nesterov=True)]


@pytest.mark.parametrize("options", MOVING, ids=str)
def test_nan_and_infinity(options, isa, dtype):
    w, dw, velocity, want = np.zeros((4, 37), dtype)
    moving = dict(options, velocity=velocity) if options else {}
    dw[[3, 20, 36]] = np.nan, np.inf, -np.inf
    kernels.sgd_step(w, dw, lr=0.5, **moving)
    want[[3, 20, 36]] = np.nan, -np.inf, np.inf
    assert np.array_equal(w, want, equal_nan=True)


def test_a_learning_rate_of_zero_changes_nothing(isa, rng, dtype):
    w, dw = rng.standard_normal((2, 100), dtype)
    before = w.copy()
    kernels.sgd_step(w, dw, lr=0.0, weight_decay=0.1)
    assert same_bits(w, before)
