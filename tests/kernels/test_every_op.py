"""What holds for every function: same bits, inputs of any layout, the contract of out. OPS is the list."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tolerances import WITHOUT_FMA, same_bits

from mlpfast import kernels


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


def run(op, arrays, named, **more):
    """Everything that the call computes, as a list of arrays."""
    if op.in_place:
        w, velocity = arrays[0].copy(), named["velocity"].copy()
        getattr(kernels, op.function)(w, *arrays[1:], velocity=velocity, **op.options, **more)
        return [w, velocity]
    result = getattr(kernels, op.function)(*op.name, *arrays, **named, **op.options, **more)
    return list(result) if isinstance(result, tuple) else [result]


def assert_same(got, want):
    for i, (x, y) in enumerate(zip(got, want, strict=True)):
        assert same_bits(x, y), f"result {i}"


@EVERY_OP
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_bits_on_every_isa(op, size, rng, use_isa, dtype):
    from mlpfast import _cpu

    arrays, named = inputs(op, size, rng, dtype)
    with use_isa("scalar"):
        want = run(op, arrays, named)
    for isa in set(_cpu.available_isas()) - {"scalar"} - WITHOUT_FMA:
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


def strided(x):
    wide = np.zeros([3 * n + 1 for n in x.shape], x.dtype)
    view = wide[tuple(slice(1, None, 3) for _ in x.shape)]
    view[...] = x
    return view


def misaligned(x):
    view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    view = x.view()
    view.flags.writeable = False
    return view


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided,
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
    "first row repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "one element repeated": lambda x: np.broadcast_to(x.reshape(-1)[0], x.shape),
    "misaligned": misaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "byte-swapped and strided": lambda x: strided(x.astype(x.dtype.newbyteorder())),
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


@EVERY_OUT
def test_wrong_out(op, rng, dtype):
    arrays, named = inputs(op, SMALL, rng, dtype)
    right = np.zeros(shape(op.out, SMALL), dtype)
    wrong = {
        "shape": np.zeros([n + 1 for n in right.shape], dtype),
        "dimensions": right[None],
        "dtype": right.astype(np.float32 if dtype is np.float64 else np.float16),
        "integers": right.astype(np.int32),
        "byte order": right.astype(right.dtype.newbyteorder()),
        "read-only": read_only(right),
        "strided": strided(right),
        "not an array": right.tolist(),
    }
    for out in wrong.values():
        with pytest.raises((TypeError, ValueError), match="out"):
            run(op, arrays, named, out=out)


@EVERY_OUT
def test_out_that_overlaps_an_input(op, rng, dtype):
    arrays, named = inputs(op, SMALL, rng, dtype)
    size = int(np.prod(shape(op.out, SMALL)))
    for i in [i for i, x in enumerate(arrays) if x.dtype == dtype]:
        memory = np.zeros(arrays[i].size + size, dtype)
        overlapped = memory[: arrays[i].size].reshape(arrays[i].shape)
        overlapped[...] = arrays[i]
        out = memory[1 : 1 + size].reshape(shape(op.out, SMALL))
        with pytest.raises(ValueError, match="out"):
            run(op, [*arrays[:i], overlapped, *arrays[i + 1 :]], named, out=out)


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


@EVERY_OP
@pytest.mark.parametrize("dtype", ["float16", "complex64", "int32", "uint8", "bool", "object"])
def test_wrong_dtype_is_named(op, dtype, rng):
    arrays, named = inputs(op, SMALL, rng, np.float32)
    for i in [i for i, x in enumerate(arrays) if x.dtype == np.float32]:
        with pytest.raises(TypeError, match=dtype):
            run(op, [*arrays[:i], arrays[i].astype(dtype), *arrays[i + 1 :]], named)
    for key in named:
        with pytest.raises(TypeError, match=dtype):
            run(op, arrays, {**named, key: named[key].astype(dtype)})


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if len(op.arrays) > 1])
def test_one_dimension_too_many(name, rng, dtype):
    arrays, named = inputs(OPS[name], SMALL, rng, dtype)
    for i, x in enumerate(arrays):
        with pytest.raises(ValueError, match=r"shape|dimension"):
            run(OPS[name], [*arrays[:i], x[None], *arrays[i + 1 :]], named)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if "precision" in op.options])
def test_unknown_precision(name, rng, dtype):
    op = replace(OPS[name], options={**OPS[name].options, "precision": "exact"})
    with pytest.raises(ValueError, match="highest"):
        run(op, *inputs(op, SMALL, rng, dtype))
