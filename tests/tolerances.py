"""How far a float32 kernel may be from the float64 reference: one row per operation, derived, not tuned.

u = 2^-24 is half an ulp of 1. To first order a sum of k products, in any order, errs by at most k u times the
sum of magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); each further rounding adds u.
`size` is the same expression with every term replaced by its magnitude.
"""

import numpy as np

U = 2.0**-24
FLOOR = 2.0**-126  # a subnormal result may be flushed to zero
LANES = 8  # reductions over a row keep at least this many partial sums

# Rounding of the operands at each precision level: bf16 has 8 bits; bf16 x3 drops lo*lo and what is below lo.
OPERANDS = {"ieee": 0.0, "highest": 0.0, "high": 2.0**-15, "medium": 2.0**-7.9}


def ulp(want):
    """Distance between neighbouring float32 numbers at the values want."""
    clipped = np.minimum(np.abs(np.asarray(want, np.float64)), np.finfo(np.float32).max)
    return np.spacing(clipped.astype(np.float32)).astype(np.float64)


def ulp_error(got, want):
    """abs(got - want) in units in the last place of float32, for finite values."""
    return np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)) / ulp(want)


# Each row says all that its bound depends on: a keyword missing from a call, or one too many, is a TypeError.
BOUNDS = {
    # size = |alpha| |A||B| + |beta| |C|
    "gemm": lambda want, k, size, precision="ieee": ((k + 4) * U + OPERANDS[precision]) * size,
    # size = |scale| |x||w| + |b|; no activation has a slope above 1, and its own error is at most 4 ulp
    "linear": lambda want, k, size: (k + 4) * U * size + 8 * U * np.abs(want),
    # size = |dy||w.T|; 1 - y y is one rounding with FMA, two without
    "linear_backward_input": lambda want, n, size: (n + 8) * U * size,
    # size = |x.T||dy|
    "linear_backward_weights": lambda want, m, size: (m + 4) * U * size,
    # size = column sums of |dy|
    "bias_add_backward": lambda want, m, size: (m + 4) * U * size,
    "identity": lambda want: 0.0,
    "relu": lambda want: 0.0,
    "leaky_relu": lambda want: 3 * U * np.abs(want),  # alpha is rounded to float32 as well
    "sigmoid": lambda want: 3 * ulp(want),
    "tanh": lambda want: 3 * ulp(want),
    "activation_backward": lambda want, dy: 4 * U * np.abs(want) + U * np.abs(dy),
    # spread = max(x) - x: rounding it moves exp by that many u; the sum of c terms is kept in LANES parts
    "softmax": lambda want, c, spread: (c / LANES + 8 + spread) * U * want,
    # size = loss + sum of the targets; nll = log(sum) + (max - x), both terms >= 0
    "cross_entropy": lambda want, c, size: (c / LANES + 8) * U * size,
    # the mean's divisor and the total are sums over m rows
    "cross_entropy_total": lambda want, m, c, size: ((m + c) / LANES + 8) * U * size,
    # size = weight of the row * (p + [j = y] + label_smoothing); moved = weight of the row * p * (max(x) - x)
    "cross_entropy_backward": lambda want, m, c, moved, size: ((m + c) / LANES + 8) * U * size + U * moved,
    # size = |w| + |lr| (1 + momentum) g, and for the velocity g = |dw| + |weight_decay w| + |momentum v|
    "sgd_step": lambda want, size: 4 * U * size,
}


def assert_within(got, want, operation, **terms):
    """Fail unless got has want's shape, NaNs and infinities, and is elsewhere within BOUNDS[operation]."""
    got, want = np.asarray(got), np.asarray(want, np.float64)
    assert got.shape == want.shape
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite], err_msg=f"{operation}: NaN and infinities")
    if not finite.any():
        return
    with np.errstate(invalid="ignore"):
        bound = BOUNDS[operation](want, **terms)
        bound = np.where(np.isfinite(bound), bound, 0.0) + FLOOR  # relu backward: 0 where dy is NaN
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
