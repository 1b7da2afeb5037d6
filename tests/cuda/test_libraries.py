"""The libraries themselves, whose arrays and streams other tests play: on a real GPU alone."""

import numpy as np
import pytest
from tolerances import same_bits

import mlpfast
from mlpfast import kernels


def library(cuda, name):
    if cuda != "gpu":
        pytest.skip("for a real GPU")
    return pytest.importorskip(name, reason=f"{name} is not installed")


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
