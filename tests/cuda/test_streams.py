"""What a library is asked for on which stream: CuPy's part is played, a driver takes real streams only."""

import contextlib
import sys
import types

import numpy as np
import pytest
from lent import Lent

import mlpfast
from mlpfast import kernels


class Array(Lent):
    __module__ = "cupy"

    def __init__(self, array):
        super().__init__(array)
        self.device = contextlib.nullcontext()
        self.device.id = 0


@contextlib.contextmanager
def external(number):
    """CuPy works on that stream meanwhile."""
    sys.modules["cupy"].on.append(number)
    yield
    sys.modules["cupy"].on.pop()


def array(kind, *shape):
    return kind(mlpfast.cuda.from_numpy(np.ones(shape, np.float32)))


@pytest.fixture
def current(cuda, monkeypatch):
    """The stream on which CuPy works."""
    if cuda != "shim":
        pytest.skip("a driver takes real streams only")
    stream = types.SimpleNamespace(ptr=3)
    cupy = types.ModuleType("cupy")
    cupy.on, cupy.made = [3], []  # streams that it works on, those that it made arrays for
    cupy.cuda = types.SimpleNamespace(get_current_stream=lambda device: stream, ExternalStream=external)
    cupy.float32, cupy.from_dlpack = np.float32, Array
    cupy.empty = lambda shape, dtype: cupy.made.append(cupy.on[-1]) or array(Array, *shape)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return stream


def test_nothing_is_waited_for_on_the_librarys_own_stream(current):
    x, dy = array(Array, 2, 3), array(Array, 2, 3)
    for stream in (None, current, 3):
        made = kernels.relu_backward(dy, x, stream=stream)
        assert type(made) is Array and x.streams.pop() == dy.streams.pop() == -1 == made.streams[0]
    kernels.relu(x, stream=4)
    assert x.streams == [4]
    current.ptr = 0
    kernels.relu(x)
    assert x.streams == [4, -1]


@pytest.mark.parametrize("other", [array, lambda _, *shape: array(Lent, *shape).array])
def test_arrays_of_several_libraries(other, current):
    """Each waits for its own; those of mlpfast say so themselves."""
    x, dy = array(Array, 2, 3), other(Lent, 2, 3)
    kernels.relu_backward(dy=x, y=dy)
    assert x.streams == [3] and getattr(dy, "streams", [3]) == [3]


def test_results_are_made_for_the_stream_of_the_call(current):
    """A library gives memory out, and takes it back, in the order of a stream."""
    x = array(Array, 2, 3)
    kernels.relu(x)
    kernels.relu(x, stream=4)
    kernels.relu(x, stream=1)  # the legacy default stream
    assert sys.modules["cupy"].made == [3, 4, 0]


def test_results_that_pytorch_makes(monkeypatch):
    """For a stream that is not its current one, which is told; an external stream 0 is no default stream."""
    made, on = [], ["current"]

    @contextlib.contextmanager
    def working(stream):
        on.append(stream)
        yield
        on.pop()

    class Tensor:
        __module__, device = "torch", "cuda:0"
        is_neg = is_conj = lambda self: False

        def record_stream(self, stream):
            made[-1].append(stream)

    cuda = types.SimpleNamespace(
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=3),
        default_stream=lambda device: "default",
        ExternalStream=lambda number, device: f"external {number}",
        stream=working,
    )
    torch = types.ModuleType("torch")
    torch.from_dlpack, torch.float32, torch.cuda = Tensor, np.float32, cuda
    torch.empty = lambda shape, dtype, device: made.append([on[-1]]) or Tensor()
    monkeypatch.setitem(sys.modules, "torch", torch)
    for stream in (None, 3, 7, 0, 1, types.SimpleNamespace(__cuda_stream__=lambda: (0, 1))):
        mlpfast.arrays._place(Tensor(), [Tensor()], stream)[2]((2, 3))
    assert [m[0] for m in made] == ["current", "current", "external 7", *["default"] * 3]
    assert [len(m) for m in made] == [1, 1, 2, 2, 2, 2]


def test_where_a_call_computes(current, monkeypatch):
    """On the stream of the first library that has one, which the others' streams wait for."""
    ours, theirs = array(lambda a: a, 2, 3), array(Array, 2, 3)
    monkeypatch.setattr("mlpfast.arrays._maker", lambda *how: None)
    place = mlpfast.arrays._place
    assert place(ours, [ours], None) == (0, None, None, False, [])
    assert place(ours, [ours, theirs], None) == (3, current, None, False, [])
    assert place(theirs, [theirs], None) == (3, current, None, True, [])
    assert place(ours, [ours, theirs], 7) == (7, 7, None, False, [3])
    monkeypatch.setattr("mlpfast.arrays._library", lambda a: "numba" if a is ours else "cupy")
    assert place(theirs, [theirs, ours], None)[3:] == (False, [0])


def one_that_fails_once():
    failures = [MemoryError]

    def empty(shape, dtype):
        if failures:
            raise failures.pop()
        return array(Array, *shape)

    return empty


def test_ctrl_c_while_the_library_makes_the_result(current, monkeypatch):
    """It is no lack of memory, for which arrays that are kept would be waited for."""

    def interrupted(shape, dtype):
        raise KeyboardInterrupt

    monkeypatch.setenv("SHIM_BUSY", "600")
    x = array(Array, 2, 3)
    kernels.relu(x, stream=4)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["cupy"], "empty", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kernels.relu(x, stream=4)
        patch.setattr(sys.modules["cupy"], "empty", one_that_fails_once())
        kernels.relu(x, stream=4)
    mlpfast.cuda.synchronize()
