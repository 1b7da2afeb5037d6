"""Products by tiles: emulator and hardware, accuracy beside an FMA chain, what tiles cannot hold."""

from itertools import product as product_of

import numpy as np
import pytest
from tolerances import OPERANDS, TILE_ISAS, same_bits, skip_what_amx_does

from mlpfast import _cpu, kernels

needs_amx = pytest.mark.skipif("amx" not in TILE_ISAS, reason="this machine has no AMX")
FORMS = [(False, False), (True, False), (False, True), (True, True)]
HALVES = [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 2), (1, 1, 2)]  # parts of a and b, and at most
DIGITS = [(4, 4, 4)]


def product(a, b, precision, transpose_a=False, transpose_b=False):
    """A product of operands stored as asked."""
    a, b = (np.ascontiguousarray(x.T) if turn else x for x, turn in ((a, transpose_a), (b, transpose_b)))
    return kernels.gemm(a, b, transpose_a=transpose_a, transpose_b=transpose_b, precision=precision)


def errors(got, a, b):
    """Frobenius error, and the largest relative to the product of magnitudes."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    want, size = a @ b, np.abs(a) @ np.abs(b)
    error = np.abs(got - want)
    scale = np.abs(want).max()
    worst = np.max(error / np.where(size > 0, size, 1))
    return np.linalg.norm(error / scale) / np.linalg.norm(want / scale), worst


def random_halves(shape, exponents, rng):
    """bf16 numbers of random sign and fraction, and of one of so many exponents around 0."""
    exponent = rng.integers(127 - exponents // 2, 127 + exponents // 2, shape) % 256
    return rng.integers(0, 2**16, shape, np.uint16) & 0x807F | (exponent << 7).astype(np.uint16)


@needs_amx
@pytest.mark.parametrize("shape", [*HALVES, *DIGITS], ids=str)
def test_the_emulator_is_the_hardware(shape, use_isa, rng):
    """On random bits: subnormals, infinities and NaN among them."""
    a_parts, b_parts, parts = shape
    for exponents in (256, 40):  # all, and those whose products mostly stay finite
        if shape in HALVES:
            a, b = (random_halves((3, n, 1024), exponents, rng) for n in (a_parts, b_parts))
        else:
            a, b = (rng.integers(0, 256, (3, n, 2048), np.uint8) for n in (a_parts, b_parts))
        c = rng.integers(0, 2**32, (32, 32), np.uint32).view(np.float32)
        with use_isa("amx"):
            want = _cpu.tile_multiply(a, b, c, parts)
        with use_isa("amx_emulated"):
            assert same_bits(_cpu.tile_multiply(a, b, c, parts), want)
    assert np.isfinite(want).any()


@needs_amx
@pytest.mark.parametrize("transposes", FORMS, ids=["NN", "TN", "NT", "TT"])
@pytest.mark.parametrize("shape", [(512, 512, 384), (515, 530, 385)], ids=str)
def test_all_of_a_product_emulated(shape, transposes, use_isa, rng):
    m, n, k = shape
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    a[:, 3] *= np.float32(1e-30)
    a[:64] *= np.float32(2**-130)  # subnormal rows and columns
    b[:, :64] *= np.float32(2**-130)
    for precision in OPERANDS:
        with use_isa("amx"):
            want = product(a, b, precision, *transposes)
        with use_isa("amx_emulated"):
            assert same_bits(product(a, b, precision, *transposes), want)


def data(kind, k, rng):
    a, b = rng.standard_normal((512, k)), rng.standard_normal((k, 512))
    if kind == "uniform":
        a, b = rng.random((512, k)), rng.random((k, 512))
    elif kind == "log-normal":
        a, b = np.exp(3 * a), np.exp(3 * b)
    elif kind == "rows of any magnitude":
        a *= 2.0 ** rng.integers(-100, 100, (512, 1))
    elif kind.startswith("2^"):
        a, b = a * 2.0 ** int(kind[2:]), b * 2.0 ** int(kind[2:])
    elif kind == "subnormal":
        a, b = a * 2.0**-135, b * 2.0**60
    elif kind == "bytes":
        a = rng.integers(0, 256, a.shape)
    elif kind == "half of it zeros":
        a, b = np.maximum(a, 0), np.maximum(b, 0)
    elif kind == "heavy tails":
        a, b = rng.standard_t(3, a.shape), rng.standard_t(3, b.shape)
    return a.astype(np.float32), b.astype(np.float32)


KINDS = ["normal", "uniform", "log-normal", "rows of any magnitude", "2^-55", "2^-60", "2^-62", "bytes"]
KINDS += ["half of it zeros", "heavy tails", "subnormal"]


@pytest.mark.parametrize(("kind", "k"), [*product_of(KINDS, (8, 400, 784, 2048, 8192))], ids=str)
def test_not_less_accurate_than_fmas(kind, k, tiles, rng):
    """From 3200 steps on in two passes."""
    if k > 400 or kind not in ("normal", "log-normal"):
        skip_what_amx_does(tiles)
    a, b = data(kind, k, rng)
    frobenius, worst = errors(product(a, b, "ieee"), a, b)
    split = errors(product(a, b, "highest"), a, b)
    assert split[0] <= frobenius and split[1] <= worst * 1.05  # the maximum is one element's luck
    before = _cpu.tile_fallbacks()
    a, b = a[:128], b[:, :128]  # as few as these levels take tiles for: emulated, they are slow
    assert errors(product(a, b, "high"), a, b)[0] <= 1e-5
    assert errors(product(a, b, "medium"), a, b)[0] <= 4e-3
    assert _cpu.tile_fallbacks() == before


@pytest.mark.parametrize("density", [0.02, 0.05, 0.1])
def test_mostly_zeros(density, tiles, rng):
    """A chain loses nothing where it adds zeros."""
    a, b = data("normal", 784, rng)
    a *= rng.random(a.shape) < density
    chain, split = (errors(product(a, b, precision), a, b) for precision in ("ieee", "highest"))
    assert split[0] <= chain[0] and split[1] <= chain[1]


@pytest.mark.parametrize("transposed", [False, True], ids=["x", "x.T"])
@pytest.mark.parametrize(
    ("kind", "k", "shift"),
    [
        *product_of(
            ["normal", "uniform", "log-normal", "2^-62", "2^-130"], (64, 100, 256), (0.0, 128.0, 0.3)
        ),
        *product_of(["normal"], (784, 4096), (0.3,)),
        *product_of(["log-normal"], (784, 4096), (0.0,)),
    ],
    ids=str,
)
def test_bytes_are_not_less_accurate_than_fmas(kind, k, shift, transposed, tiles, rng):
    """Integers of two to four bytes."""
    if k > 64:
        skip_what_amx_does(tiles)
    x, b = rng.integers(0, 256, (130, k), np.uint8), data(kind, k, rng)[1][:, :140]
    a = x.astype(np.float32) - np.float32(shift)
    stored = np.ascontiguousarray(x.T) if transposed else x
    before = _cpu.tile_fallbacks()
    frobenius, worst = errors(kernels.gemm(a, b, precision="ieee"), a, b)
    exact = errors(_cpu.byte_multiply(stored, b, shift, "highest", transposed), a, b)
    assert exact[0] <= frobenius and exact[1] <= worst
    medium = errors(_cpu.byte_multiply(stored, b, shift, "medium", transposed), a, b)
    assert medium[0] <= 4e-3
    if transposed or kind != "log-normal":  # of which a number may be far larger than the others
        assert _cpu.tile_fallbacks() == before


@pytest.mark.parametrize("largest", [2.0, 50.0, 1e6])
def test_rows_that_do_not_see_the_large_numbers(largest, tiles, rng):
    """What the others lose is 2^-31 of the largest, or nothing: too large a one is left to FMAs."""
    x = rng.integers(0, 256, (64, 784), np.uint8)
    b = rng.standard_normal((784, 128), np.float32) * np.float32(0.05)
    x[:, 7], b[7] = 0, largest
    exact = errors(_cpu.byte_multiply(x, b, 0.0, "highest", False), x, b)
    frobenius, worst = errors(kernels.gemm(x.astype(np.float32), b, precision="ieee"), x, b)
    assert exact[0] <= frobenius and exact[1] <= worst


def test_rows_of_one_number(tiles, rng):
    """Give back what they are multiplied by, to 2^-31 of the largest."""
    b = rng.standard_normal((256, 128), np.float32)
    for precision, bits in (("highest", 31), ("high", 23), ("medium", 15)):
        got = _cpu.byte_multiply(np.eye(256, dtype=np.uint8), b, 0.0, precision, False)
        assert (np.abs(got - b) <= 2.0**-bits * np.abs(b).max(axis=0) + 2.0**-22 * np.abs(b)).all()


@needs_amx
@pytest.mark.parametrize("shape", [(1, 1, 1), (31, 33, 63), (97, 130, 129)], ids=str)
def test_all_of_a_product_of_bytes_emulated(shape, use_isa, rng):
    m, k, n = shape
    x, b = rng.integers(0, 256, (m, k), np.uint8), rng.standard_normal((k, n), np.float32)
    b[:, : n // 2] *= np.exp(5 * rng.standard_normal((k, n // 2)))  # more digits
    for shift in (0.0, 3.5):
        for precision in ("highest", "medium"):
            with use_isa("amx"):
                want = _cpu.byte_multiply(x, b, shift, precision, False)
            with use_isa("amx_emulated"):
                assert same_bits(_cpu.byte_multiply(x, b, shift, precision, False), want)


@pytest.mark.parametrize("transposed", [False, True], ids=["x", "x.T"])
def test_strips_that_digits_cannot_hold(transposed, tiles, threads, rng):
    x, b = rng.integers(0, 256, (70, 90), np.uint8), rng.standard_normal((90, 200), np.float32)
    stored = np.ascontiguousarray(x.T) if transposed else x
    untouched = _cpu.byte_multiply(stored, b, 2.0, "highest", transposed)
    b[3, 5], b[4, 40], b[:, 71] = np.inf, np.nan, 3e38
    with np.errstate(all="ignore"):
        want = kernels.gemm(x.astype(np.float32) - 2, b, precision="ieee")
    for n in (1, 3, 16):
        with threads(n):
            before = _cpu.tile_fallbacks()
            got = _cpu.byte_multiply(stored, b, 2.0, "highest", transposed)
            assert _cpu.tile_fallbacks() - before == 3 * 3  # strips of columns, of rows
        assert same_bits(got[:, :96], want[:, :96])
        assert same_bits(got[:, 96:], untouched[:, 96:])


@pytest.mark.parametrize("precision", [p for p in OPERANDS if p != "ieee"])
def test_same_bits_for_any_number_of_threads(precision, tiles, threads, rng):
    a, b = rng.standard_normal((1032, 260), np.float32), rng.standard_normal((260, 1042), np.float32)
    a[40, 7] = np.inf  # one strip falls back
    b[:, 300] *= np.float32(2**-60)  # another is scaled at "medium" too
    with threads(1):
        want = product(a, b, precision)
    for n in (2, 3, 5, 8) if tiles == "amx" else (3,):
        with threads(n):
            assert same_bits(product(a, b, precision), want)


@pytest.mark.parametrize("transposes", FORMS, ids=["NN", "TN", "NT", "TT"])
def test_what_tiles_cannot_hold_is_computed_by_fmas(transposes, tiles, rng):
    """Blocks of 32 with an infinity, a NaN, or too wide a range; the others are not touched by it."""
    a, b = rng.standard_normal((514, 400), np.float32), rng.standard_normal((400, 524), np.float32)
    b[0] = 0
    untouched = product(a, b, "highest", *transposes)
    a[33, 1], a[34, 2], b[5, 519] = np.inf, -np.inf, np.nan
    a[100, 0] = 1e38  # which meets zeros
    before = _cpu.tile_fallbacks()
    got = product(a, b, "highest", *transposes)
    fallen = _cpu.tile_fallbacks() - before
    assert fallen == 2 * 17 + 15  # of 17 x 17: rows 1 and 3, and column 16 of the others
    with np.errstate(all="ignore"):
        want = product(a, b, "ieee", *transposes)
    assert same_bits(got[32:64], want[32:64]) and same_bits(got[96:128], want[96:128])
    assert same_bits(got[:, 512:], want[:, 512:])
    assert same_bits(got[:32, :512], untouched[:32, :512])


def test_extremes(tiles, rng):
    """The largest numbers, subnormals, signed zeros and zero rows; sums of 256 equal products are exact."""
    a, b = np.zeros((512, 400), np.float32), np.zeros((400, 512), np.float32)
    x, y = np.ones(512, np.float32), np.ones(512, np.float32)
    largest, tiny = np.finfo(np.float32).max, np.float32(1e-45)
    x[:5], y[5] = [largest, -largest, tiny, -3 * tiny, 0], -0.5
    a[:, :256], b[:256] = x[:, None], y / 256
    before = _cpu.tile_fallbacks()
    assert np.array_equal(product(a, b, "highest"), np.outer(x, y))
    assert _cpu.tile_fallbacks() == before
    y[7] = b[:256, 7] = 4
    b[:256, 7] /= 256
    with np.errstate(over="ignore"):
        assert np.array_equal(product(a, b, "highest"), np.outer(x, y))


@pytest.mark.parametrize("transposes", FORMS, ids=["NN", "TN", "NT", "TT"])
@pytest.mark.parametrize(("precision", "bound"), [("high", 1e-5), ("medium", 4e-3)])
@pytest.mark.parametrize("steps", [(0, 150), (0, 32), (64, 96), (128, 150)], ids=str)
def test_one_row_and_one_column_of_tiny_numbers(precision, bound, steps, transposes, tiles, rng):
    """Among others that need no scale; in all blocks of k, or in one that alone is not 0."""
    a, b = rng.standard_normal((135, 150), np.float32), rng.standard_normal((150, 140), np.float32)
    tiny = np.zeros(150, np.float32)
    tiny[slice(*steps)] = 2.0**-128
    a[41] *= tiny
    b[:, 77] *= tiny
    got = product(a, b, precision, *transposes)
    others = np.arange(140) != 77
    for part in ((slice(41, 42), others), (np.arange(135) != 41, slice(77, 78))):
        assert errors(got[part], a[part[0]], b[:, part[1]])[0] <= bound


def with_outlier(x, at, factor):
    x = x.copy()
    x[at] *= np.float32(factor)
    return x


@pytest.mark.parametrize("factor", [8, 30, 100, 1e4])
def test_numbers_far_above_the_others(factor, tiles, rng):
    """In one column of a, one row of b, or both: what misses them must not drown in their rounding."""
    a, b = data("normal", 784, rng)
    usual = errors(product(a, b, "ieee"), a, b)[0]
    for large_a, large_b in ((factor**2, 1), (1, factor**2), (factor, factor)):
        x, y = with_outlier(a, (slice(None), -1), large_a), with_outlier(b, -2, large_b)
        chain, split = (errors(product(x, y, precision), x, y) for precision in ("ieee", "highest"))
        assert split[0] <= max(chain[0], usual)  # a chain that ends with all that counts rounds but once
        assert split[1] <= 2.0**-19  # single sums may be smaller than the others of their rows and columns


def hidden(kind, k, rng):
    """Operands whose largest numbers do not show in their products."""
    a, b = rng.standard_normal((256, k), np.float32), rng.standard_normal((k, 256), np.float32)
    if kind == "meet zeros":
        a[:, k // 2 :] *= np.float32(2.0**-30)
        b[: k // 2] = 0
    elif kind == "in one column meet zeros":
        a[:, k // 2 :] *= np.float32(2.0**-16)
        b[: k // 2, 77] = 0
    elif kind == "in one row meet zeros":
        a[77, : k // 2] = 0
        b[k // 2 :] *= np.float32(2.0**-16)
    elif kind == "meet small ones":
        a[:, : 3 * k // 4] *= 256
        b[: 3 * k // 4] /= 256
    elif kind == "cancel out":
        a[:, 1::2] = -a[:, ::2] * (1 + np.float32(1e-3) * a[:, 1::2])
        b[1::2] = b[::2]
    return a, b


HIDDEN = ["meet zeros", "in one column meet zeros", "in one row meet zeros", "meet small ones", "cancel out"]


@pytest.mark.parametrize("k", [400, 784, 3200])
@pytest.mark.parametrize("kind", HIDDEN)
def test_largest_numbers_that_do_not_show(kind, k, tiles, rng):
    """They decide what integers lose: blocks whose sums are far smaller fall back, and only those."""
    if k > 400:
        skip_what_amx_does(tiles)
    a, b = hidden(kind, k, rng)
    before = _cpu.tile_fallbacks()
    split = product(a, b, "highest")
    assert _cpu.tile_fallbacks() - before == (8 if kind.startswith("in one") else 64)
    chain = product(a, b, "ieee")
    for rows, columns in ((slice(None),) * 2, (slice(77, 78), slice(None)), (slice(None), slice(77, 78))):
        operands = a[rows], b[:, columns]
        assert errors(split[rows, columns], *operands)[0] <= errors(chain[rows, columns], *operands)[0]


@pytest.mark.parametrize("alpha", [1.0, -0.5])
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_alpha_beta_and_out(alpha, beta, tiles, rng):
    a, b = rng.standard_normal((513, 400), np.float32), rng.standard_normal((400, 530), np.float32)
    c = rng.standard_normal((513, 530), np.float32)
    got = kernels.gemm(a, b, alpha=alpha, beta=beta, out=c.copy())
    want = alpha * (a.astype(np.float64) @ b) + beta * c.astype(np.float64)
    assert np.abs(got - want).max() < 2e-5


def test_explain(tiles, use_isa):
    path, tile, threads = kernels.explain(1024, 1024, 1024)
    assert path == f"{tiles}: integers of 4 bytes" and tile == (32, 32) and threads >= 1
    assert "bf16 x3" in kernels.explain(256, 256, 784, precision="high")[0]
    assert kernels.explain(256, 256, 784, dtype="uint8")[0] == f"{tiles}: exact products of bytes"
    assert kernels.explain(256, 10, 784, dtype="uint8")[0] == f"{_cpu.vectors()}: float32 multiply-adds"
    for options in (dict(precision="ieee"), dict(dtype="float64")):
        assert kernels.explain(1024, 1024, 1024, **options)[0].startswith(_cpu.vectors())
    for shape in ((128, 128, 1024), (256, 784, 256), (1024, 10, 256), (1024, 1024, 10), (1024, 1024, 2**20)):
        assert "multiply-adds" in kernels.explain(*shape)[0]
    with use_isa("scalar"):
        assert kernels.explain(1024, 1024, 1024)[0] == "scalar: float32 multiply-adds"
