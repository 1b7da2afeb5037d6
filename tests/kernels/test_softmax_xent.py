"""softmax and softmax_cross_entropy: values for every option and width, extreme logits, labels."""

import numpy as np
import pytest
from tolerances import assert_within, same_bits, unit

from mlpfast import kernels
from mlpfast.kernels import reference

CLASSES = [*range(1, 18), 31, 33, 64, 100, 1000]
EVERY_WIDTH = pytest.mark.parametrize("c", CLASSES)
OPTIONS = {
    "plain": {},
    "smoothing": dict(label_smoothing=0.1),
    "all smoothing": dict(label_smoothing=1.0),
    "ignore": dict(ignore_index=0),
    "class weight": dict(class_weight=True),
    "sample weight": dict(sample_weight=True),
    "everything": dict(label_smoothing=0.2, ignore_index=0, class_weight=True, sample_weight=True),
}
EVERY_OPTION = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def batch(m, c, rng, dtype, options=(), scale=3.0):
    """Logits, labels, and the options with their weights made."""
    weights = {
        name: rng.uniform(0.1, 2, n).astype(dtype) for name, n in (("class_weight", c), ("sample_weight", m))
    }
    options = {name: weights.get(name, value) for name, value in dict(options).items()}
    return rng.normal(0, scale, (m, c)).astype(dtype), rng.integers(0, c, m), options


def assert_cross_entropy(x, y, reduction, **options):
    """Loss and gradient within the bounds, whose sizes come from the reference's own sums."""
    m, c = x.shape
    w, s = (np.asarray(options.get(name, 1.0), np.float64) for name in ("class_weight", "sample_weight"))
    loss, d_logits = kernels.softmax_cross_entropy(x, y, reduction=reduction, **options)
    want_loss, want = reference.softmax_cross_entropy(x, y, reduction=reduction, **options)
    each, _ = reference.softmax_cross_entropy(x, y, reduction="none", **options)
    counted = np.where(y == options.get("ignore_index"), 0.0, s * w.max() * np.ones(m))
    divisor = (s * np.broadcast_to(w, c)[y] * (counted > 0)).sum() if reduction == "mean" else 1.0
    share = 1 / divisor if divisor else 0.0
    if reduction == "none":
        assert_within(loss, want_loss, "cross_entropy", c=c, size=each + counted)
        assert loss.dtype == x.dtype
    else:
        assert isinstance(loss, float)
        size = (each + counted).sum() * share
        assert_within(loss, want_loss, "cross_entropy_total", x.dtype, m=m, c=c, size=size)
    with np.errstate(invalid="ignore"):
        p, spread = reference.softmax(x), np.max(x, axis=1, keepdims=True).astype(np.float64) - x
        moved = np.where(p > 0, p * spread, 0.0)
    row = counted[:, None] * share
    size = row * (p + (np.arange(c) == y[:, None]) + options.get("label_smoothing", 0.0))
    assert_within(d_logits, want, "cross_entropy_backward", m=m, c=c, moved=row * moved, size=size)
    assert d_logits.dtype == x.dtype


def assert_softmax(x):
    want = reference.softmax(x)
    with np.errstate(invalid="ignore"):
        spread = np.max(x, axis=-1, keepdims=True).astype(np.float64) - x
    terms = dict(c=x.shape[-1], spread=np.where(np.isfinite(spread), spread, 0.0))
    assert_within(kernels.softmax(x), want, "softmax", **terms)


@EVERY_WIDTH
@EVERY_OPTION
def test_cross_entropy(c, options, isa, rng, dtype):
    x, y, options = batch(13, c, rng, dtype, options)
    for reduction in ("mean", "sum", "none"):
        assert_cross_entropy(x, y, reduction, **options)


@pytest.mark.parametrize("m", [0, 1, 2, 15, 16, 64, 100, 1025])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_any_number_of_rows(m, reduction, isa, rng, dtype):
    x, y, options = batch(m, 10, rng, dtype, OPTIONS["everything"])
    assert_cross_entropy(x, y, reduction)
    assert_cross_entropy(x, y, reduction, **options)


@EVERY_WIDTH
def test_softmax(c, isa, rng, dtype):
    x, _, _ = batch(13, c, rng, dtype)
    assert_softmax(x)
    assert np.abs(kernels.softmax(x).astype(np.float64).sum(axis=1) - 1).max() <= (c / 8 + 8) * unit(dtype)
    logits_of_zero_sum, _ = kernels.softmax_cross_entropy(x, np.zeros(13, np.int64), reduction="none")
    assert (logits_of_zero_sum >= 0).all()


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7)], ids=str)
def test_softmax_is_over_the_last_axis(shape, isa, rng, dtype):
    assert_softmax(rng.normal(0, 3, shape).astype(dtype))


@pytest.mark.parametrize(("c", "options"), [(1031, "plain"), (40_003, "everything")])
def test_more_gradients_than_caches_hold(c, options, isa, rng, dtype):
    """They are written past the caches, while the next row is read: the same bits as row by row."""
    m = (16 << 20) // (c * np.dtype(dtype).itemsize) + 33  # several units of several rows
    x, y, options = batch(m, c, rng, dtype, OPTIONS[options])
    y[[0, 5, 6, m - 1]] = -1
    x[8, 3], x[9, 5], x[10, 7] = np.nan, np.inf, -np.inf
    options |= dict(ignore_index=-1, reduction="none")
    weights = options.pop("sample_weight", np.ones(m, dtype))
    want = [
        kernels.softmax_cross_entropy(x[i : i + 1], y[i : i + 1], sample_weight=weights[i : i + 1], **options)
        for i in range(m)
    ]
    memory = np.ones(m * c + 64, dtype)
    start = -memory.ctypes.data % 64 // memory.itemsize
    aligned, misaligned = (memory[first : first + m * c].reshape(m, c) for first in (start, start + 1))
    for out in (aligned, misaligned, x):
        loss, d_logits = kernels.softmax_cross_entropy(x, y, sample_weight=weights, out=out, **options)
        assert d_logits is out
        assert np.array_equal(loss, np.concatenate([row_loss for row_loss, _ in want]), equal_nan=True)
        assert all(
            np.array_equal(d, d_row[0], equal_nan=True) for d, (_, d_row) in zip(out, want, strict=True)
        )


@EVERY_WIDTH
@pytest.mark.parametrize("scale", [0.0, 1e-30, 100.0, 1e4, 1e30])
def test_extreme_logits(c, scale, isa, rng, dtype):
    x, y, _ = batch(9, c, rng, dtype)
    x = (scale * np.clip(x, -1, 1)).astype(dtype)
    assert_softmax(x)
    for options in ({}, dict(label_smoothing=0.1)):
        assert_cross_entropy(x, y, "mean", **options)
        assert_cross_entropy(x, y, "none", **options)
    loss, d_logits = kernels.softmax_cross_entropy(x, y)
    assert np.isfinite(loss) and np.isfinite(d_logits).all()


@EVERY_WIDTH
def test_equal_logits(c, isa, dtype):
    x, y = np.full((5, c), -1234.5, dtype), np.arange(5) % c
    loss, _ = kernels.softmax_cross_entropy(x, y)
    assert loss == pytest.approx(np.log(c), rel=(c / 8 + 8) * unit(dtype))
    assert_softmax(x)
    assert_cross_entropy(x, y, "mean")


@pytest.mark.parametrize("c", [1, 5, 8, 17, 64])
def test_infinite_and_nan_logits(c, isa, rng, dtype):
    """One infinity of each sign, one NaN, and a row of only -inf, each in its own row."""
    x, y, _ = batch(6, c, rng, dtype)
    x[0, c // 2], x[1, c // 2], x[2, c - 1], x[3] = np.inf, -np.inf, np.nan, -np.inf
    assert_softmax(x)
    assert_cross_entropy(x, y, "none")
    assert_cross_entropy(x, y, "mean")
    assert np.isnan(kernels.softmax_cross_entropy(x, y, reduction="none")[0][3])


@EVERY_OPTION
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_rows_count_nowhere(options, reduction, isa, rng, dtype):
    """Whatever they hold, even NaN; ignore_index need not be a class."""
    x, y, options = batch(17, 10, rng, dtype, options)
    ignored = np.arange(17) % 3 == 0
    weights = {} if "sample_weight" not in options else dict(sample_weight=options["sample_weight"][~ignored])
    x[ignored], y[ignored] = np.nan, -100
    loss, d_logits = kernels.softmax_cross_entropy(
        x, y, reduction=reduction, **(options | dict(ignore_index=-100))
    )
    kept, d_kept = kernels.softmax_cross_entropy(
        x[~ignored], y[~ignored], reduction=reduction, **(options | weights | dict(ignore_index=-100))
    )
    assert np.allclose(
        np.asarray(loss).reshape(-1)[~ignored] if reduction == "none" else loss, kept, rtol=16 * unit(dtype)
    )
    assert np.allclose(d_logits[~ignored], d_kept, rtol=16 * unit(dtype), atol=1e-12)
    assert not d_logits[ignored].any()
    assert reduction != "none" or not loss[ignored].any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_row_left(reduction, isa, rng, dtype):
    x, _, _ = batch(7, 10, rng, dtype)
    for options in (dict(ignore_index=3, label_smoothing=0.1), dict(sample_weight=np.zeros(7, dtype))):
        loss, d_logits = kernels.softmax_cross_entropy(x, np.full(7, 3), reduction=reduction, **options)
        assert not np.any(loss)
        assert not d_logits.any()


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i2", ">u8"]
)
def test_labels_of_any_integer_dtype(dtype, rng):
    x, y, _ = batch(33, 17, rng, np.float32)
    want_loss, want = kernels.softmax_cross_entropy(x, y, ignore_index=4)
    loss, d_logits = kernels.softmax_cross_entropy(x, y.astype(dtype), ignore_index=4)
    assert loss == want_loss
    assert same_bits(d_logits, want)
