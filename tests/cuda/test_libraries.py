"""The libraries themselves, whose arrays and streams other tests play: on a real GPU alone."""

import contextlib

import numpy as np
import pytest
from tolerances import same_bits

import mlpfast
from mlpfast import kernels

pytestmark = pytest.mark.filterwarnings("default")  # what libraries warn of is theirs


def library(cuda, name):
    if cuda != "gpu":
        pytest.skip("for a real GPU")
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


@pytest.fixture
def torch(cuda):
    torch = library(cuda, "torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no GPU")
    return torch


def test_streams_of_pytorch(torch, rng):
    """Results wait for producers that take their time, on whatever stream these work."""
    x, other = torch.from_numpy(rng.standard_normal((300, 70), np.float32)), torch.cuda.Stream()
    want, there = kernels.relu(x.numpy()), x.cuda()
    torch.cuda.synchronize()

    def delayed():
        y = torch.zeros(x.shape, device="cuda")
        torch.cuda._sleep(200_000_000)  # cycles, a tenth of a second
        return y.copy_(there)  # from the host's memory it would be waited for

    with torch.cuda.stream(other):
        on_current = kernels.relu(delayed())
        assert same_bits(on_current.cpu().numpy(), want)
    on_other = kernels.relu(delayed(), stream=other)
    other.synchronize()
    assert same_bits(on_other.cpu().numpy(), want)
    with torch.cuda.stream(other):
        torch.cuda._sleep(200_000_000)
    lent = torch.from_dlpack(kernels.relu(mlpfast.cuda.from_numpy(x.numpy()), stream=other))
    assert same_bits(lent.cpu().numpy(), want)


def test_results_for_a_stream_are_made_for_it(torch, rng):
    """Memory that is freed behind work of that stream is not given out before it is done."""
    x, w = (torch.from_numpy(rng.standard_normal((512, 512), np.float32)).cuda() for _ in range(2))
    want, other = (x.relu() @ w).cpu().numpy(), torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(20):
        y = kernels.relu(x, stream=other)
        with torch.cuda.stream(other):
            torch.cuda._sleep(10_000_000)
            z = y @ w
        del y
        torch.full((512, 512), float("nan"), device="cuda")  # on the current stream, in what was freed
        other.synchronize()
        assert same_bits(z.cpu().numpy(), want)


def test_tensors_written_by_calls_on_other_arrays(torch, rng):
    """The tensor's stream, which none of the inputs knows, comes after them."""
    x = mlpfast.cuda.from_numpy(rng.standard_normal((300, 70), np.float32))
    out, side = torch.zeros(300, 70, device="cuda"), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        kernels.relu(x, out=out)
        got = out + 0
    side.synchronize()
    assert same_bits(got.cpu().numpy(), kernels.relu(x.numpy()))


def test_tensors_with_gradients(torch):
    """Updated where none is recorded, as on the CPU; else what PyTorch says is passed on, with the name."""
    w = torch.ones(3, device="cuda", requires_grad=True)
    with torch.no_grad():
        assert kernels.sgd_step(w, torch.ones(3, device="cuda"), lr=0.5) is None
        assert kernels.relu(w).eq(0.5).all() and kernels.relu(w, out=w) is w
    with pytest.raises(TypeError, match=r"relu: x of type Tensor cannot be read: .*gradient"):
        kernels.relu(w)
    with pytest.raises(TypeError, match="relu: x of type Tensor cannot be read: its dtype is bfloat16"):
        kernels.relu(torch.ones(3, device="cuda", dtype=torch.bfloat16))


def test_memory_that_jax_gives_away(cuda):
    """A kernel that has not begun reads what JAX may then not donate."""
    jax = library(cuda, "jax")
    if jax.default_backend() != "gpu":
        pytest.skip("jax has no GPU")
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    for _ in range(20):
        x = jax.numpy.ones((2048, 2048))
        got = kernels.relu(x)
        with contextlib.suppress(RuntimeError):  # JAX may refuse to give away what is still read
            overwrite(x)
        assert np.all(np.asarray(got) == 1)


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.relu,
        lambda x: kernels.gemm(x, x, transpose_a=True),  # its k is cut into slices
        lambda x: kernels.gemm(x, x, transpose_b=True, precision="medium"),  # on tensor cores
        lambda x: kernels.softmax_cross_entropy(x, x.argmax(dim=1))[1],
        kernels.bias_add_backward,
    ],
    ids=["relu", "slices", "tensor cores", "softmax_cross_entropy", "sums"],
)
def test_a_graph_of_pytorchs(kernel, torch, rng):
    """Recorded once, a call finds what lies there when it is replayed."""
    x = torch.from_numpy(rng.standard_normal((1024, 256), np.float32)).cuda()
    kernel(x)  # kernels are loaded before
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = kernel(x)
    for _ in range(2):
        x.copy_(torch.from_numpy(rng.standard_normal((1024, 256), np.float32)))
        graph.replay()
        torch.cuda.synchronize()
        assert same_bits(got.cpu().numpy(), kernel(x).cpu().numpy())


def test_calls_beside_a_graph_of_pytorchs(torch):
    """On other streams; they do not end its recording."""
    x, y = torch.ones(3, 4, device="cuda"), mlpfast.cuda.from_numpy(np.ones((3, 4), np.float32))
    kernels.relu(x)
    graph, other = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph):
        got = x + 1
        assert np.all(kernels.relu(y, stream=other).numpy() == 1)
        mlpfast.MLP((4, 3, 2), device="cuda").predict(np.ones((5, 4), np.float32))
    graph.replay()
    torch.cuda.synchronize()
    assert got.cpu().eq(2).all()


@pytest.mark.parametrize("name", ["jax", "cupy", "numba"])
def test_arrays_of(name, cuda, rng, monkeypatch):
    """They come, are computed on, and the same kind goes back, again and again."""
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    module, x = library(cuda, name), rng.standard_normal((300, 70), np.float32)
    if name == "numba":
        from numba import cuda as module
    has_gpu = {"jax": lambda: module.default_backend() == "gpu", "numba": lambda: module.is_available()}
    if name in has_gpu and not has_gpu[name]():
        pytest.skip(f"{name} has no GPU")
    to_gpu = {"jax": lambda: module.numpy.asarray(x), "numba": lambda: module.to_device(x)}
    want = kernels.activation("leaky_relu", kernels.relu(x))
    for _ in range(40):  # more calls than arrays are kept for
        given = to_gpu.get(name, lambda: module.asarray(x))()
        got = kernels.activation("leaky_relu", kernels.relu(given))
        assert type(got) is type(given)
        host = got.get() if name == "cupy" else got.copy_to_host() if name == "numba" else got
        assert same_bits(np.asarray(host), want)
    mlpfast.cuda.synchronize()
