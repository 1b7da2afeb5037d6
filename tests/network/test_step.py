"""The training step: the same bits whichever way it is computed, and the weights of a plain float64 step."""

import numpy as np
import pytest
from problems import Problem, reference_gradients, state, trained
from processes import output_of
from tolerances import VECTOR_ISAS, WITHOUT_FMA, assert_same, unit

from mlpfast import MLP, SGD, DivergenceError, Trainer, _cpu, kernels

MOMENTUM = dict(momentum=0.9, nesterov=True, weight_decay=0.01)
SMALL = {
    "no hidden layer": Problem((13, 5), 50, 16),
    "widths of one": Problem((1, 1, 1, 2), 21, 7),
    "primes": Problem((31, 37, 17, 3), 100, 33, "tanh", sgd=MOMENTUM),
    "deep": Problem((20, 33, 17, 65, 9, 10), 40, 20, "sigmoid", model=dict(init="xavier")),
    "every activation": Problem((9, 16, 15, 14, 13, 12, 4), 60, 31, tuple(kernels.ACTIVATIONS)),
    "leaky_relu": Problem((20, 40, 30, 10), 64, 32, "leaky_relu", sgd=dict(momentum=0.5)),
    "batch of one": Problem((7, 19, 3), 9, 1),
    "updates that wait": Problem((7, 70, 5, 67, 3), 9, 1, "tanh", sgd=MOMENTUM),
    **{f"batch of {n}": Problem((7, 65, 3), 17, n, sgd=MOMENTUM) for n in range(2, 10)},
    "batch above the data": Problem((7, 19, 3), 25, 100),
    "drop_last": Problem((7, 19, 3), 25, 10, fit=dict(drop_last=True)),
    "in order": Problem((7, 19, 3), 25, 10, fit=dict(shuffle=False)),
    "class_weight": Problem((7, 19, 3), 25, 10, fit=dict(class_weight=[2.0, 1.0, 0.0])),
    "sample_weight": Problem((7, 19, 3), 25, 10, fit=dict(sample_weight=np.arange(25) % 4)),
    "scaled": Problem((7, 19, 3), 25, 10, model=dict(input_scale=0.3, input_shift=-0.5)),
    "losses far apart": Problem((9, 16, 4), 3000, 100, model=dict(input_scale=8.0), lr=0.001),
    "several passes": Problem((5, 11, 3), 2300, 1100),
    "wide": Problem((1030, 9, 1031, 2), 24, 12),
}
# At least 8 * 2^18 / 3 weights times rows, where eight threads are put to work; three in "row after row".
LARGE = {
    "rows": Problem((64, 96, 10), 300, 128, sgd=MOMENTUM),
    "columns": Problem((1100, 250, 50, 10), 50, 20, ("tanh", "leaky_relu")),
    "fewer columns than threads": Problem((5000, 3, 40), 130, 60),
    "one row": Problem((1030, 700, 10), 3, 1),
    "row after row": Problem((523, 517, 10), 35, 1, sgd=MOMENTUM),
    "few rows": Problem((1030, 700, 10), 15, 6),
    "many rows": Problem((20, 512, 5), 4200, 2100, sgd=MOMENTUM),
    "weights beyond the cache": Problem((64, 512, 520, 5), 200, 100, ("tanh", "leaky_relu")),
    "weights to be copied": Problem((100, 250, 150, 10), 200, 100, ("tanh", "relu")),
    "several passes": Problem((64, 33, 10), 2300, 1100, fit=dict(class_weight=np.linspace(0.5, 2, 10))),
}
EVERY = pytest.mark.parametrize("problem", SMALL.values(), ids=SMALL)
EVERY_LARGE = pytest.mark.parametrize("problem", LARGE.values(), ids=LARGE)


@EVERY
def test_same_bits_on_every_isa(problem, dtype, rng, use_isa):
    problem = problem.of(dtype)
    data = problem.data(rng)
    with use_isa("scalar"):
        want = trained(problem, data)
    for isa in set(VECTOR_ISAS) - {"scalar"} - WITHOUT_FMA:
        with use_isa(isa):
            assert_same(trained(problem, data), want)


@EVERY_LARGE
def test_same_bits_for_any_number_of_threads(problem, dtype, rng, isa, threads):
    if isa == "scalar" and problem.rows * problem.sizes[0] * problem.sizes[1] > 4_000_000:
        pytest.skip("the scalar FMA of libm is too slow for this size")
    problem = problem.of(dtype)
    data = problem.data(rng)
    with threads(1):
        want = trained(problem, data)
    for n in (2, 3, 5, 8):
        with threads(n):
            assert_same(trained(problem, data), want)
            assert_same(trained(problem, data, fused=False), want)


def test_same_bits_where_few_lots_of_rows_read_large_weights(rng, threads):
    """2048 rows and more of two threads, and weights beyond the cache: too slow for each ISA."""
    problem = Problem((600, 450, 3), 2100, 2100, "tanh", model=dict(precision="ieee"))
    data = problem.data(rng)
    with threads(1):
        want = trained(problem, data)
    with threads(2):
        assert_same(trained(problem, data), want)


# Eight steps and more, for which columns are moved.
OWNED = {
    "row after row": Problem((1100, 700, 10), 40, 1, sgd=MOMENTUM),
    "members without columns": Problem((11000, 65, 10), 40, 1, sgd=MOMENTUM),
    "a few rows, members without columns": Problem((2000, 64, 10), 40, 4, sgd=MOMENTUM),
    "a few rows": Problem((523, 517, 10), 43, 5, sgd=MOMENTUM),
    "some rows": Problem((300, 1030, 10), 330, 40, "tanh"),
    "rows of two threads, few for eight": Problem(
        (230, 100, 40, 10), 800, 96, ("tanh", "relu"), sgd=MOMENTUM
    ),
    "weights beyond the cache": Problem((40, 600, 600, 5), 1700, 200, ("relu", "leaky_relu")),
    "several passes": Problem((420, 640, 5), 8900, 1100),
}


@pytest.mark.parametrize("problem", OWNED.values(), ids=OWNED)
def test_columns_that_threads_own(problem, dtype, rng, threads, monkeypatch):
    """Up to eight threads, and call after call."""
    problem = problem.of(dtype)
    data = problem.data(rng)
    with threads(1):
        want = trained(problem, data)
    for seconds in (0.001, 1):
        monkeypatch.setattr("mlpfast.trainer.SECONDS_PER_CALL", seconds)
        for n in (2, 5, 8):
            with threads(n):
                assert_same(trained(problem, data), want)


def test_columns_that_threads_own_on_every_isa(dtype, rng, isa, threads):
    problem = Problem((230, 100, 10), 290, 32, sgd=MOMENTUM).of(dtype)
    data = problem.data(rng)
    with threads(1):
        want = trained(problem, data)
    for n in (2, 3, 8):
        with threads(n):
            assert_same(trained(problem, data), want)


def test_weights_before_the_example_that_diverges(rng, threads):
    """Updates that wait are applied, and columns that threads own come back."""
    problem = LARGE["row after row"]
    x, y = problem.data(rng)
    order = dict(epochs=1, batch_size=1, shuffle=False)
    with threads(2):
        trainer, whole = problem.trainer(), problem.trainer(fused=False)
        whole.fit(x[:30], y[:30], **order)
        x[30] = np.inf
        with pytest.raises(DivergenceError, match="step 31"):
            trainer.fit(x, y, **order)
    assert_same(state(trainer), state(whole))


def test_the_team_is_as_large_as_asked():
    """Counted in a new process, whose only other threads could be those of NumPy's BLAS."""
    code = """if True:
        import os, numpy as np, mlpfast
        x, y = np.ones((128, 64), np.float32), np.zeros(128, int)
        for n in 1, 2, 3, 7:
            mlpfast.set_num_threads(n)
            trainer = mlpfast.Trainer(mlpfast.MLP([64, 96, 10]), mlpfast.SGD(0.1))
            trainer.fit(x, y, epochs=1, batch_size=128)
            print(len(os.listdir("/proc/self/task")))"""
    assert output_of(code, OPENBLAS_NUM_THREADS="1").split() == ["1", "2", "3", "7"]


@EVERY
def test_fused_equals_stored(problem, dtype, rng):
    problem = problem.of(dtype)
    data = problem.data(rng)
    assert_same(trained(problem, data, fused=False), trained(problem, data))


@EVERY
def test_same_bits_however_often_the_native_call_returns(problem, rng, monkeypatch):
    data = problem.data(rng)
    want = trained(problem, data, epochs=2)
    monkeypatch.setattr("mlpfast.trainer.SECONDS_PER_CALL", 0.0)  # after each step
    assert_same(trained(problem, data, epochs=2), want)


def test_a_native_call_ends_with_the_step_that_outlasts_it(rng, monkeypatch):
    """Ctrl-C waits for one step, however long."""
    calls, train = [], _cpu.train
    monkeypatch.setattr(_cpu, "train", lambda *arguments: calls.append(arguments) or train(*arguments))
    monkeypatch.setattr("mlpfast.trainer.SECONDS_PER_CALL", 1e-4)
    problem = Problem((784, 512, 10), 1024, 256)
    trained(problem, problem.data(rng))
    assert len(calls) == 4


@EVERY
def test_one_step_against_float64(problem, dtype, rng, isa):
    """A gradient errs by less than k u of its largest element, k the longest sum on its way."""
    problem, u = problem.of(dtype), unit(dtype) * (1 if dtype is np.float32 else 2)  # the reference errs too
    x, y = (a[: problem.batch] for a in problem.data(rng))
    weights = {k: v[: len(y)] for k, v in problem.fit.items() if k.endswith("weight")}
    trainer = problem.trainer()
    before = [p.astype(np.float64) for p in trainer.model.parameters]
    loss, gradients = reference_gradients(trainer.model, x, y, **weights)
    record = trainer.fit(x, y, epochs=1, batch_size=problem.batch, **weights).epochs[0]
    k = max(*problem.sizes, problem.batch) + 200
    assert record["train_loss"] == pytest.approx(loss, rel=k * u)
    for w, old, g in zip(trainer.model.parameters, before, gradients, strict=True):
        bound = (2 * np.abs(old) + problem.lr * k * np.abs(g).max()) * 2 * u
        kernels.reference.sgd_step(old, g, lr=problem.lr, velocity=np.zeros_like(old), **problem.sgd)
        assert (np.abs(w - old) <= bound).all()


@pytest.mark.parametrize(
    "name", ["no hidden layer", "primes", "leaky_relu", "batch of one", "batch of 7", "deep"]
)
def test_the_functional_kernels_make_the_same_steps(name, dtype, rng):
    problem = SMALL[name].of(dtype)
    x, y = problem.data(rng)
    names = [*problem.trainer().model.activations, "identity"]
    p = [w.copy() for w in problem.trainer().model.parameters]
    velocity = [np.zeros_like(w) if problem.sgd else None for w in p]
    for i in range(0, problem.rows, problem.batch):
        h, saved, inputs = x[i : i + problem.batch], [], []
        for w, b, act in zip(p[::2], p[1::2], names, strict=True):
            inputs.append(h)
            z, h = kernels.linear(h, w, b), kernels.linear(h, w, b, activation=act)
            saved.append(z if kernels.ACTIVATIONS[act][0] == "input" else h)
        _, dy = kernels.softmax_cross_entropy(h, y[i : i + problem.batch])
        gradients = []
        for j in reversed(range(len(names))):
            gradients[:0] = kernels.linear_backward_weights(inputs[j], dy), kernels.bias_add_backward(dy)
            if j:
                dy = kernels.linear_backward_input(dy, p[2 * j], saved[j - 1], activation=names[j - 1])
        for w, dw, v in zip(p, gradients, velocity, strict=True):
            kernels.sgd_step(w, dw, lr=problem.lr, velocity=v, **problem.sgd)
    assert_same(trained(problem, (x, y), shuffle=False)[: len(p)], p)


FEATURES = {
    **{name: np.dtype(name).type for name in ("int8", "int16", "int32", "int64")},
    **{name: np.dtype(name).type for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: np.dtype(name).type for name in ("bool", "float16", "float64", "longdouble")},
    "list": lambda x: x.tolist(),
    "images": lambda x: x.reshape(len(x), 3, 5),
    "fortran": np.asfortranarray,
    "reversed": lambda x: np.flip(np.flip(x).copy()),
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "misaligned": lambda x: np.frombuffer(b"-" + x.tobytes(), np.float32, offset=1).reshape(x.shape),
    "byte-swapped": lambda x: x.astype(">f4"),
    "byte-swapped int": lambda x: x.astype(">i2"),
    "byte-swapped half": lambda x: x.astype(">f2")[:, :],
}


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("convert", FEATURES.values(), ids=FEATURES)
def test_features_of_any_dtype_and_layout(convert, shift, dtype, rng):
    problem = Problem((15, 20, 4), 30, 8, model=dict(input_scale=0.5, input_shift=shift)).of(dtype)
    x, y = problem.data(rng)
    x = rng.integers(0, 2 if convert is np.bool_ else 100, x.shape).astype(np.float32)
    assert_same(trained(problem, (convert(x), y)), trained(problem, (x, y)))


def test_features_in_a_read_only_file(tmp_path, rng):
    problem = Problem((15, 20, 4), 30, 8)
    x, y = problem.data(rng)
    np.save(tmp_path / "x.npy", x)
    assert_same(trained(problem, (np.load(tmp_path / "x.npy", mmap_mode="r"), y)), trained(problem, (x, y)))


@pytest.mark.parametrize("shift", [0.0, 33.0])
def test_bytes_with_a_scale_equal_floats(shift, dtype, rng, isa):
    x, y = rng.integers(0, 256, (100, 37)).astype(np.uint8), rng.integers(0, 5, 100)

    def weights(features, **model):
        trainer = Trainer(MLP([37, 24, 5], dtype=dtype.__name__, **model), SGD(0.1, momentum=0.9))
        trainer.fit(features, y, epochs=3, batch_size=16)
        return state(trainer)

    floats = ((x.astype(np.float64) - shift) / 255).astype(dtype)
    for got, want in zip(weights(x, input_scale=1 / 255, input_shift=shift), weights(floats), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=200 * unit(dtype) * np.abs(want).max())
