"""Products on tensor cores, or a CPU that plays them: each level's promised error, of any shape and range."""

import subprocess

import numpy as np
import pytest
from problems import floats
from tolerances import same_bits

import mlpfast
from mlpfast import MLP, SGD, Trainer, kernels

FAST = ("8.0", "9.0", "10.")  # compute capabilities where three products of bf16 beat one of float32
PROMISED = {"high": 1e-5, "medium": 4e-3}
# 64 tiles of 128 x 128 at least; dimensions that end within a tile, and within 16 numbers.
SHAPES = [(5, 64 * 128, 64), (64 * 128 - 37, 33, 70)]


@pytest.fixture(autouse=True)
def fast_tensor_cores(cuda):
    if cuda == "gpu":
        ask = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        if not version.startswith(FAST):
            pytest.skip(f"the GPU's tensor cores, of {version.split()[0]}, multiply floats at 'medium' only")


def stored(array, transposed):
    return mlpfast.cuda.from_numpy(np.ascontiguousarray(array.T) if transposed else array)


def product(a, b, precision, transposed=(False, False)):
    flags = dict(transpose_a=transposed[0], transpose_b=transposed[1])
    given = map(stored, (a, b), transposed)
    return kernels.gemm(*given, **flags, precision=precision).numpy()


def errors(got, a, b):
    """Of Frobenius' norm, and the largest of a number over the product of magnitudes."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    want = a @ b
    error = np.abs(got - want)
    with np.errstate(invalid="ignore"):
        return np.linalg.norm(error) / np.linalg.norm(want), np.nanmax(error / (np.abs(a) @ np.abs(b)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)], ids=str)
def test_levels(shape, transposed, cuda, rng):
    m, n, k = shape
    a, b = floats(rng, m, k), floats(rng, k, n)
    chain = errors(product(a, b, "ieee"), a, b)
    got = product(a, b, "highest", transposed)
    assert not same_bits(got, product(a, b, "ieee"))  # so tensor cores were used
    assert errors(got, a, b)[0] <= chain[0] and errors(got, a, b)[1] <= 1.05 * chain[1]
    for precision, most in PROMISED.items():
        error = errors(product(a, b, precision, transposed), a, b)[0]
        assert most / 1000 < error <= most


def test_wide_blocks(cuda, rng):
    """132 of 128 x 256: of one part a block has twice the columns, where they are enough."""
    a, b = floats(rng, 129, 67), floats(rng, 67, 65 * 256 + 1)
    assert PROMISED["medium"] / 1000 < errors(product(a, b, "medium"), a, b)[0] <= PROMISED["medium"]


def test_one_part_has_the_range_of_float32(cuda, rng):
    """It is not scaled: infinities, NaN and numbers near the largest become what float32 makes of them."""
    a, b = floats(rng, 3, 64), floats(rng, 64, 64 * 128)
    a[0, 3], a[1, 5] = np.inf, np.nan
    a[2], a[2, 7] = 0, np.finfo(np.float32).max
    got = product(a, b, "medium")
    assert np.array_equal(got[:1], np.inf * np.sign(b[3:4])) and np.isnan(got[1]).all()
    small = np.abs(b[7]) < 0.9
    assert np.allclose(got[2, small], a[2, 7] * b[7, small], rtol=8e-3)


KINDS = {
    "positive": lambda rng, shape: rng.random(shape),
    "log-normal": lambda rng, shape: np.exp(4 * rng.standard_normal(shape)),
    "tiny": lambda rng, shape: rng.standard_normal(shape) * 2.0**-130,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 2.0**110,
    "rows far apart": lambda rng, shape: (
        rng.standard_normal(shape) * 2.0 ** rng.integers(-60, 60, (shape[0], 1))
    ),
    "sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.02),
    "the largest": lambda rng, shape: np.where(
        rng.random(shape) < 0.5, np.finfo(np.float32).max, rng.standard_normal(shape) * 2.0**100
    ),
    "wide rows": lambda rng, shape: rng.standard_normal(shape) * 2.0 ** rng.integers(-70, 50, shape),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ranges(kind, cuda, rng):
    """Also where sums must not overflow on the way, and no part be lost to underflow."""
    a, b = KINDS[kind](rng, (3, 80)).astype(np.float32), floats(rng, 80, 64 * 128)
    b *= {"tiny": 2.0**100, "the largest": 2.0**-20}.get(kind, 1)
    got, chain = product(a, b, "highest"), product(a, b, "ieee")
    assert np.isfinite(got).all()
    assert errors(got, a, b)[0] <= 1.05 * errors(chain, a, b)[0]
    assert errors(got, a, b)[1] <= 1.05 * errors(chain, a, b)[1]


def test_numbers_that_are_not_finite(cuda, rng):
    """And ranges too wide: those tiles are chains of multiply-adds, bit for bit, the others are not."""
    a, b = floats(rng, 200, 70), floats(rng, 70, 32 * 128)
    a[3, 5], a[4, 6] = np.inf, np.nan
    a[130, :2] = 2.0**-70, 2.0**60
    b[7, 1000] = -np.inf
    with np.errstate(invalid="ignore"):
        got, chain = product(a, b, "highest"), product(a, b, "ieee")
    assert np.array_equal(got[:200], chain, equal_nan=True)
    a[130, :2] = 1
    got, chain = product(a, b, "highest"), product(a, b, "ieee")
    assert np.array_equal(got[:128], chain[:128], equal_nan=True)
    beside = np.s_[128:, 1024:]
    assert not same_bits(got[beside], chain[beside]) and np.allclose(got[beside], chain[beside], atol=1e-4)


def test_epilogues(cuda, rng):
    """The same as of multiply-adds."""
    x, w, b = floats(rng, 1024, 70), floats(rng, 70, 1024), floats(rng, 1024)
    gpu = mlpfast.cuda.from_numpy
    got = kernels.linear(gpu(x), gpu(w), gpu(b), activation="tanh", scale=0.1).numpy()
    assert np.allclose(got, np.tanh(x @ w * 0.1 + b), atol=2e-6)
    c = floats(rng, 1024, 1024)
    out = gpu(c)
    kernels.gemm(gpu(x), gpu(w), alpha=2.0, beta=-1.0, out=out)
    assert np.allclose(out.numpy(), 2 * (x @ w) - c, atol=1e-4)


def test_training(cuda, rng):
    """A layer whose products run on tensor cores learns what multiply-adds make it learn; twice the same."""
    levels = ("ieee", "highest", "highest")[: 2 if cuda == "shim" else 3]  # it computes the same twice anyway
    models = [MLP((64, 8192, 3), precision=p, seed=1, device="cuda") for p in levels]
    x, y = rng.random((70, 64), np.float32), rng.integers(0, 3, 70)
    histories = [Trainer(m, SGD(0.01)).fit(x, y, epochs=1, batch_size=70) for m in models]
    losses = [history.epochs[0]["train_loss"] for history in histories]
    chains, once, again = models[0], models[1], models[-1]
    assert all(map(same_bits, once.parameters, again.parameters))
    assert losses[1] == losses[-1] == pytest.approx(losses[0], rel=1e-6)
    assert not same_bits(once.parameters[0], chains.parameters[0])
    for got, want in zip(once.parameters, chains.parameters, strict=True):
        assert np.abs(got - want).max() <= 1e-6


def test_gpus_whose_cores_are_not_worth_it(cuda, rng, monkeypatch):
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays")
    a, b = floats(rng, 5, 64), floats(rng, 64, 64 * 128)
    chain = product(a, b, "ieee")
    for version in (75, 80, 86, 89, 90, 100, 103, 120):
        monkeypatch.setenv("SHIM_CAPABILITY", str(version))
        asked = ("highest", "high", "medium") if version in (75, 86, 89, 90, 120) else ("highest",)
        used = [p for p in asked if not same_bits(product(a, b, p), chain)]
        many_times_as_fast = version in (80, 90, 100, 103)
        assert used == [p for p in asked if many_times_as_fast or (p == "medium" and version > 75)]
    monkeypatch.setenv("SHIM_PTX", "75")  # kernels of an older GPU, made for a newer one by the driver
    assert same_bits(product(a, b, "medium"), chain)
