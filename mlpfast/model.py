"""MLP: a network's shape, its parameters, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpfast import _cpu, arrays, checkpoint, cuda
from mlpfast.arguments import DTYPES, PathLike, choice
from mlpfast.errors import CheckpointError, DeviceError
from mlpfast.features import features
from mlpfast.init import initializer
from mlpfast.kernels import ACTIVATIONS, softmax
from mlpfast.parameters import Floats, Parameters, shapes_of, zeros
from mlpfast.spec import OPTIONS, checked_activations, checked_options, checked_sizes

DEVICES = ("cpu", "cuda")


class MLP:
    """A multilayer perceptron for classification.

    Parameters
    ----------
    sizes : numbers of inputs, of units in each hidden layer, and of classes: at least two to be trained
    activation : a name of `mlpfast.kernels.ACTIVATIONS`, or one for each hidden layer
    loss : "softmax_cross_entropy"
    init : "he", "xavier", "lecun", "zeros", "normal:DEVIATION" or "constant:VALUE"; biases start as zeros
    input_scale, input_shift : the network sees ``(x - input_shift) * input_scale``; features that float32
        cannot hold are rounded to the model's dtype after the shift (integers beyond 2^53 to float64 before
        it), for a GPU before it
    seed : of the initial weights
    dtype : "float32" or "float64", of the parameters and everything computed
    device : "cpu" or "cuda", where to compute, there in float32; parameters are NumPy arrays on both. Models
        also take arrays of other libraries, on a GPU if they compute there, and predict in that kind
    precision : "ieee", "highest", "high" or "medium", a floor of accuracy in float32

    Attributes
    ----------
    parameters : list of views w1 [in, out], b1 [out], w2, b2, ... into one array; write to them to
        set weights

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    DeviceError
        If device "cuda" cannot be used.

    Examples
    --------
    >>> model = MLP([784, 256, 10])
    >>> [p.shape for p in model.parameters]
    [(784, 256), (256,), (256, 10), (10,)]
    >>> model.parameters[1][:] = 0.5
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | Sequence[str] = "relu",
        loss: str = "softmax_cross_entropy",
        init: str = "he",
        input_scale: float = 1.0,
        input_shift: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "cpu",
        precision: str = "highest",
    ) -> None:
        self._sizes = checked_sizes(sizes)
        self._activations = checked_activations(activation, len(self.sizes) - 2)
        options = checked_options(loss, init, input_scale, input_shift, seed, precision)
        self._loss, self._init, self.input_scale, self.input_shift, self._seed, self.precision = options
        self._dtype = choice("MLP", "dtype", dtype, list(DTYPES))
        self._device = choice("MLP", "device", device, DEVICES)
        if self._device == "cuda" and self._dtype != "float32":
            raise DeviceError("MLP: device 'cuda' computes in float32, dtype is 'float64'; use device='cpu'")
        self._allocate()
        fill, rng = initializer(self.init), np.random.default_rng(self.seed)
        for w in self.parameters[::2]:
            w[...] = fill(rng, w.shape[0], w.shape[1], DTYPES[self.dtype])

    def _allocate(self) -> None:
        self._shapes = shapes_of(self.sizes)
        self._flat = zeros(self._shapes, DTYPES[self.dtype])
        self._native = cuda.extension() if self.device == "cuda" else _cpu
        alphas = [ACTIVATIONS[name][2] or 0.0 for name in self.activations]
        self._layers = list(self.sizes), list(self.activations), alphas
        self._busy = _cpu.Busy()

    @property
    def parameters(self) -> Parameters:
        """Views w1 [in, out], b1 [out], w2, b2, ... into the weights in use: write to them."""
        return Parameters(self._flat, self._shapes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of inputs, of units in each hidden layer, and of classes."""
        return self._sizes

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of each hidden layer."""
        return self._activations

    @property
    def loss(self) -> str:
        """What training minimises."""
        return self._loss

    @property
    def init(self) -> str:
        """How the weights were first drawn."""
        return self._init

    @property
    def seed(self) -> int:
        """Of the initial weights."""
        return self._seed

    @property
    def dtype(self) -> str:
        """The dtype of the parameters and of everything computed."""
        return self._dtype

    @property
    def device(self) -> str:
        """Where the model computes."""
        return self._device

    @property
    def spec(self) -> tuple[Any, ...]:
        """The network as plain data for the extension."""
        return *self._layers, self.input_scale, self.input_shift, self.precision

    def forward(self, x: ArrayLike) -> Floats:
        """Outputs before the softmax: floats [rows, classes].

        Parameters
        ----------
        x : real numbers [rows, ...], flattened to [rows, inputs]; uint8 and floats are read as they lie

        Raises
        ------
        ValueError, TypeError
            If the shape does not fit or the numbers are not real.

        Examples
        --------
        >>> MLP([2, 3], init="zeros").forward(np.ones((1, 2)))
        array([[0., 0., 0.]], dtype=float32)
        """
        return cast(Floats, self._as_given(x, self._outputs(x, "forward")))

    def predict(self, x: ArrayLike) -> NDArray[np.int64]:
        """The class of each row, that of the largest output: int64 [rows]; the first of equal ones.

        A NaN counts as the largest: of outputs that are all NaN the class is 0. `forward` shows them.

        Parameters
        ----------
        x : as in `forward`

        Raises
        ------
        ValueError, TypeError
            As `forward`.

        Examples
        --------
        >>> MLP([2, 3], init="zeros").predict(np.ones((4, 2)))
        array([0, 0, 0, 0])
        """
        outputs = self._outputs(x, "predict")
        on_host = isinstance(outputs, np.ndarray)
        classes = outputs.argmax(axis=1) if on_host else self._native.classify(outputs)
        return cast("NDArray[np.int64]", self._as_given(x, classes))

    def predict_proba(self, x: ArrayLike) -> Floats:
        """Probabilities of the classes, the softmax of `forward`: floats [rows, classes].

        Parameters
        ----------
        x : as in `forward`

        Raises
        ------
        ValueError, TypeError
            As `forward`.

        Examples
        --------
        >>> MLP([2, 4], init="zeros").predict_proba(np.ones((1, 2)))
        array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
        """
        outputs = self._outputs(x, "predict_proba")
        softmax(outputs, out=outputs)
        return cast(Floats, self._as_given(x, outputs))

    def _outputs(self, x: ArrayLike, function: str) -> Any:
        """Of NumPy, or a DeviceArray where x lies on a GPU."""
        given = features(x, self._sizes[0], self._device, function)
        return self._native.predict(self._flat, self.spec, given)

    @staticmethod
    def _as_given(x: ArrayLike, results: Any) -> Any:
        return arrays.like(x, results) if arrays.is_foreign(x) else results

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> dict[str, float]:
        """Mean loss and accuracy on labelled examples.

        Parameters
        ----------
        x : as in `forward`, at least one row
        y : integers [rows] in 0 .. classes - 1

        Returns
        -------
        {"loss": float, "accuracy": float}; the loss is that of `mlpfast.kernels.softmax_cross_entropy`

        Raises
        ------
        ValueError, TypeError
            If x or y does not fit, or there is no row.

        Examples
        --------
        >>> MLP([2, 4], init="zeros").evaluate(np.ones((2, 2)), [0, 1])["accuracy"]
        0.5
        """
        x, y = self.examples(x, y, "evaluate")
        loss, weight, correct, rows = self._native.evaluate(self._flat, self.spec, x, y)
        return {"loss": loss / weight, "accuracy": correct / rows}

    def loss_and_gradients(self, x: ArrayLike, y: ArrayLike) -> tuple[float, list[Floats]]:
        """Mean loss of one batch and its gradient with respect to each of `parameters`.

        Parameters
        ----------
        x, y : as in `evaluate`

        Raises
        ------
        ValueError, TypeError
            As `evaluate`.

        Examples
        --------
        >>> loss, gradients = MLP([2, 3], init="zeros").loss_and_gradients(np.ones((1, 2)), [0])
        >>> round(loss, 4), [g.shape for g in gradients]
        (1.0986, [(2, 3), (3,)])
        """
        x, y = self.examples(x, y, "loss_and_gradients")
        gradient = np.empty_like(self._flat)
        workspace = self._native.workspace(self._flat, self.spec, len(x), x, y, None, None)
        loss, weight, *_ = self._native.gradients(self._flat, self.spec, gradient, x, y, workspace)
        return loss / weight, Parameters(gradient, self._shapes)

    def examples(self, x: ArrayLike, y: ArrayLike, function: str) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Features and labels as the extension reads them; at least one row."""
        given = features(x, self.sizes[0], self.device, function)
        if len(given) == 0:
            raise ValueError(
                f"{function}: x has shape {given.shape}: there is no row to learn from or to judge"
            )
        labels = arrays.on_host(y, function, "y")
        return given, _cpu.labels(labels, len(given), self.sizes[-1], function)

    def summary(self) -> str:
        """A table of the layers.

        Examples
        --------
        >>> print(MLP([784, 256, 10]).summary())
        layer  inputs  outputs  activation  parameters
            1     784      256  relu           200,960
            2     256       10  softmax          2,570
        total, float32                         203,530
        """
        lines = ["layer  inputs  outputs  activation  parameters"]
        names = [*self.activations, "softmax"]
        for i, ((rows, cols), name) in enumerate(zip(pairwise(self.sizes), names, strict=True), 1):
            lines.append(f"{i:>5}  {rows:>6}  {cols:>7}  {name:<10}  {(rows + 1) * cols:>10,}")
        lines.append(f"total, {self.dtype}{self._flat.size:>32,}")
        return "\n".join(lines)

    def copy(self) -> Self:
        """An independent model with the same weights."""
        return self._restored(self.__getstate__())

    def save(self, path: PathLike) -> None:
        """Write a safetensors file, whole or not at all.

        Parameters
        ----------
        path : of the file, which replaces one of that name

        Raises
        ------
        CheckpointError
            If it cannot be written.
        ValueError, TypeError
            If an attribute was set to a value that the constructor refuses.
        """
        checkpoint.save(path, dict(zip(self._shapes, self.parameters, strict=True)), self._facts())

    @classmethod
    def load(cls, path: PathLike, *, device: str = "cpu") -> Self:
        """Read a file that `save` wrote; files do not name a device.

        Parameters
        ----------
        path : of the file
        device : as in `MLP`

        Raises
        ------
        CheckpointError
            If it is missing, damaged or not a model of mlpfast.
        """
        choice("MLP", "device", device, DEVICES)
        tensors, facts = checkpoint.load(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        try:
            if missing := {"sizes", "activation", *OPTIONS} - facts.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            sizes = checked_sizes(facts["sizes"])
            if shapes != shapes_of(sizes):
                raise ValueError(f"tensors {shapes} do not make a network of sizes {sizes}")
            dtype = tensors["w1"].dtype.name
            model = cls(**{**facts, "sizes": sizes, "init": "zeros"}, dtype=dtype, device=device)
            initializer(facts["init"])
        except (KeyError, TypeError, ValueError) as error:
            what = repr(error)[:500]
            raise CheckpointError(f"{path} does not describe a model of this version: {what}") from error
        model._init = facts["init"]
        for name, parameter in zip(model._shapes, model.parameters, strict=True):
            parameter[...] = tensors[name]
        return model

    def _facts(self) -> dict[str, Any]:
        """The constructor's arguments without device, and dtype, which the tensors have; checked again."""
        options = checked_options(*(getattr(self, name) for name in OPTIONS))
        facts = {"sizes": list(self.sizes), "activation": list(self.activations)}
        return facts | dict(zip(OPTIONS, options, strict=True))

    def __repr__(self) -> str:
        return f"MLP({list(self.sizes)}, activation={list(self.activations)})"

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_busy", "_layers", "_native", "_shapes")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()
        self._flat[...] = state["_flat"]

    @classmethod
    def _restored(cls, state: dict[str, Any]) -> Self:
        model = cls.__new__(cls)
        model.__setstate__(state)
        return model
