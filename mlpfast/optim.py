"""Optimizers: hyper-parameters, and the state of each parameter between steps. The updates are kernels."""

import weakref

import numpy as np

from mlpfast.arguments import flag, real, unfit
from mlpfast.parameters import Floats

Numbers = tuple[float, float, bool, float]  # lr, momentum, nesterov, weight_decay
Rule = tuple[str, list[Floats], Numbers]


class SGD:
    """Stochastic gradient descent with momentum and weight decay, as `torch.optim.SGD` defines it.

    Parameters
    ----------
    lr : learning rate; may be changed between calls of `Trainer.fit`, and by its callbacks between epochs
    momentum : share of the velocity kept at each step
    nesterov : look ahead along the velocity; needs momentum
    weight_decay : added to the gradient, times the weight (biases too)

    Raises
    ------
    ValueError, TypeError
        If an argument is not a number, negative or not finite, or nesterov comes without momentum.

    Examples
    --------
    >>> SGD(0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    def __init__(
        self, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.velocity: Floats | None = None
        self._owner: weakref.ref[Floats] | None = None
        self._numbers()

    def _numbers(self) -> Numbers:
        """The hyper-parameters, checked, since users may change them."""
        lr, momentum = real("SGD", "lr", self.lr, 0), real("SGD", "momentum", self.momentum, 0)
        nesterov = flag("SGD", "nesterov", self.nesterov)
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs momentum above 0")
        return lr, momentum, nesterov, real("SGD", "weight_decay", self.weight_decay, 0)

    def rule(self, parameters: Floats) -> Rule:
        """The update of a model's parameters: kernel name, state, numbers."""
        numbers = self._numbers()
        if self.momentum == 0:
            return "sgd", [], numbers
        if self.velocity is None:
            self.velocity, self._owner = np.zeros_like(parameters), None
        if not isinstance(self.velocity, np.ndarray):
            raise TypeError(unfit("SGD", "velocity", self.velocity, "an array, or None to start anew"))
        foreign = self._owner is not None and self._owner() is not parameters  # of a model that is gone, too
        if foreign or (self.velocity.shape, self.velocity.dtype) != (parameters.shape, parameters.dtype):
            raise ValueError("SGD: this optimizer holds the velocity of another model; make a new optimizer")
        if not self.velocity.flags.carray:
            raise ValueError(unfit("SGD", "velocity", self.velocity, "C-contiguous, aligned and writable"))
        self._owner = weakref.ref(parameters)
        return "momentum", [self.velocity], numbers

    def __getstate__(self) -> dict[str, object]:
        velocity = None if self.velocity is None else self.velocity.copy()
        return self.__dict__ | {"_owner": None, "velocity": velocity}

    def __repr__(self) -> str:
        return (
            f"SGD(lr={self.lr}, momentum={self.momentum}, nesterov={self.nesterov}, "
            f"weight_decay={self.weight_decay})"
        )
