"""Gradients of whole networks: the float64 reference against central differences, the native step against it.

Every activation, on shapes that cross gemm tiles and slabs of rows; class and sample weights against PyTorch.
"""

import numpy as np
import pytest
from problems import Problem, reference_gradients
from tolerances import unit

from mlpfast import MLP
from mlpfast.kernels import ACTIVATIONS

NAMES = pytest.mark.parametrize("name", ACTIVATIONS)
H = 1e-6
# sizes, rows
SHAPES = {
    "small": ((5, 4, 3), 7),
    "tiles": ((33, 65, 17, 10), 131),
    "narrow": ((40, 1, 31, 2), 15),
    "several passes": ((17, 13, 3), 1100),
    "wide": ((1030, 15, 1031, 3), 9),
    "one row": ((47, 29, 5), 1),
    "no hidden layer": ((65, 33), 29),
}
EVERY_SHAPE = pytest.mark.parametrize(("sizes", "rows"), SHAPES.values(), ids=SHAPES)
WEIGHTS = {
    "class": dict(class_weight=[0.5, 2.0, 0.0, 1.0, 3.0]),
    "sample": dict(sample_weight=np.arange(40) % 3),
    "both": dict(class_weight=[0.5, 2.0, 0.0, 1.0, 3.0], sample_weight=np.linspace(0, 2, 40)),
}
EVERY_WEIGHT = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)


def problem(sizes, rows, name="relu", **options):
    return Problem(sizes, rows, rows, name, model=dict(init="xavier", **options), lr=1.0)


class Doubles:
    """A model's parameters as float64 arrays that can be moved one number at a time."""

    def __init__(self, model):
        self.activations, self.input_scale, self.input_shift = model.activations, 0.7, 0.1
        self.parameters = [p.astype(np.float64) for p in model.parameters]

    def slope(self, parameter, at, x, y):
        losses, old = [], parameter[at]
        for moved in (old + H, old - H):
            parameter[at] = moved
            losses.append(reference_gradients(self, x, y)[0])
        parameter[at] = old
        return (losses[0] - losses[1]) / (2 * H)


@NAMES
@EVERY_SHAPE
def test_the_reference_against_central_differences(name, sizes, rows, rng):
    """At four numbers of each parameter, relative to its largest gradient."""
    case = problem(sizes, rows, name)
    x, y = case.data(rng)
    model = Doubles(case.trainer().model)
    for parameter, gradient in zip(model.parameters, reference_gradients(model, x, y)[1], strict=True):
        for _ in range(4):
            at = tuple(rng.integers(0, parameter.shape))
            assert abs(model.slope(parameter, at, x, y) - gradient[at]) <= 1e-6 * np.abs(gradient).max()


def assert_close(got, want, sizes, rows):
    """Within k u of the largest element, k the longest sum on its way and the rounding of each layer."""
    for a, b in zip(got, want, strict=True):
        bound = (max(*sizes, rows) + 200) * unit(a.dtype)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= bound * np.abs(b).max()


@NAMES
@EVERY_SHAPE
def test_gradients_of_a_model(name, sizes, rows, dtype, rng, isa):
    case = problem(sizes, rows, name, input_scale=0.5, input_shift=0.25).of(dtype)
    x, y = case.data(rng)
    model = case.trainer().model
    loss, gradients = model.loss_and_gradients(x, y)
    want, expected = reference_gradients(model, x, y)
    assert loss == pytest.approx(want, rel=100 * unit(dtype))
    assert all(g.dtype == dtype for g in gradients)
    assert_close(gradients, expected, sizes, rows)


@NAMES
@EVERY_SHAPE
def test_float64_gradients_against_central_differences(name, sizes, rows, rng):
    """At four numbers of each parameter, relative to its largest gradient."""
    case = problem(sizes, rows, name, input_scale=0.7, input_shift=0.1).of(np.float64)
    x, y = case.data(rng)
    model = case.trainer().model

    def loss_with(parameter, at, value):
        old, parameter[at] = parameter[at], value
        loss = model.evaluate(x, y)["loss"]
        parameter[at] = old
        return loss

    for parameter, gradient in zip(model.parameters, model.loss_and_gradients(x, y)[1], strict=True):
        for _ in range(4):
            at = tuple(rng.integers(0, parameter.shape))
            above, below = (loss_with(parameter, at, parameter[at] + step) for step in (H, -H))
            assert abs((above - below) / (2 * H) - gradient[at]) <= 1e-6 * np.abs(gradient).max()


@EVERY_WEIGHT
def test_weighted_step(weights, dtype, rng, isa):
    """With zero weights and lr 1, a step is the gradient."""
    case = Problem((12, 5), 40, 40, model=dict(init="zeros"), lr=1.0).of(dtype)
    x, y = case.data(rng)
    trainer = case.trainer()
    trainer.model.parameters[1][...] = 0
    want = reference_gradients(trainer.model, x, y, **weights)[1]
    trainer.fit(x, y, epochs=1, batch_size=40, **weights)
    assert_close([-p for p in trainer.model.parameters], want, case.sizes, 40)


@EVERY_WEIGHT
def test_pytorch_weights_alike(weights, rng, torch):
    """In float64 and by definition: PyTorch's class weights times each row's, and the mean over both."""
    model, x, y = MLP([12, 5], seed=3), rng.standard_normal((40, 12)), rng.integers(0, 5, 40)
    w, b = (torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in model.parameters)
    by_class = torch.tensor(weights.get("class_weight", [1.0] * 5), dtype=torch.float64)
    by_row = torch.tensor(weights.get("sample_weight", np.ones(40)), dtype=torch.float64)
    rows = torch.nn.functional.cross_entropy(
        torch.tensor(x) @ w + b, torch.tensor(y), weight=by_class, reduction="none"
    )
    loss = (rows * by_row).sum() / (by_class[y] * by_row).sum()
    loss.backward()
    got, gradients = reference_gradients(model, x, y, **weights)
    assert got == pytest.approx(loss.item(), rel=1e-12)
    for ours, theirs in zip(gradients, (w, b), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=0, atol=1e-13)


@NAMES
def test_pytorch_gradients_alike(name, dtype, rng, torch):
    model, x, y = (
        MLP([12, 33, 5], activation=name, dtype=dtype.__name__),
        rng.standard_normal((40, 12), dtype),
        rng.integers(0, 5, 40),
    )
    w1, b1, w2, b2 = parameters = [torch.tensor(p.copy(), requires_grad=True) for p in model.parameters]
    act = {"identity": lambda z: z}.get(name) or getattr(torch.nn.functional, name)
    loss = torch.nn.functional.cross_entropy(act(torch.tensor(x) @ w1 + b1) @ w2 + b2, torch.tensor(y))
    loss.backward()
    got, gradients = model.loss_and_gradients(x, y)
    assert got == pytest.approx(loss.item(), rel=100 * unit(dtype))
    assert_close(gradients, [p.grad.numpy() for p in parameters], model.sizes, 40)


def test_pytorch_trains_alike_in_float64(rng, torch):
    case = Problem((12, 33, 5), 40, 8, "tanh", fit=dict(shuffle=False), sgd=dict(momentum=0.9, nesterov=True))
    case = case.of(np.float64)
    x, y = case.data(rng)
    trainer = case.trainer()
    w1, b1, w2, b2 = parameters = [
        torch.tensor(p.copy(), requires_grad=True) for p in trainer.model.parameters
    ]
    optimizer = torch.optim.SGD(parameters, lr=case.lr, **case.sgd)
    trainer.fit(x, y, epochs=20, batch_size=case.batch, shuffle=False)
    for i in list(range(0, 40, case.batch)) * 20:
        outputs = torch.tanh(torch.tensor(x[i : i + case.batch]) @ w1 + b1) @ w2 + b2
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(outputs, torch.tensor(y[i : i + case.batch])).backward()
        optimizer.step()
    for ours, theirs in zip(trainer.model.parameters, parameters, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12)


def test_a_gradient_of_relu_at_zero_is_zero():
    model = MLP([2, 3, 2], init="zeros")
    model.parameters[2][...] = 1, -1  # dy is not zero, z is
    gradients = model.loss_and_gradients(np.ones((4, 2)), [0, 0, 0, 1])[1]
    assert not gradients[0].any() and not gradients[1].any() and gradients[3].any()


def test_tanh_is_a_sigmoid_moved(rng):
    """tanh(z) = 2 sigmoid(2z) - 1, so two networks are one."""
    x = rng.standard_normal((50, 6), np.float32)
    tanh, sigmoid = MLP([6, 20, 3], activation="tanh"), MLP([6, 20, 3], activation="sigmoid")
    w1, b1, w2, b2 = tanh.parameters
    for p, value in zip(sigmoid.parameters, (2 * w1, 2 * b1, 2 * w2, b2 - w2.sum(axis=0)), strict=True):
        p[...] = value
    np.testing.assert_allclose(tanh.forward(x), sigmoid.forward(x), rtol=0, atol=100 * unit(np.float32))
