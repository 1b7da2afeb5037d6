"""gemm: alpha op(a) op(b) + beta c against float64, exact on integers, one FMA chain at "ieee"."""

import itertools
import os

import numpy as np
import pytest
from tolerances import OPERANDS, WITHOUT_FMA, assert_within, same_bits

from mlpfast import _cpu, kernels
from mlpfast.kernels import reference

# Around tiles of 6 and 14 rows and panels of 2 vectors of 8 or 16; the larger k cross passes of 512 and 1024;
# from 96 columns on rows of a are packed, and 512 columns at a time are prepared;
# one row of more than 4 times the registers' columns has a kernel of its own.
ROWS = [1, 2, 5, 7, 13, 14, 15, 29]
COLUMNS = [1, 7, 15, 16, 17, 31, 32, 33, 48, 65]
DEPTHS = [1, 2, 5, 16, 33, 64, 100]
SHAPES = [
    (m, n, k) for (m, n), k in zip(itertools.product(ROWS, COLUMNS), itertools.cycle(DEPTHS), strict=False)
]
SHAPES += [
    (63, 100, 28),
    (64, 64, 64),
    (100, 63, 17),
    (13, 33, 1500),
    (1, 31, 1025),
    (15, 1, 1024),
    (300, 1, 65),
    (20, 97, 513),
    (13, 390, 1030),
    (13, 530, 70),
    (1, 120, 1030),
    (1, 1100, 1030),
]
LARGE = (129, 257, 300)
TRANSPOSES = pytest.mark.parametrize(
    ("transpose_a", "transpose_b"),
    list(itertools.product([False, True], repeat=2)),
    ids=["NN", "NT", "TN", "TT"],
)


def operands(m, n, k, rng, dtype, transpose_a=False, transpose_b=False):
    a = rng.standard_normal((k, m) if transpose_a else (m, k), dtype)
    return a, rng.standard_normal((n, k) if transpose_b else (k, n), dtype)


def assert_gemm(got, a, b, *, precision="ieee", alpha=1.0, beta=0.0, out=None, **transposes):
    options = dict(transposes, beta=beta, out=out)
    size = reference.gemm(np.abs(a), np.abs(b), **(options | dict(alpha=abs(alpha), beta=0.0)))
    size += 0.0 if out is None else np.abs(beta * out)
    k = a.shape[0 if transposes.get("transpose_a") else 1]
    assert_within(
        got, reference.gemm(a, b, alpha=alpha, **options), "gemm", k=k, size=size, precision=precision
    )


@TRANSPOSES
@pytest.mark.parametrize("shape", [*SHAPES, LARGE], ids=str)
def test_against_float64(shape, transpose_a, transpose_b, isa, rng, dtype):
    if isa == "scalar" and shape == LARGE:
        pytest.skip("the scalar FMA of libm is too slow for this size")
    transposes = dict(transpose_a=transpose_a, transpose_b=transpose_b)
    a, b = operands(*shape, rng, dtype, **transposes)
    assert_gemm(kernels.gemm(a, b, **transposes), a, b, **transposes)


@TRANSPOSES
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 3, 0), (0, 0, 0), (0, 0, 4)], ids=str)
def test_empty(shape, transpose_a, transpose_b, isa, rng, dtype):
    a, b = operands(*shape, rng, dtype, transpose_a, transpose_b)
    got = kernels.gemm(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    assert same_bits(got, np.zeros(shape[:2], dtype))


COMBINATIONS = itertools.product(
    [(15, 33, 40), (1, 65, 7), (7, 16, 1100), (3, 5, 0)], [1.0, -0.5, 0.3], [0.0, 1.0, -0.7]
)


@pytest.mark.parametrize(
    ("shape", "alpha", "beta", "transposes"),
    [(*c, t) for c, t in zip(COMBINATIONS, itertools.cycle(["NN", "NT", "TN", "TT"]), strict=False)],
    ids=str,
)
def test_alpha_and_beta(shape, alpha, beta, transposes, isa, rng, dtype):
    transpose_a, transpose_b = (t == "T" for t in transposes)
    options = dict(alpha=alpha, beta=beta, transpose_a=transpose_a, transpose_b=transpose_b)
    a, b = operands(*shape, rng, dtype, transpose_a, transpose_b)
    c = rng.standard_normal(shape[:2], dtype)
    assert_gemm(kernels.gemm(a, b, out=c.copy(), **options), a, b, out=c, **options)


def test_beta_zero_does_not_read_out(isa, rng, dtype):
    a, b = operands(15, 33, 40, rng, dtype)
    out = np.full((15, 33), np.nan, dtype)
    assert same_bits(kernels.gemm(a, b, beta=0.0, out=out), kernels.gemm(a, b))


@pytest.mark.parametrize("precision", OPERANDS)
@pytest.mark.parametrize("shape", [(14, 32, 64), (15, 33, 1500), (1, 1100, 29)], ids=str)
def test_exact_on_integers(precision, shape, isa, rng, dtype):
    m, n, k = shape
    a, b = rng.integers(-8, 9, (m, k)), rng.integers(-8, 9, (k, n))
    got = kernels.gemm(a.astype(dtype), b.astype(dtype), precision=precision)
    assert np.array_equal(got, a @ b)


@pytest.mark.parametrize("precision", OPERANDS)
@pytest.mark.parametrize("shape", [(33, 65, 100), (14, 33, 1100)], ids=str)
def test_precision_levels(precision, shape, isa, threads, rng, dtype):
    a, b = operands(*shape, rng, dtype)
    with threads(1):
        want = kernels.gemm(a, b, precision=precision)
    assert_gemm(want, a, b, precision=precision)
    with threads(3):
        assert same_bits(kernels.gemm(a, b, precision=precision), want)


@pytest.mark.parametrize("precision", ["ieee", "highest"])
def test_rows_and_columns_of_any_magnitude(precision, isa, rng, dtype):
    """The componentwise bound holds where a split product would underflow."""
    a, b = operands(29, 33, 64, rng, dtype)
    a = np.ldexp(a, rng.integers(-60, 60, (29, 1))).astype(dtype)
    b = np.ldexp(b, rng.integers(-60, 60, (1, 33))).astype(dtype)
    assert_gemm(kernels.gemm(a, b, precision=precision), a, b)


@pytest.mark.parametrize("shape", [(1, 17, 33), (7, 33, 65), (15, 1, 30), (3, 18, 1100)], ids=str)
def test_ieee_is_one_chain_of_fma(shape, isa, rng):
    """Product exact in float64, sum rounded to float32: an FMA up to double rounding, once in 2^29 steps."""
    a, b = operands(*shape, rng, np.float32)
    product = np.float32 if isa in WITHOUT_FMA else np.float64
    chain = np.zeros(shape[:2], np.float32)
    for p in range(shape[2]):
        chain = (chain + np.multiply.outer(a[:, p].astype(product), b[p].astype(product))).astype(np.float32)
    assert same_bits(kernels.gemm(a, b, precision="ieee"), chain)


@TRANSPOSES
@pytest.mark.parametrize("shape", [(47, 530, 1100), (97, 512, 33), (97, 131, 33)], ids=str)
def test_same_bits_for_any_cache(shape, transpose_a, transpose_b, isa, threads, rng, dtype):
    """How products are cut, and what is copied, follows from the size of L2: both ways on every machine."""
    a, b = operands(*shape, rng, dtype, transpose_a, transpose_b)
    options = dict(transpose_a=transpose_a, transpose_b=transpose_b, precision="ieee")
    before, got = _cpu.l2_bytes(), []
    try:
        for size in (1 << 20, 2 << 20):
            _cpu.set_l2_bytes(size)
            with threads(2):
                got.append(kernels.gemm(a, b, **options))
    finally:
        _cpu.set_l2_bytes(before)
    assert same_bits(*got)
    assert_gemm(got[0], a, b, transpose_a=transpose_a, transpose_b=transpose_b)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["ieee", "highest"])
def test_nan_and_infinity(special, precision, isa, rng, dtype):
    a, b = operands(15, 33, 20, rng, dtype)
    a[3, 4], a[14, 19], b[0, 32], b[4, 7] = special, special, special, 0.0
    got = kernels.gemm(a, b, precision=precision)
    with np.errstate(all="ignore"):
        want = reference.gemm(a, b).astype(dtype)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(got[np.isinf(want)], want[np.isinf(want)])
    assert np.isfinite(got[np.isfinite(want)]).all()


@pytest.mark.slow
def test_more_columns_than_a_team_counts_blocks(use_isa, threads):
    """2^28 columns in panels of 16: each is computed once, whoever takes it."""
    columns = 2**28
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 4 * 4 * columns:
        pytest.skip("there is too little memory for two GB of numbers")
    b, out = np.ones((1, columns), np.float32), np.full((1, columns), -7, np.float32)
    with use_isa("scalar"), threads(2):
        kernels.gemm(np.array([[3]], np.float32), b, out=out)
    assert out.min() == out.max() == 3
