"""Training problems: networks, data drawn for them, how they are trained; their gradients in float64."""

from dataclasses import dataclass, field, replace

import numpy as np

import mlpfast
from mlpfast.kernels import reference


def floats(rng, *shape):
    """Normal, in float32."""
    return rng.standard_normal(shape).astype(np.float32)


def assert_judges_as_it_predicts(model):
    """Where outputs are not numbers, too: the first NaN is the prediction, or the first largest number."""
    x, last = np.zeros((11, model.sizes[0]), np.float32), model.sizes[-1] - 1
    nan, inf = np.nan, np.inf
    for outputs in ({1: nan}, {0: nan, last: nan}, {0: inf, 1: nan}, {1: inf, last: inf}, {0: -inf, 1: 1}):
        for parameter in model.parameters:
            parameter[...] = 0
        for j, value in outputs.items():
            model.parameters[-1][j] = value
        predicted = model.predict(x)
        assert np.array_equal(predicted, model.forward(x).argmax(axis=1))
        assert model.evaluate(x, predicted)["accuracy"] == 1
        assert model.evaluate(x, (predicted + 1) % (last + 1))["accuracy"] == 0
    model.parameters[0][...] = 1
    x[::2] = nan  # beside rows of numbers
    predicted = model.forward(x).argmax(axis=1)
    assert np.array_equal(model.predict(x), predicted) and len(set(predicted)) == 2
    assert model.evaluate(x, predicted)["accuracy"] == 1


@dataclass(frozen=True)
class Problem:
    """`rows` examples in batches of `batch`; options are arguments of fit, MLP and SGD by name."""

    sizes: tuple[int, ...]
    rows: int
    batch: int
    activation: str | tuple[str, ...] = "relu"
    fit: dict = field(default_factory=dict)
    sgd: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    lr: float = 0.1
    dtype: type = np.float32

    def of(self, dtype):
        """The same problem in another dtype."""
        return replace(self, dtype=dtype)

    def data(self, rng):
        x = rng.standard_normal((self.rows, self.sizes[0]), self.dtype)
        return x, rng.integers(0, self.sizes[-1], self.rows)

    def trainer(self, fused=True):
        options = dict(activation=self.activation, seed=1, dtype=self.dtype.__name__)
        model = mlpfast.MLP(self.sizes, **options, **self.model)
        for b in model.parameters[1::2]:
            b[...] = np.linspace(-0.2, 0.3, b.size)
        trainer = mlpfast.Trainer(model, mlpfast.SGD(self.lr, **self.sgd))
        trainer.fused = fused
        return trainer


def state(trainer):
    """All that training changes, as arrays."""
    velocity = trainer.optimizer.velocity
    return [*trainer.model.parameters, *([] if velocity is None else [velocity])]


def trained(problem, data, fused=True, epochs=1, **more):
    """Weights, velocity and the records of the epochs, as a list of arrays."""
    trainer = problem.trainer(fused)
    history = trainer.fit(*data, epochs=epochs, batch_size=problem.batch, **{**problem.fit, **more})
    records = [[v for k, v in record.items() if k != "seconds"] for record in history.epochs]
    return [*state(trainer), np.array(records)]


def pair(*args, **options):
    """The same network on a GPU and on the CPU."""
    options = dict(precision="ieee", seed=1, **options)
    return [mlpfast.MLP(*args, device=device, **options) for device in ("cuda", "cpu")]


def reference_gradients(model, x, y, **weights):
    """Loss and gradients of a model's parameters, in float64; x as the user gives it."""
    p = [np.asarray(w, np.float64) for w in model.parameters]
    names = [*model.activations, "identity"]
    h, inputs, saved = (np.asarray(x, np.float64) - model.input_shift) * model.input_scale, [], []
    for w, b, name in zip(p[::2], p[1::2], names, strict=True):
        z = reference.linear(h, w, b)
        inputs.append(h)
        h = reference.activation(name, z)
        saved.append(z if reference.ACTIVATIONS[name].saves == "input" else h)
    loss, dy = reference.softmax_cross_entropy(h, y, **weights)
    gradients = []
    for i in reversed(range(len(names))):
        gradients[:0] = reference.linear_backward_weights(inputs[i], dy), reference.bias_add_backward(dy)
        if i:
            dy = reference.linear_backward_input(dy, p[2 * i], saved[i - 1], activation=names[i - 1])
    return loss, gradients
