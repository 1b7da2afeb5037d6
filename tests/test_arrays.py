"""Arrays of other libraries in the host's memory: read and written in place, results of the caller's kind."""

import sys
import types

import numpy as np
import pytest
from lent import Lent
from problems import floats
from processes import output_of
from tolerances import same_bits

from mlpfast import MLP, SGD, Trainer, kernels


@pytest.fixture(params=["torch", "jax", "some_library"])
def library(request, monkeypatch):
    """from_numpy, to_numpy"""
    if request.param == "torch":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        return torch.from_numpy, torch.Tensor.numpy
    if request.param == "jax":
        jax = pytest.importorskip("jax", reason="JAX is not installed")
        return jax.numpy.asarray, np.asarray

    class Tensor(Lent):
        __module__ = "some_library"

        def __init__(self, array):
            super().__init__(array if type(array) is np.ndarray else np.from_dlpack(array))

    module = types.ModuleType("some_library")
    module.from_dlpack = Tensor
    monkeypatch.setitem(sys.modules, "some_library", module)
    return Tensor, lambda tensor: tensor.array


def test_results_are_of_the_callers_library(library, rng):
    make, numpy = library
    x, w, b, y = floats(rng, 6, 5), floats(rng, 5, 4), floats(rng, 4), rng.integers(0, 4, 6)
    kind = type(make(x))
    for w_given in (make(w), w):  # mixed with NumPy's
        got = kernels.linear(make(x), w_given, make(b), activation="tanh")
        assert type(got) is kind
        assert same_bits(numpy(got), kernels.linear(x, w, b, activation="tanh"))
    z = kernels.linear(x, w)
    loss, d = kernels.softmax_cross_entropy(make(z), make(y))
    want, d_want = kernels.softmax_cross_entropy(z, y)
    assert loss == want and type(d) is kind and same_bits(numpy(d), d_want)


def test_outputs_are_written_in_place(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    out = torch.empty(4, 3)
    assert kernels.relu(x, out=out) is out and torch.equal(out, torch.relu(x))
    loss, d = kernels.softmax_cross_entropy(x, y, out=out)
    assert d is out and loss == pytest.approx(float(torch.nn.functional.cross_entropy(x, y)))
    before, at = x.clone(), x.data_ptr()
    kernels.sgd_step(x, out, lr=0.5)
    assert torch.equal(x, before - 0.5 * out) and x.data_ptr() == at
    view = torch.randn(3, 4).T  # any stride is read
    assert torch.equal(kernels.relu(view), torch.relu(view))
    with pytest.raises(ValueError, match="out is not C-contiguous"):
        kernels.relu(x, out=view)


def test_arrays_that_nobody_may_write(rng):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x = jax.numpy.ones((2, 3))
    with pytest.raises(ValueError, match="relu: out is read-only"):
        kernels.relu(x, out=x)


def test_arrays_that_were_deleted():
    """Or donated to a computation; JAX itself does not know where they lie."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x = jax.numpy.ones((2, 3))
    x.delete()
    model, labels = MLP([3, 2]), jax.numpy.zeros(1, int)
    labels.delete()
    for call, argument in [
        (lambda: kernels.relu(x), "relu: x"),
        (lambda: model.predict(x), "predict: x"),
        (lambda: model.evaluate(np.ones((1, 3)), labels), "evaluate: y"),
    ]:
        with pytest.raises(TypeError, match=f"{argument} of type {type(x).__name__} cannot be read.*deleted"):
            call()


def test_what_a_library_refuses(rng):
    """Nothing is read that is not simply there: DLPack would let some of these pass."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    negative = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    for tensor, text in [
        (torch.ones(3, requires_grad=True), "detach"),
        (negative, "negative bit"),
        (torch.ones(3, dtype=torch.bfloat16), "BFloat16"),
    ]:
        with pytest.raises(TypeError, match=f"relu: x of type Tensor cannot be read.*: .*{text}"):
            kernels.relu(tensor)
    with pytest.raises(TypeError, match="x has dtype int64"):
        kernels.relu(torch.ones(3, dtype=torch.int64))


def test_models_read_them(library, rng):
    make, numpy = library
    model, x, y = MLP([5, 3]), floats(rng, 6, 5), rng.integers(0, 3, 6)
    kind = type(make(x))
    for ask in (model.forward, model.predict, model.predict_proba):
        got = ask(make(x))
        assert type(got) is kind and np.array_equal(numpy(got), ask(x))
    assert model.evaluate(make(x), make(y)) == model.evaluate(x, y)
    other = model.copy()
    weights = np.arange(6, dtype=np.float32)
    for m, given, weight in ((model, (x, y), weights), (other, (make(x), make(y)), make(weights))):
        Trainer(m, SGD(0.1)).fit(*given, epochs=2, batch_size=4, validation_data=given, sample_weight=weight)
    assert same_bits(model.parameters[0], other.parameters[0])


def test_a_kernel_call_imports_no_library():
    code = """if True:
        import sys, numpy as np, mlpfast
        mlpfast.kernels.relu(np.ones(3, np.float32))
        assert not {"torch", "jax", "cupy", "numba", "mlpfast._cuda"} & set(sys.modules)
    """
    output_of(code)
