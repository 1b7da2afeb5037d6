"""Optimizers: hyper-parameters, and the state of each parameter between steps. The updates are kernels."""

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rule = tuple[str, list[Floats], tuple[float, float, bool, float]]


class SGD:
    """Stochastic gradient descent with momentum and weight decay, as `torch.optim.SGD` defines it.

    Parameters
    ----------
    lr : learning rate; may be changed between calls of `Trainer.fit`
    momentum : share of the velocity kept at each step
    nesterov : look ahead along the velocity; needs momentum
    weight_decay : added to the gradient, times the weight (biases too)

    Raises
    ------
    ValueError
        If a number is negative or not finite, or nesterov comes without momentum.

    Examples
    --------
    >>> SGD(0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    def __init__(
        self, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not isinstance(value, int | float | np.number):
                raise TypeError(f"SGD: {name} is {value!r}; it must be a number")
            if not 0 <= value <= np.finfo(np.float32).max:
                raise ValueError(f"SGD: {name} is {value}; it must be a float32 number, not negative")
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs momentum above 0")
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.velocity: Floats | None = None
        self._owner: weakref.ref[Floats] | None = None

    def rule(self, parameters: Floats) -> Rule:
        """The update of a model's parameters: kernel name, state, numbers."""
        numbers = (self.lr, self.momentum, self.nesterov, self.weight_decay)
        if self.momentum == 0:
            return "sgd", [], numbers
        if self.velocity is None:
            self.velocity = np.zeros_like(parameters)
        owner = self._owner() if self._owner else parameters
        alike = (self.velocity.size, self.velocity.dtype) == (parameters.size, parameters.dtype)
        if not alike or (owner is not None and owner is not parameters):
            raise ValueError("SGD: this optimizer holds the velocity of another model; make a new optimizer")
        self._owner = weakref.ref(parameters)
        return "momentum", [self.velocity], numbers

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_owner": None}

    def __repr__(self) -> str:
        return (
            f"SGD(lr={self.lr}, momentum={self.momentum}, nesterov={self.nesterov}, "
            f"weight_decay={self.weight_decay})"
        )
