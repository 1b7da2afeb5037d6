"""How long memory of a GPU is kept."""

import weakref

import numpy as np
import pytest
from lent import Lent

import mlpfast
from mlpfast import kernels


def lent_ones(*shape):
    return Lent(mlpfast.cuda.from_numpy(np.ones(shape, np.float32)))


class Stream:
    """Of PyTorch."""


@pytest.fixture
def busy(cuda, monkeypatch):
    """A GPU that is not done with anything before it is waited for."""
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays")
    monkeypatch.setenv("SHIM_BUSY", "600")
    yield monkeypatch
    mlpfast.cuda.synchronize()


def alive(references):
    return sum(reference() is not None for reference in references)


def test_results_end_when_nobody_has_them(busy):
    """Their memory is given back in the order of the calls."""
    x = mlpfast.cuda.from_numpy(np.ones(3, np.float32))
    assert alive([weakref.ref(kernels.relu(x)) for _ in range(9)]) == 0
    assert (
        alive([weakref.ref(kernels.softmax_cross_entropy(x.reshape(1, 3), mlpfast.cuda.from_numpy([0]))[0])])
        == 0
    )


def test_arrays_of_others_are_kept_for_some_calls(busy):
    """The host waits before it is far ahead."""
    given = [lent_ones(3) for _ in range(40)]
    references = [weakref.ref(array) for array in given]
    for array in given:
        kernels.relu(array, stream=5)
    del given, array
    assert [bool(r()) for r in references] == [False] * 24 + [True] * 16


def test_arrays_of_others_are_waited_for_where_tensor_cores_lack_memory(busy):
    """These take more of it than the product."""
    x = lent_ones(300)
    kernels.relu(x)
    reference = weakref.ref(x)
    del x
    a, b, out = (mlpfast.cuda.from_numpy(np.zeros(s, np.float32)) for s in ((64, 64), (64, 8192), (64, 8192)))
    assert reference()
    busy.setenv("SHIM_MEMORY", str(1 << 20))
    with pytest.raises(mlpfast.DeviceError, match="bytes of memory left"):
        kernels.gemm(a, b, out=out)
    assert not reference()


def test_arrays_of_others_are_waited_for_where_memory_ends(busy):
    x = lent_ones(300)
    kernels.relu(x)
    reference = weakref.ref(x)
    del x
    assert reference()
    y = mlpfast.cuda.from_numpy(np.ones(300, np.float32))
    busy.setenv("SHIM_MEMORY", "1000")
    with pytest.raises(mlpfast.DeviceError, match="no 1200 bytes of memory left"):
        kernels.relu(y)
    assert not reference()


@pytest.fixture
def recorded(cuda, monkeypatch):
    """A stream that records a graph."""
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays")
    monkeypatch.setenv("SHIM_CAPTURING", "5")
    return 5


def test_a_graph_takes_arrays_of_before(recorded):
    """Their owner has waited for them."""
    x = np.float32([[-1, 2]])
    given = mlpfast.cuda.from_numpy(x)
    got = kernels.relu(given, stream=recorded)
    assert np.array_equal(kernels.relu(got, stream=recorded).numpy(), kernels.relu(x))
    assert np.array_equal(kernels.relu(given).numpy(), kernels.relu(x))


@pytest.mark.parametrize("lent", [False, True])
def test_memory_that_ends_while_a_graph_is_recorded(lent, recorded, monkeypatch):
    """It is given back afterwards; the stream of its last use lives as long."""
    stream = Stream()
    stream.cuda_stream = 6 if lent else recorded
    monkeypatch.setenv("SHIM_CAPTURING", "0")
    given, other = (mlpfast.cuda.from_numpy(np.ones(3, np.float32)) for _ in range(2))
    array = kernels.relu(other, stream=stream)
    if lent:
        array.__dlpack__(stream=7)
    monkeypatch.setenv("SHIM_CAPTURING", str(recorded))
    reference = weakref.ref(stream)
    del array, other, stream
    kernels.relu(given, out=given, stream=recorded)
    assert reference()
    monkeypatch.setenv("SHIM_CAPTURING", "0")
    kernels.relu(given)
    assert bool(reference()) == lent
    mlpfast.cuda.synchronize()
    assert not reference()


@pytest.fixture
def used(cuda):
    """Makes an array that a stream of PyTorch used last, which lives as long as its memory waits."""
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays")
    mlpfast.cuda.synchronize()

    def use(x):
        stream = Stream()
        stream.cuda_stream = 6
        return kernels.relu(x, stream=stream), weakref.ref(stream)

    return use


def ones(size):
    return mlpfast.cuda.from_numpy(np.ones(size, np.float32))


def test_memory_that_a_library_had_on_the_same_stream(used):
    """It goes at once, in the order of that stream; from another stream's call on it waits."""
    array, stream = used(ones(3))
    array.__dlpack__(stream=6)
    del array
    assert not stream()
    array, _ = used(ones(3))
    array.__dlpack__(stream=6)
    later = Stream()
    later.cuda_stream = 7
    kernels.relu(array, out=array, stream=later)
    waits = weakref.ref(later)
    del array, later
    assert waits()
    mlpfast.cuda.synchronize()
    assert not waits()


@pytest.fixture
def lend(used):
    """Makes so many arrays that another stream has when they end; returns what their streams are known by."""

    def lend(count, x):
        streams = []
        for _ in range(count):
            array, stream = used(x)
            array.__dlpack__(stream=7)
            streams.append(stream)
            del array
        return streams

    return lend


@pytest.mark.parametrize(("count", "size"), [(3, 1 << 23), (257, 1)], ids=["large", "many"])
def test_memory_of_a_library_is_waited_for_where_it_is_much(count, size, lend):
    x = ones(size)
    streams = lend(count, x)
    assert alive(streams) == count
    kernels.relu(x)
    assert alive(streams) == 0


def test_memory_of_a_library_is_waited_for_where_memory_ends(lend, monkeypatch):
    x = ones(300)
    (stream,) = lend(1, x)
    kernels.relu(x)
    assert stream()
    monkeypatch.setenv("SHIM_MEMORY", "1000")
    with pytest.raises(mlpfast.DeviceError, match="no 1200 bytes of memory left"):
        kernels.relu(x)
    assert not stream()


def test_waiting_gives_memory_back(cuda, monkeypatch):
    """What is not used; that it fails shows that it is asked for."""
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays")
    mlpfast.cuda.synchronize()
    monkeypatch.setenv("SHIM_TRIM", "1")
    with pytest.raises(mlpfast.DeviceError, match="giving memory back failed"):
        mlpfast.cuda.synchronize()
