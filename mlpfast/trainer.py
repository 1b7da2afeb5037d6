"""Trainer: the loop over epochs. A native call runs many steps, and returns in time for Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpfast.arguments import flag, integer, unfit
from mlpfast.errors import DivergenceError
from mlpfast.features import on_device
from mlpfast.model import MLP
from mlpfast.optim import SGD
from mlpfast.weights import Weights, checked_weights

Record = dict[str, float]
Callback = Callable[["Trainer", Record], bool | None]
SECONDS_PER_CALL = 0.05  # Ctrl-C is checked for this often


@dataclass
class History:
    """What training recorded: one dict for each epoch.

    Keys: epoch, train_loss, train_accuracy (both accumulated while training), seconds, and val_loss,
    val_accuracy where validation data were given.
    """

    epochs: list[Record] = field(default_factory=list)


class Trainer:
    """Trains a model with an optimizer; a second `fit` continues.

    After an interrupted epoch it goes on where it stopped, if rows, batch size, seed and order are the same.

    Parameters
    ----------
    model : MLP
    optimizer : SGD

    Attributes
    ----------
    history : History of the last call of `fit`, as it grows, even if it was interrupted
    fused : whether updates are applied as gradients are computed, or after; the same bits either way

    Examples
    --------
    >>> import mlpfast
    >>> data = mlpfast.datasets.xor()
    >>> trainer = Trainer(MLP([2, 8, 2]), SGD(0.5))
    >>> history = trainer.fit(data.x_train, data.y_train, epochs=200, batch_size=4)
    >>> history.epochs[-1]["train_accuracy"]
    1.0
    """

    def __init__(self, model: MLP, optimizer: SGD) -> None:
        self.model = model
        self.optimizer = optimizer
        self._check()
        self.history = History()
        # Epochs done, rows of the current one done, its sums of loss, weight, correct answers and rows: one
        # array that native calls advance, so that Ctrl-C cannot come between the weights and their count.
        self._progress = np.zeros(6)
        self.fused = True
        self._order_of_rows: tuple[int, int, bool, bool, int] | None = None

    def _check(self) -> None:
        """Model and optimizer, since users may replace them."""
        for name, kind in (("model", MLP), ("optimizer", SGD)):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"Trainer: {name} is a {type(value).__name__}, expected {kind.__name__}")

    @property
    def epoch(self) -> int:
        """Complete epochs."""
        return int(self._progress[0])

    @property
    def position(self) -> int:
        """Rows of the current epoch that are done."""
        return int(self._progress[1])

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int,
        batch_size: int,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | ArrayLike | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        callbacks: Iterable[Callback] = (),
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        x : real numbers [rows, ...]; uint8 and floats are read as they lie, batch by batch; a GPU gets all
            when training begins, or chunk by chunk if they take more than half of its free memory
        y : integers [rows] in 0 .. classes - 1
        epochs : passes over all rows
        batch_size : rows of a step; the last step of an epoch has the rest, or is left out with ``drop_last``
        validation_data : (x, y) to evaluate after each epoch
        sample_weight : [rows], not negative; a batch's loss is the weighted mean
        class_weight : [classes], or {class: weight} with 1 for the others; weights, and products of both,
            are 0, or in float32 1.2e-38 .. 1.2e30, in float64 2.3e-308 .. 6e240
        shuffle : a new order each epoch, which depends on ``seed``, the epoch and the number of rows only
        seed : of these orders
        callbacks : called as ``callback(trainer, record)`` after each epoch; True ends training, None and
            False go on

        Returns
        -------
        History of this call

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; the model is unchanged. Or if a callback returns something else.
        DivergenceError
            If a loss is not finite; the weights are those before that step. Those that the last step of a
            call makes meet no loss in it.
        KeyboardInterrupt
            On Ctrl-C; all steps until then are done, and a next call goes on from there: the epoch without
            a record is the first of its ``epochs``.
        RuntimeError
            If the model is being trained already.
        """
        self._check()
        epochs, batch_size = integer("fit", "epochs", epochs, 1), integer("fit", "batch_size", batch_size, 1)
        shuffle, drop_last = flag("fit", "shuffle", shuffle), flag("fit", "drop_last", drop_last)
        seed, callbacks = integer("fit", "seed", seed) % 2**64, _callables(callbacks)
        model = self.model
        if (classes := model.sizes[-1]) < 2:  # any weights have loss 0
            expected = "the number of classes, at least 2"
            raise ValueError(unfit("fit", "the model's sizes[-1]", classes, expected))
        x, y = model.examples(x, y, "fit")
        held_out = None
        if validation_data is not None:
            held_out = model.examples(*_pair(validation_data), "fit: validation_data")
        weights = checked_weights(sample_weight, class_weight, len(x), classes, model.dtype)
        if drop_last and batch_size > len(x):
            raise ValueError(
                f"fit: batch_size is {batch_size}, x has {len(x)} rows: drop_last would leave no step"
            )
        batch_size = min(batch_size, len(x))
        with model._busy:
            history = self.history = History()
            fit = _Fit(self, model, x, y, weights, batch_size, shuffle, drop_last, seed)
            self._resume((len(x), batch_size, drop_last, shuffle, seed))
            if held_out is not None:
                held_out = on_device(held_out[0], model.device), held_out[1]
            for _ in range(epochs):
                start = time.perf_counter()
                record = fit.run_epoch()
                if held_out is not None:
                    result = model.evaluate(*held_out)
                    record |= {"val_loss": result["loss"], "val_accuracy": result["accuracy"]}
                record["seconds"] = time.perf_counter() - start
                self._progress[:2] = self.epoch + 1, 0  # after what may be interrupted
                history.epochs.append(record)
                if any([_ends(callback, callback(self, record)) for callback in callbacks]):
                    break
            return history

    def _resume(self, order_of_rows: tuple[int, int, bool, bool, int]) -> None:
        if self._order_of_rows != order_of_rows:  # the interrupted epoch had another order
            self._progress[1] = 0
            self._order_of_rows = order_of_rows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_progress": self._progress.copy()}


class _Fit:
    """What the epochs of one `fit` share."""

    def __init__(
        self,
        trainer: Trainer,
        model: MLP,
        x: NDArray[Any],
        y: NDArray[np.int32],
        weights: Weights,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
    ) -> None:
        self.model, self.spec = model, model.spec
        self.trainer, self.batch_size, self.drop_last = trainer, batch_size, drop_last
        self.shuffle, self.seed = shuffle, seed
        self.examples = (x, y, *weights)
        self.end = len(x) // batch_size * batch_size if drop_last else len(x)
        self.workspace = model._native.workspace(model._flat, self.spec, batch_size, *self.examples)
        self.fused = flag("fit", "the trainer's fused", trainer.fused)
        self.gradient = None if self.fused else np.empty_like(model._flat)

    def run_epoch(self) -> Record:
        """The rest of the current epoch, if any, in native calls of a fraction of a second."""
        trainer, model = self.trainer, self.model
        trainer._check()
        if trainer.model is not model:
            raise ValueError("fit: trainer.model was replaced while it was trained; make a Trainer of each")
        order = (self.seed, trainer.epoch) if self.shuffle else None
        rule = trainer.optimizer.rule(model._flat)
        how = (self.batch_size, self.drop_last, self.fused, SECONDS_PER_CALL)
        while trainer.position < self.end:
            finite = model._native.train(
                model._flat,
                self.spec,
                self.gradient,
                rule,
                *self.examples,
                order,
                self.workspace,
                trainer._progress,
                how,
            )
            if not finite:
                step = trainer.position // self.batch_size + 1
                raise DivergenceError(
                    f"the loss is not finite at epoch {trainer.epoch + 1}, step {step}; the weights are "
                    f"those before that step. Lower the learning rate ({trainer.optimizer.lr}) or check the "
                    "data for huge or missing values"
                )
        loss, weight, correct, rows = trainer._progress[2:]
        return {
            "epoch": trainer.epoch + 1,
            "train_loss": float(loss / weight) if weight else 0.0,
            "train_accuracy": float(correct / rows) if rows else 0.0,
        }


def _pair(validation_data: tuple[ArrayLike, ArrayLike]) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
        raise TypeError(unfit("fit", "validation_data", validation_data, "a pair (x, y)"))
    return validation_data[0], validation_data[1]


def _callables(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    given = tuple(callbacks) if isinstance(callbacks, Iterable) else (None,)
    if any(isinstance(callback, type) or not callable(callback) for callback in given):
        expected = "a list of functions of trainer and record, or of objects such as Progress()"
        raise TypeError(unfit("fit", "callbacks", callbacks, expected))
    return given


def _ends(callback: Callback, result: Any) -> bool:
    """Whether what a callback returned ends training."""
    if result is not None and not isinstance(result, bool | np.bool_):
        expected = "True, which ends training, False or None"
        raise TypeError(unfit("fit", f"the result of the callback {callback!r}", result, expected))
    return bool(result)
