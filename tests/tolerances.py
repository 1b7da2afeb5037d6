"""How far a kernel may be from the float64 reference: one row per operation, derived, not tuned.

u is half an ulp of 1 in the kernel's dtype: 2^-24 or 2^-53. To first order a sum of k products, in any order,
errs by at most k u times the sum of magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 3.1);
each further rounding adds u.
`size` is the same expression with every term replaced by its magnitude. A float64 kernel has twice the bound,
because the same bound holds for the reference itself.
"""

import numpy as np
import pytest

from mlpfast import _cpu

VECTOR_ISAS = [name for name, vectors in _cpu.available_isas() if vectors]  # those with kernels of their own
TILE_ISAS = [name for name, vectors in _cpu.available_isas() if not vectors]
WITHOUT_FMA = {"sse2"}  # these ISAs round a product before they add it: the same bounds, but other bits
LANES = 8  # reductions over a row keep at least this many partial sums

# Rounding of the operands at each precision level: bf16 has 8 bits; bf16 x3 drops lo*lo and what is below lo.
OPERANDS = {"ieee": 0.0, "highest": 0.0, "high": 2.0**-15, "medium": 2.0**-7.9}


def skip_what_amx_does(isa):
    """For tests that are slow on the emulator."""
    if isa == "amx_emulated" and "amx" in TILE_ISAS:
        pytest.skip("the same bits as amx, which is faster")


def unit(dtype):
    """Half the distance between 1 and the next number."""
    return float(np.finfo(dtype).eps) / 2


U = unit(np.float32)


def ulp(want, u):
    """Distance between neighbouring numbers of the dtype whose unit is u, at the values want."""
    dtype = np.float32 if u == U else np.float64
    clipped = np.minimum(np.abs(np.asarray(want, np.float64)), np.finfo(dtype).max)
    return np.spacing(clipped.astype(dtype)).astype(np.float64)


# Each row says all that its bound depends on: a keyword missing from a call, or one too many, is a TypeError.
BOUNDS = {
    # size = |alpha| |A||B| + |beta| |C|
    "gemm": lambda u, want, k, size, precision="ieee": ((k + 4) * u + OPERANDS[precision]) * size,
    # size = |scale| |x||w| + |b|; no activation has a slope above 1, and its own error is at most 4 ulp
    "linear": lambda u, want, k, size: (k + 4) * u * size + 8 * u * np.abs(want),
    # size = |dy||w.T|; 1 - y y is one rounding with FMA, two without
    "linear_backward_input": lambda u, want, n, size: (n + 8) * u * size,
    # size = |x.T||dy|
    "linear_backward_weights": lambda u, want, m, size: (m + 4) * u * size,
    # size = column sums of |dy|
    "bias_add_backward": lambda u, want, m, size: (m + 4) * u * size,
    "identity": lambda u, want: 0.0,
    "relu": lambda u, want: 0.0,
    "leaky_relu": lambda u, want: 3 * u * np.abs(want),  # alpha is rounded as well
    "sigmoid": lambda u, want: 3 * ulp(want, u),
    "tanh": lambda u, want: 3 * ulp(want, u),
    "activation_backward": lambda u, want, dy: 4 * u * np.abs(want) + u * np.abs(dy),
    # spread = max(x) - x: rounding it moves exp by that many u; the sum of c terms is kept in LANES parts
    "softmax": lambda u, want, c, spread: (c / LANES + 8 + spread) * u * want,
    # size = loss + sum of the targets; nll = log(sum) + (max - x), both terms >= 0
    "cross_entropy": lambda u, want, c, size: (c / LANES + 8) * u * size,
    # the mean's divisor and the total are sums over m rows
    "cross_entropy_total": lambda u, want, m, c, size: ((m + c) / LANES + 8) * u * size,
    # size = weight of the row * (p + [j = y] + label_smoothing); moved = weight of the row * p * (max(x) - x)
    "cross_entropy_backward": lambda u, want, m, c, moved, size: ((m + c) / LANES + 8) * u * size + u * moved,
    # size = |w| + |lr| (1 + momentum) g, and for the velocity g = |dw| + |weight_decay w| + |momentum v|
    "sgd_step": lambda u, want, size: 4 * u * size,
}


def assert_within(got, want, operation, dtype=None, **terms):
    """Fail unless got has want's shape, NaNs and infinities, and is elsewhere within BOUNDS[operation].

    `dtype` is that of the computation where it is not got's.
    """
    got, want = np.asarray(got), np.asarray(want, np.float64)
    dtype = np.dtype(dtype or got.dtype)
    assert got.shape == want.shape
    with np.errstate(over="ignore"):
        rounded = want.astype(dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite], err_msg=f"{operation}: NaN and infinities")
    if not finite.any():
        return
    with np.errstate(invalid="ignore"):
        bound = BOUNDS[operation](unit(dtype), want, **terms) * (2 if dtype == np.float64 else 1)
        bound = np.where(np.isfinite(bound), bound, 0.0)  # relu backward: 0 where dy is NaN
        bound += np.finfo(dtype).tiny  # a subnormal result may be flushed to zero
        excess = np.where(finite, np.abs(got.astype(np.float64) - want) / bound, 0.0)
    at = np.unravel_index(np.argmax(excess), excess.shape)
    where = f"{operation}{[int(i) for i in at]}: got {got[at]!r}, want {want[at]!r}"
    assert excess[at] <= 1.0, f"{where}, {excess[at]:.3g} times the bound"


def same_bits(a, b):
    """True where two arrays hold the same bits; every NaN counts as the same."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    sign_matters = ~np.isnan(a)
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a) & sign_matters, np.signbit(b) & sign_matters
    )


def assert_same(got, want):
    """Two lists of arrays hold the same bits."""
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert same_bits(a, b), f"array {i}"
