"""What holds for every function: same bits, inputs of any layout, the contract of out. OPS is the list."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from layouts import backwards, misaligned, read_only, strided, swapped
from tolerances import VECTOR_ISAS, WITHOUT_FMA, assert_same, same_bits

from mlpfast import kernels
from mlpfast.kernels import reference


@dataclass(frozen=True)
class Op:
    """A call. A shape is a word over m n k; "labels" are m class numbers below n; "n+" has values above 0."""

    function: str
    arrays: tuple[str, ...]  # positional arguments
    named: dict[str, str] = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    out: str | None = None
    name: tuple = ()  # of the activation, the first argument
    may_alias: bool = False  # out may be one of the arrays
    in_place: bool = False


IEEE = {"precision": "ieee"}
OPS = {
    "gemm NN": Op("gemm", ("mk", "kn"), {}, IEEE, "mn"),
    "gemm NT": Op("gemm", ("mk", "nk"), {}, {"transpose_b": True, **IEEE}, "mn"),
    "gemm TN": Op("gemm", ("km", "kn"), {}, {"transpose_a": True, "alpha": -0.3, **IEEE}, "mn"),
    "gemm TT": Op("gemm", ("km", "nk"), {}, {"transpose_a": True, "transpose_b": True, **IEEE}, "mn"),
    "linear": Op("linear", ("mk", "kn", "n"), {}, {"activation": "relu", "scale": 0.7, **IEEE}, "mn"),
    "linear tanh": Op("linear", ("mk", "kn"), {}, {"activation": "tanh", **IEEE}, "mn"),
    "linear_backward_input": Op("linear_backward_input", ("mn", "kn"), {}, IEEE, "mk"),
    "linear_backward_input relu": Op(
        "linear_backward_input", ("mn", "kn", "mk"), {}, {"activation": "relu", **IEEE}, "mk"
    ),
    "linear_backward_weights": Op("linear_backward_weights", ("mk", "mn"), {}, IEEE, "kn"),
    "bias_add": Op("bias_add", ("mn", "n"), out="mn", may_alias=True),
    "bias_add_backward": Op("bias_add_backward", ("mn",), out="n"),
    "relu": Op("relu", ("mn",), out="mn", may_alias=True),
    "relu_backward": Op("relu_backward", ("mn", "mn"), out="mn", may_alias=True),
    **{
        f"activation {name}": Op("activation", ("mn",), out="mn", name=(name,), may_alias=True)
        for name in kernels.ACTIVATIONS
    },
    **{
        f"activation_backward {name}": Op(
            "activation_backward", ("mn", "mn"), out="mn", name=(name,), may_alias=True
        )
        for name in kernels.ACTIVATIONS
    },
    "softmax": Op("softmax", ("mn",), out="mn", may_alias=True),
    "softmax_cross_entropy": Op("softmax_cross_entropy", ("mn", "labels"), out="mn", may_alias=True),
    "softmax_cross_entropy weighted": Op(
        "softmax_cross_entropy",
        ("mn", "labels"),
        {"class_weight": "n+", "sample_weight": "m+"},
        {"label_smoothing": 0.1, "ignore_index": 0},
        out="mn",
        may_alias=True,
    ),
    "softmax_cross_entropy none": Op(
        "softmax_cross_entropy", ("mn", "labels"), {}, {"reduction": "none"}, "mn", may_alias=True
    ),
    "sgd_step": Op(
        "sgd_step",
        ("mn", "mn"),
        {"velocity": "mn"},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        in_place=True,
    ),
}
EVERY_OP = pytest.mark.parametrize("op", OPS.values(), ids=OPS)
OPS_WITH_OUT = {name: op for name, op in OPS.items() if op.out is not None}
EVERY_OUT = pytest.mark.parametrize("op", OPS_WITH_OUT.values(), ids=OPS_WITH_OUT)

SMALL = dict(m=15, n=35, k=21)
SIZES = [SMALL, dict(m=1, n=1, k=1), dict(m=7, n=17, k=65), dict(m=33, n=10, k=16), dict(m=2, n=100, k=5)]
LARGE = [
    dict(m=131, n=259, k=300),
    dict(m=30011, n=10, k=7),
    dict(m=3, n=100003, k=2),
    dict(m=60, n=70, k=1100),
]


def shape(word, size):
    return tuple(size[letter] for letter in word.rstrip("+"))


def make(word, size, rng, dtype):
    if word == "labels":
        return rng.integers(0, size["n"], size["m"])
    x = rng.standard_normal(shape(word, size), dtype)
    return np.abs(x) + dtype(0.1) if word.endswith("+") else x


def inputs(op, size, rng, dtype):
    arrays = [make(word, size, rng, dtype) for word in op.arrays]
    return arrays, {key: make(word, size, rng, dtype) for key, word in op.named.items()}


def run(op, arrays, named, api=kernels, **more):
    """Everything that the call computes, as a list of arrays."""
    if op.in_place:
        w, velocity = arrays[0].copy(), named["velocity"].copy()
        getattr(api, op.function)(w, *arrays[1:], velocity=velocity, **op.options, **more)
        return [w, velocity]
    result = getattr(api, op.function)(*op.name, *arrays, **named, **op.options, **more)
    return list(result) if isinstance(result, tuple) else [result]


@EVERY_OP
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_bits_on_every_isa(op, size, rng, use_isa, dtype):

    arrays, named = inputs(op, size, rng, dtype)
    with use_isa("scalar"):
        want = run(op, arrays, named)
    for isa in set(VECTOR_ISAS) - {"scalar"} - WITHOUT_FMA:
        with use_isa(isa):
            assert_same(run(op, arrays, named), want)


@EVERY_OP
@pytest.mark.parametrize("size", LARGE, ids=str)
def test_same_bits_for_any_number_of_threads(op, size, rng, isa, threads, dtype):
    if isa == "scalar" and size["m"] * size["n"] * size["k"] > 2_000_000:
        pytest.skip("the scalar FMA of libm is too slow for this size")
    arrays, named = inputs(op, size, rng, dtype)
    with threads(1):
        want = run(op, arrays, named)
    for n in (2, 3, 7):
        with threads(n):
            assert_same(run(op, arrays, named), want)


@EVERY_OP
def test_same_bits_in_concurrent_calls(op, rng, threads, dtype):
    arrays, named = inputs(op, dict(m=70, n=100, k=90), rng, dtype)
    want = run(op, arrays, named)
    with threads(2), ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: run(op, arrays, named), range(8)):
            assert_same(result, want)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided,
    "negative strides": backwards,
    "first row repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "one element repeated": lambda x: np.broadcast_to(x.reshape(-1)[0], x.shape),
    "misaligned": misaligned,
    "byte-swapped": swapped,
    "byte-swapped and strided": lambda x: strided(swapped(x)),
    "read-only": read_only,
}


@EVERY_OP
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_inputs_of_any_layout(op, layout, rng, dtype):
    def plain(x):
        return np.ascontiguousarray(x, x.dtype.newbyteorder("="))

    arrays, named = inputs(op, SMALL, rng, dtype)
    fixed = 1 if op.in_place else 0  # w and velocity are outputs
    arrays = arrays[:fixed] + [layout(x) for x in arrays[fixed:]]
    named = named if op.in_place else {key: layout(x) for key, x in named.items()}
    copies = [x.copy() for x in arrays]
    got = run(op, arrays, named)
    assert_same(got, run(op, [plain(x) for x in arrays], {key: plain(x) for key, x in named.items()}))
    for x, copy in zip(arrays, copies, strict=True):
        assert np.array_equal(x, copy)


EMPTY = [dict(m=0, n=5, k=3), dict(m=3, n=0, k=2), dict(m=3, n=5, k=0), dict(m=0, n=0, k=0)]


@EVERY_OP
@pytest.mark.parametrize("size", EMPTY, ids=str)
def test_nothing_to_do_or_to_sum(op, size, rng, dtype):
    """The shapes and numbers of the reference; of no class there is no loss and no maximum."""
    if size["n"] == 0 and "labels" in op.arrays:
        pytest.skip("a loss needs a class")
    arrays, named = inputs(op, size, rng, dtype)
    got = run(op, arrays, named)
    if op.out:
        assert got[-1].shape == shape(op.out, size)
    if size["n"] or op.function != "softmax":
        plain = replace(op, options={k: v for k, v in op.options.items() if k != "precision"})
        arrays = [x if x.dtype.kind == "i" else x.astype(np.float64) for x in arrays]
        named = {key: x.astype(np.float64) for key, x in named.items()}
        for x, y in zip(got, run(plain, arrays, named, reference), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@EVERY_OUT
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_out_is_filled_and_nothing_beside_it(op, size, rng, isa, dtype):
    arrays, named = inputs(op, size, rng, dtype)
    want = run(op, arrays, named)
    for x in want:
        assert isinstance(x, float) or (x.dtype == dtype and x.flags.c_contiguous)
        assert not any(np.may_share_memory(x, array) for array in arrays)
    frame = np.full(want[-1].size + 128, np.nan, dtype)
    out = frame[64:-64].reshape(shape(op.out, size))
    got = run(op, arrays, named, out=out)
    assert got[-1] is out
    assert_same(got, want)
    assert np.isnan(frame[:64]).all() and np.isnan(frame[-64:]).all()


ALIASED = {
    f"{name}, argument {i}": (op, i)
    for name, op in OPS.items()
    for i, word in enumerate(op.arrays)
    if op.may_alias and word == op.out
}


@pytest.mark.parametrize(("op", "i"), ALIASED.values(), ids=ALIASED)
def test_out_that_is_an_input(op, i, rng, isa, dtype):
    arrays, named = inputs(op, SMALL, rng, dtype)
    want = run(op, arrays, named)
    assert_same(run(op, arrays, named, out=arrays[i]), want)


@EVERY_OP
def test_one_float64_array_is_enough(op, rng):
    """It decides for all of them; where the operation is in place, the array written does."""
    arrays, named = inputs(op, SMALL, rng, np.float32)
    wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in arrays]
    wide_named = {key: x.astype(np.float64) for key, x in named.items()}
    want = run(op, arrays, named) if op.in_place else run(op, wide, wide_named)
    for i in [i for i, x in enumerate(arrays) if x.dtype == np.float32][op.in_place :]:
        assert_same(run(op, [*arrays[:i], wide[i], *arrays[i + 1 :]], named), want)
    if op.in_place:
        assert_same(run(op, [wide[0], *arrays[1:]], wide_named), run(op, wide, wide_named))
        with pytest.raises(TypeError, match="velocity has dtype float64, expected float32"):
            run(op, arrays, wide_named)
    else:
        for key in named:
            assert_same(run(op, arrays, {**named, key: wide_named[key]}), want)
        assert_same(run(op, arrays, named, out=np.zeros(shape(op.out, SMALL))), want)


@EVERY_OUT
def test_lists_are_float32(op, rng):
    arrays, named = inputs(op, SMALL, rng, np.float32)
    lists, named_lists = [x.tolist() for x in arrays], {key: x.tolist() for key, x in named.items()}
    assert_same(run(op, lists, named_lists), run(op, arrays, named))


def test_lists_of_integers_are_numbers_too():
    assert same_bits(kernels.bias_add([[1, -2]], [3, 4]), np.array([[4, 2]], np.float32))
