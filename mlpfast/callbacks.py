"""What may happen after each epoch: a line of progress, a log, a saved model, an early end.

A callback is any callable, called as ``callback(trainer, record)`` after each epoch with the new entry of
`History`; True ends the training, None and False go on.
"""

import csv
import math
import sys
from typing import TextIO

from mlpfast.arguments import PathLike, file_path, flag, integer, unfit
from mlpfast.model import MLP
from mlpfast.parameters import Floats
from mlpfast.trainer import Record, Trainer


class Progress:
    """Write one line for each epoch.

    Parameters
    ----------
    stream : text file, by default the standard output at the time of writing
    held_out : what the validation data are called

    Examples
    --------
    >>> Progress()(None, {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.75, "seconds": 0.1})
    epoch   1  train loss 0.5000  train accuracy 0.7500  0.100 s
    """

    def __init__(self, stream: TextIO | None = None, *, held_out: str = "val") -> None:
        self.stream = stream
        self.held_out = held_out

    def __call__(self, trainer: Trainer | None, record: Record) -> None:
        names = {"train_loss": "train loss", "train_accuracy": "train accuracy"}
        names |= {f"val_{kind}": f"{self.held_out} {kind}" for kind in ("loss", "accuracy")}
        values = [f"{name} {record[key]:.4f}" for key, name in names.items() if key in record]
        line = "  ".join([f"epoch {record['epoch']:>3.0f}", *values, f"{record['seconds']:.3f} s"])
        print(line + "\n", end="", file=self.stream or sys.stdout, flush=True)  # written in one piece


class CSVLog:
    """Write the records to a CSV file, row by row as they come.

    Parameters
    ----------
    path : of the file, which the first record replaces; its columns are the keys of that record

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If path is not a path.
    ValueError
        If a later record has a key that the first one lacks.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.csv")
    ...     CSVLog(path)(None, {"epoch": 1, "train_loss": 0.5})
    ...     print(path.read_text(), end="")
    epoch,train_loss
    1,0.5
    """

    def __init__(self, path: PathLike) -> None:
        self.path = file_path("CSVLog", "path", path)
        self._columns: list[str] = []

    def __call__(self, trainer: Trainer | None, record: Record) -> None:
        first = not self._columns
        columns = self._columns or list(record)
        with open(self.path, "w" if first else "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerow(record)
        self._columns = columns


class EarlyStopping:
    """End the training when a value has stopped improving. With another model it begins anew.

    Parameters
    ----------
    monitor : a key of the record; an accuracy should grow, anything else should shrink
    patience : epochs in a row without a new best value before the end
    restore_best : at that end, give the model the weights of its best epoch

    Attributes
    ----------
    best : the record of the best epoch, or None

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or a record has no such key.

    Examples
    --------
    >>> import mlpfast
    >>> data = mlpfast.datasets.xor()
    >>> trainer = Trainer(mlpfast.MLP([2, 8, 2]), mlpfast.SGD(0.5))
    >>> stop = EarlyStopping("train_accuracy", patience=100)
    >>> history = trainer.fit(data.x_train, data.y_train, epochs=999, batch_size=4, callbacks=[stop])
    >>> len(history.epochs) < 999, stop.best["train_accuracy"]
    (True, 1.0)
    """

    def __init__(self, monitor: str = "val_loss", *, patience: int = 5, restore_best: bool = True) -> None:
        self.monitor = _key("EarlyStopping", monitor)
        self.patience = integer("EarlyStopping", "patience", patience, 1)
        self.restore_best = flag("EarlyStopping", "restore_best", restore_best)
        self._begin(None)

    def _begin(self, model: MLP | None) -> None:
        self._model = model
        self.best: Record | None = None
        self._weights: list[Floats] | None = None  # of the best epoch
        self._waited = 0

    def __call__(self, trainer: Trainer, record: Record) -> bool:
        if trainer.model is not self._model:
            self._begin(trainer.model)
        if _better(self.monitor, record, self.best):
            self.best, self._waited = record, 0
            if self.restore_best:
                self._weights = [parameter.copy() for parameter in trainer.model.parameters]
            return False
        self._waited += 1
        if self._waited < self.patience:
            return False
        self._waited = 0
        if self._weights:
            for parameter, best in zip(trainer.model.parameters, self._weights, strict=True):
                parameter[...] = best
        return True


class Checkpoint:
    """Save the model after each epoch, or after each that is its best so far.

    Parameters
    ----------
    path : of the safetensors file, replaced each time
    monitor : a key of the record; an accuracy should grow, anything else should shrink. None: every epoch

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    ValueError, TypeError
        If an argument does not fit, or a record has no such key.

    Examples
    --------
    >>> import mlpfast, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     Checkpoint(path)(Trainer(mlpfast.MLP([2, 3]), mlpfast.SGD(0.1)), {"epoch": 1})
    ...     mlpfast.MLP.load(path)
    MLP([2, 3], activation=[])
    """

    def __init__(self, path: PathLike, monitor: str | None = None) -> None:
        self.path = file_path("Checkpoint", "path", path)
        self.monitor = None if monitor is None else _key("Checkpoint", monitor)
        self.best: Record | None = None
        self._model: MLP | None = None

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if trainer.model is not self._model:
            self._model, self.best = trainer.model, None
        if self.monitor is None or _better(self.monitor, record, self.best):
            trainer.model.save(self.path)
            self.best = record


def _key(callback: str, monitor: str) -> str:
    if not isinstance(monitor, str):
        raise TypeError(unfit(callback, "monitor", monitor, "a key of the record, such as 'val_loss'"))
    return monitor


def _better(monitor: str, record: Record, best: Record | None) -> bool:
    """Whether the record's value beats the best one; NaN beats nothing."""
    if monitor not in record:
        lacking = monitor.startswith("val_") and "val_loss" not in record
        needs = "; give fit validation_data" if lacking else ""
        raise ValueError(f"monitor: the record has no {monitor!r}, it has {', '.join(record)}{needs}")
    if best is None:
        return not math.isnan(record[monitor])
    grows = monitor.endswith("accuracy")
    return record[monitor] > best[monitor] if grows else record[monitor] < best[monitor]
