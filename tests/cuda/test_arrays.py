"""The kernels on arrays of a GPU: the CPU's results, the caller's kind of array, errors that say the fix."""

import sys
import types
import weakref

import numpy as np
import pytest
from lent import Lent
from problems import floats
from tolerances import same_bits

import mlpfast
from mlpfast import kernels
from mlpfast.kernels import ACTIVATIONS


@pytest.fixture
def to_gpu(cuda):
    """Brings an array to the GPU."""
    return mlpfast.cuda.from_numpy


@pytest.fixture
def any_stream(cuda):
    """Numbers are streams."""
    if cuda != "shim":
        pytest.skip("a driver takes real streams only")


class Interface:
    """An array of a library that has the CUDA Array Interface only."""

    def __init__(self, array, **changes):
        self.array = array  # keeps the memory
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}

    __cuda_array_interface__ = None  # of the class, as libraries have it


class Unversioned(Lent):
    """Of a library that has DLPack of before version 1."""

    def __dlpack__(self, *, stream):
        return super().__dlpack__(stream=stream)


PRODUCTS = [(1, 1, 1), (2, 3, 5), (33, 65, 17), (64, 64, 64), (31, 10, 129), (0, 3, 2), (3, 0, 2), (3, 2, 0)]


@pytest.mark.parametrize("shape", PRODUCTS, ids=str)
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)], ids=str)
def test_gemm(shape, transposed, to_gpu, rng):
    m, n, k = shape
    a, b, c = floats(rng, m, k), floats(rng, k, n), floats(rng, m, n)
    given = [np.ascontiguousarray(x.T) if t else x for x, t in zip((a, b), transposed, strict=True)]
    flags = dict(transpose_a=transposed[0], transpose_b=transposed[1])
    for options in ({}, dict(alpha=0.5), dict(alpha=2.0, beta=-1.5)):
        out, want = to_gpu(c), c.copy()
        got = kernels.gemm(*map(to_gpu, given), **flags, **options, out=out, precision="ieee")
        kernels.gemm(*given, **flags, **options, out=want, precision="ieee")
        assert got is out and same_bits(got.numpy(), want)


@pytest.mark.parametrize("shape", [(65, 64 * 64, 37), (129, 64 * 128, 21)], ids=["64", "128"])
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)], ids=str)
def test_products_of_large_tiles(shape, transposed, to_gpu, rng):
    """128 tiles of 64 x 64, and of 128 x 128; rows and k end within one."""
    m, n, k = shape
    a, b = floats(rng, m, k), floats(rng, k, n)
    given = [np.ascontiguousarray(x.T) if t else x for x, t in zip((a, b), transposed, strict=True)]
    flags = dict(transpose_a=transposed[0], transpose_b=transposed[1], precision="ieee")
    assert same_bits(kernels.gemm(*map(to_gpu, given), **flags).numpy(), kernels.gemm(*given, **flags))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_layers(name, to_gpu, rng):
    x, w, b, saved = floats(rng, 37, 20), floats(rng, 20, 33), floats(rng, 33), floats(rng, 37, 20)
    dy = floats(rng, 37, 33)
    how = dict(activation=name, precision="ieee")
    got = kernels.linear(to_gpu(x), to_gpu(w), to_gpu(b), scale=0.25, **how)
    assert same_bits(got.numpy(), kernels.linear(x, w, b, scale=0.25, **how))
    assert same_bits(kernels.linear(to_gpu(x), to_gpu(w), **how).numpy(), kernels.linear(x, w, **how))
    got = kernels.linear_backward_input(to_gpu(dy), to_gpu(w), to_gpu(saved), **how)
    assert same_bits(got.numpy(), kernels.linear_backward_input(dy, w, saved, **how))
    got = kernels.linear_backward_weights(to_gpu(x), to_gpu(dy))
    assert same_bits(got.numpy(), kernels.linear_backward_weights(x, dy, precision="ieee"))


def test_the_identity_needs_nothing_saved(to_gpu, rng):
    dy, w = floats(rng, 5, 3), floats(rng, 4, 3)
    got = kernels.linear_backward_input(to_gpu(dy), to_gpu(w)).numpy()
    assert same_bits(got, kernels.linear_backward_input(dy, w, precision="ieee"))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (0,), (257,), (3, 5, 7)], ids=str)
def test_elementwise(name, shape, to_gpu, rng):
    x, dy = 3 * floats(rng, *shape), floats(rng, *shape)
    assert same_bits(kernels.activation(name, to_gpu(x)).numpy(), kernels.activation(name, x))
    got = kernels.activation_backward(name, to_gpu(dy), to_gpu(x))
    assert same_bits(got.numpy(), kernels.activation_backward(name, dy, x))
    if name == "relu":
        assert same_bits(kernels.relu(to_gpu(x)).numpy(), kernels.relu(x))
        assert same_bits(kernels.relu_backward(to_gpu(dy), to_gpu(x)).numpy(), kernels.relu_backward(dy, x))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (300, 65)], ids=str)
def test_bias(shape, to_gpu, rng):
    x, b = floats(rng, *shape), floats(rng, shape[1])
    on_gpu = to_gpu(x)
    assert kernels.bias_add(on_gpu, to_gpu(b), out=on_gpu) is on_gpu
    assert same_bits(on_gpu.numpy(), kernels.bias_add(x, b))
    assert same_bits(kernels.bias_add_backward(to_gpu(x)).numpy(), kernels.bias_add_backward(x))


@pytest.mark.parametrize("options", [{}, dict(momentum=0.9), dict(momentum=0.9, nesterov=True)], ids=str)
def test_sgd_step(options, to_gpu, rng):
    w, dw, velocity = (floats(rng, 7, 43) for _ in range(3))
    on_gpu = [to_gpu(x) for x in (w, dw, velocity)]
    for arrays in (on_gpu, (w, dw, velocity)):
        held = dict(velocity=arrays[2]) if options else {}
        kernels.sgd_step(arrays[0], arrays[1], lr=0.1, weight_decay=0.01, **options, **held)
    assert same_bits(on_gpu[0].numpy(), w)
    assert same_bits(on_gpu[2].numpy(), velocity)


# Around what a thread keeps in registers, and where rows change hands.
CLASSES = [1, 2, 10, 16, 17, 64, 65, 256, 257, 1000, 1024, 1025, 4096, 4097, 32768, 33000]


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy(classes, smoothing, to_gpu, rng):
    """The CPU's bits up to 1024 classes, sums in another order above."""
    rows = 11 if classes < 2000 else 3
    x, y = 4 * floats(rng, rows, classes), rng.integers(0, classes, rows)
    same = same_bits if classes <= 1024 else lambda a, b: np.allclose(a, b, rtol=2e-5, atol=1e-9)
    weights = dict(class_weight=rng.random(classes), sample_weight=rng.random(rows))
    weights = {name: w.astype(np.float32) for name, w in weights.items()}
    for options in ({}, weights):
        for reduction in ("mean", "sum", "none"):
            how = dict(label_smoothing=smoothing, reduction=reduction)
            on_gpu = {name: to_gpu(w) for name, w in options.items()}
            loss, d = kernels.softmax_cross_entropy(to_gpu(x), to_gpu(y), **how, **on_gpu)
            want, d_want = kernels.softmax_cross_entropy(x, y, **how, **options)
            assert loss.shape == np.shape(want) and d.shape == x.shape
            assert np.allclose(loss.numpy(), want, rtol=1e-6 if classes <= 1024 else 2e-5)
            assert same(d.numpy(), d_want)
    assert same(kernels.softmax(to_gpu(x)).numpy(), kernels.softmax(x))


@pytest.mark.parametrize("classes", [3, 100, 2000, 33000])
def test_softmax_cross_entropy_in_place(classes, to_gpu, rng):
    x, y = floats(rng, 5, classes), rng.integers(0, classes, 5).astype(np.int32)
    want, d_want = kernels.softmax_cross_entropy(x, y)
    on_gpu = to_gpu(x)
    loss, d = kernels.softmax_cross_entropy(on_gpu, to_gpu(y), out=on_gpu)
    assert d is on_gpu and np.allclose(d.numpy(), d_want, rtol=2e-5, atol=1e-9)
    assert loss.numpy() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("classes", [3, 2000, 33000])
def test_special_logits(classes, to_gpu):
    """Infinities and NaN; huge logits; a row where all but one class is impossible."""
    x = np.zeros((6, classes), np.float32)
    x[0, 1], x[1, 1], x[2, 1] = np.inf, np.nan, -np.inf
    x[3], x[4, 1] = -np.inf, 1e38
    x[5] = -np.inf
    x[5, 1] = 0
    y = np.ones(6, np.int64)
    with np.errstate(invalid="ignore"):
        got = kernels.softmax_cross_entropy(to_gpu(x), to_gpu(y), reduction="none")
        want = kernels.softmax_cross_entropy(x, y, reduction="none")
    for a, b in zip(got, want, strict=True):
        assert np.allclose(a.numpy(), b, rtol=1e-5, atol=0, equal_nan=True)


def test_what_the_mean_of_many_rows_divides_by(to_gpu, rng):
    """Threads share its sum, in one order."""
    x, y = floats(rng, 5000, 3), rng.integers(0, 3, 5000)
    y[rng.random(5000) < 0.3] = -1
    weights = dict(class_weight=floats(rng, 3) ** 2, sample_weight=rng.random(5000).astype(np.float32))
    how = dict(ignore_index=-1, label_smoothing=0.1)
    want = kernels.softmax_cross_entropy(x, y, **how, **weights)
    on_gpu = {name: to_gpu(w) for name, w in weights.items()}
    once, again = (kernels.softmax_cross_entropy(to_gpu(x), to_gpu(y), **how, **on_gpu) for _ in range(2))
    for a, b, c in zip(once, again, want, strict=True):
        assert same_bits(a.numpy(), b.numpy()) and np.allclose(a.numpy(), c, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("classes", [3, 2000])
def test_ignored_labels(classes, to_gpu, rng):
    x, y = floats(rng, 300, classes), rng.integers(0, classes, 300)
    y[rng.random(300) < 0.5] = -100
    for labels in (y, np.full_like(y, -100)):
        for reduction in ("mean", "none"):
            how = dict(ignore_index=-100, reduction=reduction)
            loss, d = kernels.softmax_cross_entropy(to_gpu(x), to_gpu(labels), **how)
            want, d_want = kernels.softmax_cross_entropy(x, labels, **how)
            assert np.allclose(loss.numpy(), want, rtol=1e-5)
            assert np.allclose(d.numpy(), d_want, rtol=2e-5, atol=1e-9)


def test_numbers_of_an_array(to_gpu):
    """Of an array without dimensions, as of NumPy's."""
    loss = to_gpu(np.float32(0.25))
    assert float(loss) == 0.25 and loss and f"{loss:.3f}" == "0.250" and not to_gpu(np.float32(0))
    assert f"{loss}" == repr(loss) and f"{to_gpu([1.0])}".startswith("DeviceArray")
    with pytest.raises(ValueError, match="only a DeviceArray of one number is a number"):
        bool(to_gpu([1.0, 2.0]))


def test_what_dlpack_may_ask(to_gpu):
    array = to_gpu([1.0])
    for asked, error in (
        (dict(stream="x"), TypeError),
        (dict(stream=-5), ValueError),
        (dict(stream=0), ValueError),
        (dict(max_version=(1,)), TypeError),
        (dict(max_version=("a", 1)), TypeError),
        (dict(stream=True), TypeError),
        (dict(max_version=1), TypeError),
        (dict(copy=True), BufferError),
    ):
        with pytest.raises(error, match="__dlpack__"):
            array.__dlpack__(**asked)


def test_a_label_outside_is_told_later(cuda, to_gpu, rng):
    x = to_gpu(floats(rng, 700, 3))
    for wrong in (3, -1, 2**40):
        y = rng.integers(0, 3, 700)
        y[[600, 650]] = wrong
        loss, d = kernels.softmax_cross_entropy(x, to_gpu(y), reduction="none")
        with pytest.raises(ValueError, match=rf"labels\[600\] is {wrong}, outside 0 .. 2 of the 3 classes"):
            mlpfast.cuda.synchronize()
        assert np.flatnonzero(np.isnan(loss.numpy())).tolist() == [600, 650]
        assert not d.numpy()[600].any() and d.numpy()[599].any()
    loss, _ = kernels.softmax_cross_entropy(x, to_gpu(y))
    with pytest.raises(ValueError, match=r"labels\[600\]"):
        float(loss)
    assert np.isnan(loss.numpy())
    kernels.softmax_cross_entropy(x, to_gpu(y))
    if cuda == "shim":  # other streams have nothing to do with it, and faults of their own
        assert kernels.relu(x, stream=5).shape == (700, 3)
        for stream in (5, 6):
            kernels.softmax_cross_entropy(x, to_gpu(y), stream=stream)
        for stream in (5, 6):
            with pytest.raises(ValueError, match=r"labels\[600\]"):
                kernels.relu(x, stream=stream)
            assert kernels.relu(x, stream=stream).shape == (700, 3)
    with pytest.raises(ValueError, match=r"labels\[600\] .* a call before this one found it"):
        kernels.relu(x)
    assert kernels.relu(x).shape == (700, 3)


def test_arrays_of_other_libraries(to_gpu, any_stream, rng):
    """By the interface or by capsules, on the stream asked for."""
    x, y = floats(rng, 4, 3), np.array([0, 1, 2, 0])
    want = kernels.relu(x)
    by_interface = Interface(to_gpu(x))
    assert same_bits(kernels.relu(by_interface).numpy(), want)
    by_capsule = Unversioned(to_gpu(x))
    assert same_bits(kernels.relu(by_capsule, stream=7).numpy(), want)
    kernels.relu(by_capsule, stream=types.SimpleNamespace(cuda_stream=8))
    kernels.relu(by_capsule, stream=types.SimpleNamespace(__cuda_stream__=lambda: (0, 9)))
    assert by_capsule.streams == [7, 8, 9]
    loss, _ = kernels.softmax_cross_entropy(by_interface, Unversioned(to_gpu(y)))
    assert loss.numpy() == pytest.approx(kernels.softmax_cross_entropy(x, y)[0])


def test_the_callers_kind_of_array(to_gpu, rng, monkeypatch):
    module = types.ModuleType("some_library")

    class Tensor(Unversioned):
        __module__ = "some_library"

    class Mine(Tensor):  # a user's own
        pass

    module.from_dlpack = Tensor
    monkeypatch.setitem(sys.modules, "some_library", module)
    x = floats(rng, 4, 3)
    for kind in (Tensor, Mine):
        given = kind(to_gpu(x))
        assert type(kernels.relu(given)) is Tensor
        loss, d = kernels.softmax_cross_entropy(given, Tensor(to_gpu(np.zeros(4, np.int64))), out=given)
        assert type(loss) is Tensor and d is given
        assert kernels.sgd_step(given, given2 := kind(to_gpu(x)), lr=0.0) is None and given2.streams == [1]


def test_device_arrays(to_gpu):
    for kind in (np.float32, np.float64, np.int32, np.uint8, bool, ">f4"):
        array = np.arange(6).reshape(2, 3).astype(kind)
        on_gpu = to_gpu(array.T)
        assert (on_gpu.shape, on_gpu.ndim, on_gpu.size, len(on_gpu)) == ((3, 2), 2, 6, 3)
        assert on_gpu.dtype == array.dtype.newbyteorder("=") and on_gpu.device == 0
        assert np.array_equal(on_gpu.numpy(), array.T)
        assert repr(on_gpu) == f"DeviceArray(shape=(3, 2), dtype={on_gpu.dtype}, GPU 0)"
    assert to_gpu([]).numpy().shape == (0,) and to_gpu(np.float32(3)).numpy() == 3
    with pytest.raises(TypeError, match="no length"):
        len(to_gpu(1.0))
    with pytest.raises(TypeError, match="array has dtype <U1; it must be of numbers"):
        to_gpu(["a"])
    capsule = to_gpu([1.0]).__dlpack__(stream=-1, max_version=(1, 0))
    assert "dltensor_versioned" in repr(capsule)
    with pytest.raises(ValueError, match="stream 0 is ambiguous"):
        to_gpu([1.0]).__dlpack__(stream=0)
    for asked in (dict(copy=True), dict(dl_device=(1, 0))):
        with pytest.raises(BufferError, match="a DeviceArray"):
            to_gpu([1.0]).__dlpack__(**asked)
    with pytest.raises(TypeError, match=r"use numpy\(\)"):
        np.asarray(to_gpu([1.0]))
    assert float(to_gpu(2.5)) == 2.5


def test_memory_is_kept_while_another_stream_reads_it(to_gpu, any_stream):
    """Libraries reuse it in the order of their own stream."""
    array = Unversioned(to_gpu(np.ones(3, np.float32)))
    alive = weakref.ref(array)
    kernels.relu(array, stream=5)
    del array
    assert alive()
    mlpfast.cuda.synchronize()
    assert not alive()


def test_producers_that_lie(to_gpu):
    class Liar(Unversioned):
        def __dlpack__(self, *, stream):
            return np.ones(3, np.float32).__dlpack__()

    with pytest.raises(
        TypeError, match=r"relu: x of type Liar cannot be read: .* gave memory of another device"
    ):
        kernels.relu(Liar(to_gpu(np.ones(3, np.float32))))

    class Refusing(Unversioned):
        def __dlpack__(self, *, stream):
            raise BufferError("it needs a gradient")

    with pytest.raises(TypeError, match="gemm: b of type Refusing cannot be read: it needs a gradient"):
        kernels.gemm(to_gpu(np.ones((1, 3), np.float32)), Refusing(to_gpu(np.ones((3, 1), np.float32))))
    array = to_gpu(np.ones(3, np.float32))
    for lie, why in (
        (dict(data=(0, False), strides=None), "its memory is null"),
        (dict(mask=array), "arrays with a mask are not taken"),
        (dict(stream=-3), "its stream is a negative number"),
        (dict(data="x"), ".*"),
    ):
        with pytest.raises(TypeError, match=f"relu: x of type Interface cannot be read: {why}"):
            kernels.relu(Interface(array, **lie))


def test_what_cannot_be(to_gpu, rng):
    a, b = floats(rng, 4, 3), floats(rng, 3, 5)
    g = to_gpu(a)
    with pytest.raises(ValueError, match="gemm: b lies in the host's memory, other arrays on GPU 0"):
        kernels.gemm(g, b)
    with pytest.raises(ValueError, match="out lies in the host's memory"):
        kernels.relu(g, out=np.empty_like(a))
    with pytest.raises(ValueError, match="labels lies in the host's memory"):
        kernels.softmax_cross_entropy(g, [0, 1, 2, 0])
    with pytest.raises(
        mlpfast.DeviceError, match="relu: x has dtype float64; GPU kernels compute in float32"
    ):
        kernels.relu(to_gpu(a.astype(np.float64)))
    with pytest.raises(TypeError, match="relu: x has dtype int32; GPU kernels take float32"):
        kernels.relu(to_gpu(a.astype(np.int32)))
    with pytest.raises(ValueError, match="relu: x is not contiguous"):
        kernels.relu(Interface(g, strides=(4, 16), shape=(3, 4)))
    address = g.__cuda_array_interface__["data"][0]
    with pytest.raises(ValueError, match="relu: out is read-only"):
        kernels.relu(g, out=Interface(g, data=(address, True)))
    with pytest.raises(ValueError, match="inner dimensions differ"):
        kernels.gemm(g, g)
    with pytest.raises(ValueError, match="out overlaps an input"):
        kernels.gemm(g, to_gpu(np.eye(3, dtype=np.float32)), out=g)
    with pytest.raises(TypeError, match="labels must be int32 or int64 on a GPU, got dtype uint8"):
        kernels.softmax_cross_entropy(g, to_gpu(np.zeros(4, np.uint8)))
    with pytest.raises(TypeError, match="stream is 'fast'; it must be a CUDA stream"):
        kernels.relu(g, stream="fast")
    with pytest.raises(ValueError, match="relu: stream is given, but no array lies on a GPU"):
        kernels.relu(a, stream=1)
