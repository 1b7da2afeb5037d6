"""Bad input that is a product: each function x each of its arguments x each kind of wrong value.

A row is (call, exception, words of its text). RIGHT has a right call of each function, in which `wrong`
replaces arguments; the names in it are those of isolated.names.
"""

from itertools import product

LEAKY = dict(activation="'leaky_relu'", alpha="0.1")
RIGHT = {
    "gemm": dict(a="mk", b="kn", out="MN"),
    "explain": dict(m="3", n="4", k="5"),
    "linear": dict(x="mk", w="kn", b="n", out="MN") | LEAKY,
    "linear_backward_input": dict(dy="mn", w="kn", saved="mk", out="MK") | LEAKY,
    "linear_backward_weights": dict(x="mk", dy="mn", out="KN"),
    "bias_add": dict(x="mn", b="n", out="MN"),
    "bias_add_backward": dict(dy="mn", out="N"),
    "relu": dict(x="mn", out="MN"),
    "relu_backward": dict(dy="mn", y="mn", out="MN"),
    "activation": dict(name="'leaky_relu'", x="mn", alpha="0.1", out="MN"),
    "activation_backward": dict(name="'leaky_relu'", dy="mn", saved="mn", alpha="0.1", out="MN"),
    "softmax": dict(x="mn", out="MN"),
    "softmax_cross_entropy": dict(
        logits="mn", labels="labels", class_weight="n", sample_weight="m", out="MN"
    ),
    "sgd_step": dict(w="MN", dw="mn", lr="0.1", momentum="0.9", velocity="V"),
    "MLP": dict(sizes="[3, 4, 2]"),
    "SGD": dict(lr="0.1", momentum="0.9"),
    "trainer.fit": dict(x="X", y="Y", epochs="1", batch_size="2"),
    "set_num_threads": dict(n="1"),
    "EarlyStopping": dict(),
}
INPUTS = [  # (function, argument) of every float array that is read, and below of those that are written
    (function, argument)
    for function, arguments in RIGHT.items()
    for argument, value in arguments.items()
    if value in ("m", "n", "mk", "kn", "mn")
]
OUTPUTS = [
    (function, argument)
    for function, arguments in RIGHT.items()
    for argument, value in arguments.items()
    if value in ("N", "MN", "KN", "MK", "V")
]


def wrong(function, **changed):
    arguments = RIGHT[function] | changed
    return f"{function}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


def named(function):
    """How messages call it."""
    return function.split(".")[-1]


def pairs(arguments):
    """(function, argument) of {function: arguments}."""
    return [(function, name) for function, names in arguments.items() for name in names.split()]


def every(targets, values):
    """Rows of each bad value for each (function, argument); {} in a value is the right one."""
    return [
        (
            wrong(function, **{argument: value.replace("{}", RIGHT[function].get(argument, "None"))}),
            error,
            f"{named(function)} {argument} {words}",
        )
        for (function, argument), (value, (error, words)) in product(targets, values.items())
    ]


def refusals(function, *rows):
    """Rows of one function: (changed arguments, exception, words)."""
    return [
        (wrong(function, **changed), error, words and f"{named(function)} {words}")
        for changed, error, words in rows
    ]


def values(function, argument, texts, error, words):
    """Rows of one argument that is wrong in many ways."""
    return refusals(function, *((({argument: text}), error, f"{argument} {words}") for text in texts))


def overlaps():
    """out one number beside the start of an input, or an input beside the start of out."""
    for (function, argument), (i, o) in product(INPUTS, [(0, 1), (1, 0)]):
        if "out" in RIGHT[function]:
            array, out = RIGHT[function][argument], RIGHT[function]["out"]
            call = wrong(function, **{argument: f"at({array}, {i})", "out": f"at({out}, {o})"})
            yield call, ValueError, f"{function} out overlaps memory"


DTYPES = {
    f"np.zeros({{}}.shape, {dtype!r})": (TypeError, f"dtype {word}")
    for dtype, word in {
        "c8": "complex64",
        "O": "object",
        "U3": "<U3",
        "M8[s]": "datetime64[s]",
        "f4,f4": "f0",
        "i4": "int32",
        "?": "bool",
        "f2": "float16",
    }.items()
}
NO_ARRAYS = {
    "'text'": (TypeError, "dtype <U4"),
    "object()": (TypeError, "dtype object"),
    "[[1.0], [1.0, 2.0]]": (ValueError, "no array"),
    "[{}, None]": ((TypeError, ValueError), ""),
}
NO_OUTPUTS = {
    "{}.tolist()": (TypeError, "array"),
    "5": (TypeError, "array"),
    "memoryview({})": (TypeError, "array"),
    "read_only({})": (ValueError, "read-only"),
    "swapped({})": (ValueError, "swapped bytes"),
    "strided({})": (ValueError, "C-contiguous"),
    "backwards({})": (ValueError, "C-contiguous"),
    "misaligned({})": (ValueError, "aligned"),
    **{f"{{}}.astype({name!r})": (TypeError, name) for name in ("complex64", "float16", "int32", "object")},
}
NO_SHAPES = {
    "{}[None]": (ValueError, "shape result"),
    "{}[:-1]": (ValueError, "shape result"),
    "{}[..., :-1].copy()": (ValueError, "shape result"),
    "{}.ravel()[0]": (TypeError, "array"),
}
REALS = {  # function: its arguments; likewise below
    "gemm": "alpha beta",
    "linear": "alpha scale",
    "linear_backward_input": "alpha",
    "activation": "alpha",
    "activation_backward": "alpha",
    "softmax_cross_entropy": "label_smoothing",
    "sgd_step": "lr momentum weight_decay",
    "MLP": "input_scale input_shift",
    "SGD": "lr momentum weight_decay",
}
NO_REALS = {
    **dict.fromkeys(["'q'", "1j", "True", "[1.0]", "np.ones(1)", "np.complex64(1)"], (TypeError, "real")),
    **dict.fromkeys(["nan", "inf", "-inf", "1e39", "10**400", "np.float16(inf)"], (ValueError, "finite")),
}
FLAGS = {
    "gemm": "transpose_a transpose_b",
    "sgd_step": "nesterov",
    "SGD": "nesterov",
    "trainer.fit": "shuffle drop_last",
    "EarlyStopping": "restore_best",
}
NO_FLAGS = dict.fromkeys(["'no'", "1", "None", "[]"], (TypeError, "True or False"))
NAMES = {
    "gemm": "precision",
    "explain": "dtype precision",
    "linear": "activation precision",
    "linear_backward_input": "activation precision",
    "linear_backward_weights": "precision",
    "activation": "name",
    "activation_backward": "name",
    "softmax_cross_entropy": "reduction",
    "MLP": "activation loss dtype precision",
}
NO_NAMES = {
    "'exact'": (ValueError, "unknown 'exact' known are"),
    "'relu\\0'": (ValueError, "unknown known are"),
    "'\\udc80'": (ValueError, "unknown known are"),
    **dict.fromkeys(["3", "None", "b'relu'"], (TypeError, "must be")),
}
INTEGERS = {
    "explain": "m n k",
    "softmax_cross_entropy": "ignore_index",
    "MLP": "seed",
    "trainer.fit": "epochs batch_size seed",
    "set_num_threads": "n",
    "EarlyStopping": "patience",
}
NO_INTEGERS = dict.fromkeys(
    ["1.0", "'3'", "True", "1j", "[1]", "nan", "np.array([1, 2])"], (TypeError, "integer")
)
COUNTS = {"trainer.fit": "epochs batch_size", "set_num_threads": "n", "EarlyStopping": "patience"}
NO_COUNTS = dict.fromkeys(["0", "-1", "-(10**30)"], (ValueError, "at least 1"))

PRODUCTS = [
    *every(INPUTS, DTYPES | NO_ARRAYS),
    *every(OUTPUTS, NO_OUTPUTS),
    *every([(f, a) for f, a in OUTPUTS if a == "out"], NO_SHAPES),
    *overlaps(),
    *((wrong(f, **{a: RIGHT[f][a] + "[None]"}), ValueError, f"{f} shape") for f, a in INPUTS),
    *(
        (wrong(f, **{a: RIGHT[f][a] + ".astype('f8')"}), TypeError, f"{f} out float32 expected float64")
        for f, a in INPUTS
        if "out" in RIGHT[f]
    ),
    *every(pairs(REALS), NO_REALS),
    *every(pairs(FLAGS), NO_FLAGS),
    *every(pairs(NAMES), NO_NAMES),
    *every(pairs(INTEGERS), NO_INTEGERS),
    *every(pairs(COUNTS), NO_COUNTS),
]
FEATURES = {
    "np.zeros((4, 4))": (ValueError, "4 features 3"),
    "np.zeros((4, 2))": (ValueError, "2 features 3"),
    "np.zeros((4, 0))": (ValueError, "0 features 3"),
    "np.zeros((4, 2, 2))": (ValueError, "4 features 3"),
    "np.zeros(3)": (ValueError, "shape (3,) x[None]"),
    "1.0": (ValueError, "shape ()"),
    "[[1, 2, 3], [1, 2]]": (ValueError, "no array"),
    "[]": (ValueError, "shape (0,)"),
    "np.zeros((4, 3), complex)": (TypeError, "dtype complex128"),
    "np.full((4, 3), '1')": (TypeError, "dtype <U1"),
    "np.full((4, 3), None)": (TypeError, "dtype object"),
    "np.zeros((4, 3), 'M8[s]')": (TypeError, "dtype datetime64[s]"),
    "np.zeros((4, 3), 'f4,f4')": (TypeError, "dtype f0"),
    "None": (TypeError, "dtype object"),
    "'text'": (TypeError, "dtype <U4"),
    "{1: 2}": (TypeError, "dtype object"),
    "wide(2**50, 3)": (MemoryError, ""),
}
PREDICTING = ["forward", "predict", "predict_proba"]
LEARNING = {
    "model.evaluate({x}, {y})": "evaluate",
    "model.loss_and_gradients({x}, {y})": "loss_and_gradients",
    "trainer.fit({x}, {y}, epochs=1, batch_size=2)": "fit",
    "trainer.fit(X, Y, epochs=1, batch_size=2, validation_data=({x}, {y}))": "fit validation_data",
}
LABELS = {  # of the 3 examples below 5 for softmax_cross_entropy, of 4 below 2 for a model
    "np.zeros({n} + 1, int)": (ValueError, "shape row"),
    "np.zeros({n} - 1, int)": (ValueError, "shape row"),
    "np.zeros(({n}, 1), int)": (ValueError, "shape row pass .ravel()"),
    "np.zeros(({n}, 2), int)": (ValueError, "shape row one-hot .argmax(axis=1)"),
    "np.eye({n})": (TypeError, "integers float64 one-hot .argmax(axis=1)"),
    "np.zeros(({n}, 2, 2), int)": (ValueError, "shape row"),
    "0": (ValueError, "shape () row"),
    "[0] * ({n} - 1) + [5]": (ValueError, "5 outside 0"),
    "[-1] + [0] * ({n} - 1)": (ValueError, "[0] -1 outside 0"),
    "[0, 2**32] + [0] * ({n} - 2)": (ValueError, "[1] 4294967296 outside"),
    "[0, 2**40] + [0] * ({n} - 2)": (ValueError, "[1] 1099511627776 outside"),
    "np.full({n}, -(2**63))": (ValueError, "-9223372036854775808 outside"),
    "np.full({n}, 2**64 - 1, np.uint64)": (ValueError, "18446744073709551615 outside"),
    "np.full({n}, 2**63, '>u8')": (ValueError, "9223372036854775808 outside"),
    "[10**30] * {n}": (TypeError, "integers object"),
    "[0.0] * {n}": (TypeError, "integers float64 .astype(numpy.int64)"),
    "[nan] * {n}": (TypeError, "integers float64"),
    "[False] * {n}": (TypeError, "integers bool .astype(numpy.int64)"),
    "['0'] * {n}": (TypeError, "integers <U1 numpy.unique( return_inverse=True)[1]"),
    "[0j] * {n}": (TypeError, "integers complex128"),
    "np.zeros({n}, 'M8[s]')": (TypeError, "integers datetime64[s]"),
    "np.zeros({n}, object)": (TypeError, "integers object numpy.unique("),
    "None": (TypeError, "integers object"),
    "[[0], [0, 1], 0]": (ValueError, "no array"),
}
EXAMPLES = [
    *(
        (f"model.{function}({x})", error, words and f"{function} x {words}")
        for function, (x, (error, words)) in product(PREDICTING, FEATURES.items())
    ),
    *(
        (call.format(x=x, y="Y"), error, words and f"{function} x {words}")
        for (call, function), (x, (error, words)) in product(LEARNING.items(), FEATURES.items())
    ),
    *(
        (call.format(x="X", y=y.format(n=4)), error, f"{function} y {words}")
        for (call, function), (y, (error, words)) in product(LEARNING.items(), LABELS.items())
    ),
    *(
        (call.format(x="X[:0]", y="Y[:0]"), ValueError, f"{function} x (0, 3) no row")
        for call, function in LEARNING.items()
    ),
    *(
        (wrong("softmax_cross_entropy", labels=y.format(n=3)), error, f"softmax_cross_entropy labels {words}")
        for y, (error, words) in LABELS.items()
    ),
]
