"""Bad input: a table of calls, the exception of each and words of its text. Nothing is changed or crashes.

And input that is only awkward. Each call has a process of its own; its names are those of isolated.names.
"""

import json
import subprocess
import sys
from inspect import isfunction
from itertools import product

import isolated
import pytest
from bad_input import EXAMPLES, PRODUCTS, RIGHT, refusals, values, wrong

from mlpfast import kernels

KERNELS = [
    *refusals(
        "gemm",
        (dict(b="mk"), ValueError, "inner dimensions (3, 4)"),
        (dict(transpose_b="True"), ValueError, "inner dimensions b transposed (5, 4)"),
        (dict(transpose_a="True"), ValueError, "inner dimensions a transposed (4, 3)"),
        (dict(b="n"), ValueError, "b 2 dimensions (5,)"),
        (dict(b="np.float32(1)"), ValueError, "b 2 dimensions ()"),
        (dict(beta="0.5", out="None"), ValueError, "beta out"),
        (dict(a="MN[:, :4]"), ValueError, "out overlaps"),
        (dict(a="MN", b="np.eye(5, dtype='f4')"), ValueError, "out overlaps"),
        (dict(b="MN[::-1]", a="mk[:, :3]"), ValueError, "out overlaps"),
        (dict(a="np.lib.stride_tricks.as_strided(MN, (3, 4), (0, 0))"), ValueError, "out overlaps"),
        (
            dict(a="empty(2**40, 0)", b="empty(0, 2**40)", out="None"),
            ValueError,
            "shape (1099511627776, too large",
        ),
        (dict(a="empty(2**31, 0)", b="empty(0, 2**31)", out="None"), ValueError, "shape too large"),
        (dict(a="empty(2**20, 0)", b="empty(0, 2**20)", out="None"), MemoryError, ""),
        (dict(a="wide(2**40, 4)"), MemoryError, ""),
        (dict(b="wide(4, 2**58)"), MemoryError, ""),
    ),
    *refusals(
        "linear",
        (dict(w="mk"), ValueError, "x (3, 4) w columns rows"),
        (dict(b="m"), ValueError, "b (3,) (5,)"),
        (dict(b="n[:1]"), ValueError, "b (1,) (5,)"),
        (dict(activation="'relu'"), ValueError, "relu takes no alpha"),
        (dict(x="empty(2**40, 0)", w="empty(0, 2**40)", b="None", out="None"), ValueError, "shape too large"),
        (dict(b="wide(2**60)"), MemoryError, ""),
    ),
    *refusals(
        "linear_backward_input",
        (dict(w="kn[:, :4]"), ValueError, "dy (3, 5) w (4, 4) columns"),
        (dict(saved="mn"), ValueError, "saved (3, 5) (3, 4)"),
        (dict(saved="None"), ValueError, "leaky_relu saved input"),
        (dict(saved="None", activation="'tanh'", alpha="None"), ValueError, "tanh saved output"),
        (dict(dy="empty(2**40, 0)", w="empty(2**40, 0)", saved="None", out="None"), ValueError, ""),
    ),
    *refusals(
        "linear_backward_weights",
        (dict(x="kn"), ValueError, "x (4, 5) dy (3, 5) rows"),
        (dict(dy="mn[0]"), ValueError, "dy 2 dimensions (5,)"),
        (dict(x="empty(0, 2**40)", dy="empty(0, 2**40)", out="None"), ValueError, "shape too large"),
    ),
    *refusals(
        "bias_add",
        (dict(x="n"), ValueError, "x 2 dimensions (5,)"),
        (dict(b="m"), ValueError, "b (3,) (5,) column"),
        (dict(b="n[:1]"), ValueError, "b (1,) (5,)"),
        (dict(b="MN[0]"), ValueError, "out overlaps"),
        (dict(x="wide(2**40, 5)"), MemoryError, ""),
    ),
    *refusals(
        "bias_add_backward",
        (dict(dy="n"), ValueError, "dy 2 dimensions (5,)"),
        (dict(dy="memory[:15].reshape(3, 5)", out="memory[5:10]"), ValueError, "out overlaps"),
        (dict(dy="empty(0, 2**40)", out="None"), MemoryError, ""),
        (dict(dy="wide(2**45, 4)", out="None"), MemoryError, ""),
    ),
    *refusals(
        "relu",
        (dict(x="wide(2**50)", out="None"), MemoryError, ""),
        (dict(x="memory[:30:2]", out="memory[:15]"), ValueError, "out overlaps"),
        (dict(x="memory[:10].view('f8')", out="memory[2:12].view('f8')"), ValueError, "out overlaps"),
        (dict(x="memory[:5]", out="memory[4:14].view('f8')"), ValueError, "out overlaps"),
        (dict(x="np.broadcast_to(MN[0], (3, 5))"), ValueError, "out overlaps"),
    ),
    *refusals(
        "relu_backward",
        (dict(y="kn"), ValueError, "y (4, 5) (3, 5) dy"),
        (dict(y="mn.T"), ValueError, "y (5, 3) (3, 5) dy"),
        (dict(dy="mn[0]"), ValueError, "y (3, 5) (5,) dy"),
    ),
    *refusals("activation", (dict(name="'relu'"), ValueError, "relu takes no alpha")),
    *refusals(
        "activation_backward",
        (dict(name="'tanh'"), ValueError, "tanh takes no alpha"),
        (dict(saved="mn.ravel()"), ValueError, "saved (15,) (3, 5) dy"),
        (dict(saved="wide(2**50)"), MemoryError, ""),
    ),
    *refusals(
        "softmax",
        (dict(x="np.float32(1)", out="None"), ValueError, "x 1 dimension"),
        (dict(x="wide(2**40, 4)", out="None"), MemoryError, ""),
    ),
    (
        "(lambda b: softmax_cross_entropy(mn[:1, :2], b.view('i8'), out=b[None]))(np.zeros(2, 'f4'))",
        ValueError,
        "softmax_cross_entropy out overlaps memory",
    ),
    *refusals(
        "softmax_cross_entropy",
        (dict(logits="n"), ValueError, "logits 2 dimensions (5,)"),
        (dict(logits="empty(3, 0)"), ValueError, "logits (3, 0) without class"),
        (dict(logits="empty(2**40, 0)"), ValueError, "logits (1099511627776, without class"),
        (dict(logits="wide(2**40, 2)"), MemoryError, ""),
        (dict(logits="empty(0, 2**50)", labels="labels[:0]", class_weight="wide(2**50)"), MemoryError, ""),
        (dict(label_smoothing="-0.1"), ValueError, "label_smoothing -0.1 0 .. 1"),
        (dict(label_smoothing="1.5"), ValueError, "label_smoothing 1.5 0 .. 1"),
        (dict(class_weight="m"), ValueError, "class_weight (3,) (5,) class"),
        (dict(class_weight="-n"), ValueError, "class_weight[0] negative"),
        (dict(class_weight="n * np.float32(nan)"), ValueError, "class_weight[0] nan finite"),
        (dict(class_weight="n * np.float32(inf)"), ValueError, "class_weight[0] inf finite"),
        (dict(class_weight="n * np.float32(1e38)"), ValueError, "class_weight[0] 0, or 1.17 .. 1.26"),
        (dict(class_weight="n * np.float32(1e-39)"), ValueError, "class_weight[0] 0, or 1.17 .. 1.26"),
        (dict(sample_weight="m * np.float32(1e38)"), ValueError, "sample_weight[0] 0, or 1.17 .. 1.26"),
        (
            dict(class_weight="n * np.float32(1e20)", sample_weight="m * np.float32(1e20)"),
            ValueError,
            "class_weight times sample_weight products",
        ),
        (dict(sample_weight="n"), ValueError, "sample_weight (5,) (3,) row"),
        (dict(sample_weight="m[:, None]"), ValueError, "sample_weight 1 dimension (3, 1)"),
        (dict(sample_weight="m - 2"), ValueError, "sample_weight[0] negative"),
        (dict(sample_weight="m + np.float32(nan)"), ValueError, "sample_weight[0] nan finite"),
        (dict(ignore_index="10**30"), ValueError, "ignore_index 64 bits"),
        (dict(labels="[0, 4, -2]", ignore_index="-1"), ValueError, "labels[2] -2"),
        (
            dict(labels="np.array([2**64 - 1, 0, 0], 'u8')", ignore_index="-1"),
            ValueError,
            "18446744073709551615",
        ),
    ),
    *refusals(
        "sgd_step",
        (dict(dw="mn.T"), ValueError, "dw (5, 3) (3, 5) w"),
        (dict(dw="mn[:1]"), ValueError, "dw (1, 5) (3, 5) w"),
        (dict(velocity="MK"), ValueError, "velocity (3, 4) (3, 5) w"),
        (dict(velocity="V.astype('f8')"), TypeError, "velocity float64 expected float32"),
        (dict(w="MN.astype('f8')"), TypeError, "velocity float32 expected float64"),
        (dict(velocity="None"), ValueError, "momentum velocity must be given"),
        (dict(w="None"), TypeError, "w array"),
        (dict(dw="MN"), ValueError, "w overlaps dw"),
        (dict(dw="V"), ValueError, "velocity overlaps dw"),
        (dict(velocity="MN"), ValueError, "w overlaps velocity"),
        (dict(w="at(mn, 0)", dw="at(mn, 1)"), ValueError, "w overlaps dw"),
        (dict(w="at(mn, 1)", velocity="at(mn, 0)"), ValueError, "w overlaps velocity"),
        (dict(velocity="at(mn, 14)", dw="at(mn, 0)"), ValueError, "velocity overlaps dw"),
        (dict(w="memory[:15]", dw="memory[:30:2]", velocity="V.ravel()"), ValueError, "w overlaps dw"),
        (dict(lr="-0.1"), ValueError, "lr -0.1 negative"),
        (dict(momentum="-0.1"), ValueError, "momentum -0.1 negative"),
        (dict(weight_decay="-1e-9"), ValueError, "weight_decay -1e-09 negative"),
        (dict(momentum="0", nesterov="True"), ValueError, "nesterov momentum"),
        (dict(dw="wide(2**50)"), MemoryError, ""),
    ),
]
NO_SIZES = ["3", "'34'", "b'34'", "None", "{3: 4, 2: 1}", "{3, 4}", "iter([3, 2])", "3.0"]
NO_SIZE = ["1.5", "4.0", "True", "'4'", "None", "[4]", "inf", "nan"]
TOO_MANY = ["[2**40, 2**40, 10]", "[2**31, 2**31]", "[2**62, 4]", "[10**30, 2]", "np.array([2**62, 4])"]
NO_INIT = ["'random'", "'He'", "'he:1'", "''", "None", "5"]
NO_INIT += ["'normal'", "'normal:'", "'normal:x'", "'normal:nan'", "'normal:1e39'", "'constant:inf'"]
NO_WEIGHTS = ["nan", "inf", "-inf", "1e39", "-1", "3e38", "1e-50", "np.float16(inf)"]
NO_PATHS = ["5", "None", "['a']", "b'a'", "next(os.scandir(b'/'))"]
NO_VELOCITIES = {
    "[0] * 26": (TypeError, "SGD velocity array"),
    **dict.fromkeys(["read_only(v)", "strided(v)", "misaligned(v)"], (ValueError, "SGD velocity writable")),
    **dict.fromkeys(["v[None]", "np.zeros(3, 'f4')"], (ValueError, "SGD velocity another model")),
}
NO_PAIRS = ["5", "X", "(X,)", "(X, Y, Y)", "'ab'", "{'x': X, 'y': Y}", "np.ones((2, 4, 3))"]
NO_CALLBACKS = ["print", "5", "[None]", "'ab'", "[print, 5]", "None", "[Progress]"]
FIT = "trainer.fit"
TRAIN = "fit(X, Y, epochs=1, batch_size=2)"
MODELS = [
    *values("MLP", "sizes", ["[3]", "[]", "()", "np.ones((2, 2), int)"], ValueError, "at least two"),
    *values("MLP", "sizes", ["[3, 0, 2]", "[3, -1]", "[3, -(2**70)]"], ValueError, "[1] at least 1"),
    *values("MLP", "sizes", [f"[3, {size}]" for size in NO_SIZE], TypeError, "sizes[1] integer"),
    *values("MLP", "sizes", [*NO_SIZES, "np.ones(2)"], TypeError, "integer"),
    *values("MLP", "sizes", TOO_MANY, ValueError, "2^40"),
    ("MLP([2**19, 2**20, 2])", MemoryError, ""),
    *values("MLP", "activation", ["['relu', 'tanh']", "[]"], ValueError, "names 1 hidden"),
    *values("MLP", "activation", ["{'relu'}", "{'relu': 1}"], TypeError, "list of names"),
    *values("MLP", "activation", ["['swoosh']"], ValueError, "swoosh known"),
    *values("MLP", "activation", ["[['relu']]", "[None]"], TypeError, "one of"),
    *((f"MLP([3, 2], init={init})", ValueError, "init he, xavier, normal:NUMBER") for init in NO_INIT),
    *values("MLP", "dtype", ["'float16'", "'double'", "''"], ValueError, "known float32, float64"),
    *values("MLP", "dtype", ["np.float64", "float", "['float64']"], TypeError, "one of float32, float64"),
    *values("MLP", "seed", ["-1", "-(2**70)"], ValueError, "at least 0"),
    *values(FIT, "sample_weight", ["m", "np.ones((4, 1))", "1.0", "[]"], ValueError, "shape (4,)"),
    *values(
        "trainer.fit", "sample_weight", [f"[1, 1, {w}, 1]" for w in NO_WEIGHTS], ValueError, "[2] finite"
    ),
    *values(
        "trainer.fit", "sample_weight", ["np.ones(4, 'c8')", "['1'] * 4", "[None] * 4"], TypeError, "real"
    ),
    *values(FIT, "sample_weight", ["[1, [2], 3, 4]"], ValueError, "no array"),
    *values(
        "trainer.fit", "class_weight", ["[1]", "[1, 1, 1]", "1.0", "[[1], [1]]"], ValueError, "shape (2,)"
    ),
    *values(FIT, "class_weight", [f"[1, {w}]" for w in NO_WEIGHTS], ValueError, "[1] finite"),
    *values(FIT, "class_weight", ["[1j, 1]", "{0: None}"], TypeError, "real"),
    *values(FIT, "class_weight", ["'balanced'"], TypeError, "array {class: weight}"),
    *values(
        "trainer.fit",
        "class_weight",
        [f"{{{k}: 1.0}}" for k in ("2", "-1", "'0'", "0.5")],
        ValueError,
        "keys",
    ),
    *values(FIT, "class_weight", ["{0: -1.0}"], ValueError, "[0] negative"),
    (
        "trainer.fit(X, Y, epochs=1, batch_size=2, sample_weight=[1e20] * 4, class_weight=[1e20, 1])",
        ValueError,
        "sample_weight times class_weight products",
    ),
    (
        "trainer.fit(X, Y, epochs=1, batch_size=2, sample_weight=np.array([1, np.inf, 1, 1], 'f2'))",
        ValueError,
        "sample_weight[1] is inf finite",
    ),
    *values(FIT, "validation_data", NO_PAIRS, TypeError, "(x, y)"),
    *values(FIT, "callbacks", NO_CALLBACKS, TypeError, "functions"),
    *refusals(
        FIT,
        (dict(batch_size="5", drop_last="True"), ValueError, "batch_size 4 rows drop_last"),
        (dict(y="Y + 1"), ValueError, "y[1] 2 outside"),
    ),
    ("MLP([5, 2]).predict(X)", ValueError, "predict x 3 features 5"),
    ("model.predict(np.broadcast_to(np.zeros(3, 'u1'), (2**61, 3)))", ValueError, "MLP shape too large"),
    ("model.predict(np.broadcast_to(X[0], (2**40, 3)))", MemoryError, ""),
    ("model.evaluate(np.broadcast_to(X[0], (2**40, 3)), wide(2**40, dtype=int))", MemoryError, ""),
    ("model.loss_and_gradients(wide(2**33, 3), wide(2**33, dtype='i1'))", MemoryError, ""),
    *(
        (f"twin = model.copy(); twin.{name} = {value}; twin.predict(X)", error, f"MLP {name}")
        for name in ("input_scale", "input_shift")
        for value, error in (("'large'", TypeError), ("nan", ValueError), ("None", TypeError))
    ),
    ("model.parameters[0] = np.zeros((4, 3))", ValueError, "broadcast (4,3) (3,4)"),
    ("model.parameters = [p + 1 for p in model.parameters]", AttributeError, "parameters"),
    *[(f"model.{name} = model.{name}", AttributeError, name) for name in ("loss", "init", "seed", "sizes")],
    (f"Trainer(MLP([3, 1]), SGD(0.1)).{TRAIN}", ValueError, "fit sizes[-1] 1 number of classes at least 2"),
    ("Trainer(5, SGD(0.1))", TypeError, "Trainer model int MLP"),
    ("Trainer(model, None)", TypeError, "Trainer optimizer NoneType SGD"),
    ("Trainer(model, 0.1)", TypeError, "Trainer optimizer float SGD"),
    (f"Trainer(MLP([3, 5, 2]), trainer.optimizer).{TRAIN}", ValueError, "SGD another model new optimizer"),
    *(
        (f"o = trainer.optimizer; v = o.velocity; o.velocity = {value}; trainer.{TRAIN}", error, words)
        for value, (error, words) in NO_VELOCITIES.items()
    ),
    (f"trainer.optimizer = None; trainer.{TRAIN}", TypeError, "Trainer optimizer NoneType SGD"),
    (f"trainer.model = None; trainer.{TRAIN}", TypeError, "Trainer model NoneType MLP"),
    (f"trainer.fused = 1; trainer.{TRAIN}", TypeError, "fit fused True or False"),
    *values("SGD", "lr", ["-0.1", "-(10**400)", "-1e-9"], ValueError, "negative"),
    *values("SGD", "momentum", ["-0.1"], ValueError, "negative"),
    *values("SGD", "weight_decay", ["-0.1"], ValueError, "negative"),
    ("SGD(0.1, nesterov=True)", ValueError, "SGD nesterov momentum"),
    *(
        (f"trainer.optimizer.{name} = {value}; trainer.{TRAIN}", error, f"SGD {name}")
        for name, value, error in (
            ("lr", "nan", ValueError),
            ("lr", "'fast'", TypeError),
            ("momentum", "-0.5", ValueError),
            ("momentum", "None", TypeError),
            ("nesterov", "'yes'", TypeError),
            ("weight_decay", "inf", ValueError),
        )
    ),
    *values("set_num_threads", "n", ["1025", "2**31", "2**32 + 1", "10**30"], ValueError, "at most"),
    ("with threads(0): pass", ValueError, "set_num_threads n"),
    ("with threads(1.5): pass", TypeError, "set_num_threads n integer"),
    ("CSVLog(1)", TypeError, "CSVLog path 1"),
    ("Checkpoint(1)", TypeError, "Checkpoint path 1"),
    ("Checkpoint('model', 5)", TypeError, "Checkpoint monitor 5 'val_loss'"),
    ("EarlyStopping(5)", TypeError, "EarlyStopping monitor 5 'val_loss'"),
    ("datasets.fashion_mnist(5)", TypeError, "fashion-mnist data_dir 5 path"),
    ("datasets.verify('mnist', 5)", TypeError, "mnist data_dir 5 path"),
    ("datasets.verify(['mnist'])", TypeError, "verify name one of fashion-mnist, mnist"),
    *(
        (f"{call}({path})", TypeError, "path must be")
        for call, path in product(("model.save", "MLP.load", "mlpfast.plots.check"), NO_PATHS)
    ),
    ("mlpfast.plots.curves(trainer.history, 5)", TypeError, "curves path 5 path"),
    ("mlpfast.plots.curves(trainer.history.epochs, 'c.png')", TypeError, "curves history History"),
    ("mlpfast.plots.image_grid(X[None], 'a', 'b', 5)", TypeError, "image_grid path 5 path"),
]
TABLE = [*PRODUCTS, *KERNELS, *EXAMPLES, *MODELS]
AWKWARD = [  # what must hold
    "bias_add(empty(2**40, 0), n[:0]).shape == (2**40, 0)",
    "bias_add_backward(empty(2**40, 0)).shape == (0,)",
    "gemm(empty(0, 2**40), empty(2**40, 0)).shape == (0, 0)",
    "linear(empty(2**40, 0), empty(0, 0)).shape == (2**40, 0)",
    "linear_backward_input(empty(2**40, 0), empty(0, 0)).shape == (2**40, 0)",
    "linear_backward_weights(empty(2**40, 0), empty(2**40, 0)).shape == (0, 0)",
    "relu(empty(2**40, 0)).shape == softmax(empty(2**40, 0)).shape == (2**40, 0)",
    "softmax_cross_entropy(empty(0, 2**40), labels[:0])[0] == 0",
    "sgd_step(empty(2**40, 0), empty(2**40, 0), lr=0.1) is None",
    "same(MN[::-1].copy(), relu(MN[::-1], out=MN))",
    "same(softmax(MN[::-1, ::-1]), softmax(MN[::-1, ::-1], out=MN))",
    "same(relu_backward(MN, MN), relu_backward(MN, MN, out=MN))",
    "same(bias_add(MN[::-1], n), bias_add(MN[::-1], n, out=MN))",
    "same(gemm(mk, kn, alpha=np.float32(2), transpose_a=np.False_), gemm(mk, kn, alpha=2))",
    "same(gemm(mk, kn, precision=np.str_('ieee')), gemm(mk, kn, precision='ieee'))",
    "same(linear(mk, kn, scale=np.int8(3)), linear(mk, kn, scale=3.0))",
    "softmax_cross_entropy(mn, labels, ignore_index=np.uint8(4)) != softmax_cross_entropy(mn, labels)",
    "MLP(np.array([3, 4])).sizes == MLP((3, 4)).sizes == MLP(range(3, 5)).sizes == (3, 4)",
    "fitted(batch_size=4) == fitted(batch_size=5) == fitted(batch_size=10**30)",
    "fitted(seed=2**64) == fitted(seed=0) and fitted(seed=-1) == fitted(seed=2**64 - 1)",
]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """A process that has the library loaded, and forks for each call."""
    with subprocess.Popen(
        [sys.executable, isolated.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path_factory.mktemp("calls"),
    ) as process:
        yield process
        process.stdin.close()


def result(processes, call):
    processes.stdin.write(json.dumps(call) + "\n")
    processes.stdin.flush()
    return json.loads(processes.stdout.readline())


@pytest.mark.parametrize(("call", "error", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_refused(processes, call, error, words):
    raised, text, changed = result(processes, call)
    kinds = error if isinstance(error, tuple) else (error,)
    assert any(kind.__name__ in raised for kind in kinds), (raised, text)
    assert all(word in text for word in words.split()), text
    assert not changed


def test_the_table():
    """No row twice, and every function has some."""
    calls = [call for call, _, _ in TABLE]
    assert len(calls) >= 150 and not [call for call in calls if calls.count(call) > 1]
    functions = {name for name, value in vars(kernels).items() if isfunction(value)}
    assert functions < set(RIGHT)


@pytest.mark.parametrize("function", RIGHT)
def test_the_right_call_is_right(processes, function):
    raised, text, changed = result(processes, wrong(function))
    assert not raised, text
    assert bool(changed) == (function not in ("MLP", "SGD", "EarlyStopping", "explain"))


@pytest.mark.parametrize("holds", AWKWARD)
def test_awkward(processes, holds):
    raised, text, _ = result(processes, f"assert {holds}")
    assert not raised, (raised, text)
