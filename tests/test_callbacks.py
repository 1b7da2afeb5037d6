"""Callbacks: what they write, when they end a training, which weights they leave."""

import csv
import io

import numpy as np
import pytest

import mlpfast
from mlpfast.callbacks import Checkpoint, CSVLog, EarlyStopping, Progress

XOR = mlpfast.datasets.xor()
RECORD = {"epoch": 12, "train_loss": 0.25, "train_accuracy": 0.5, "seconds": 1.5}
HELD_OUT = {"val_loss": 2.0, "val_accuracy": 0.125}


def new_trainer():
    return mlpfast.Trainer(mlpfast.MLP([2, 8, 2]), mlpfast.SGD(0.5))


@pytest.fixture
def trainer():
    return new_trainer()


def fit(trainer, epochs, *callbacks, **more):
    held_out = (XOR.x_test, XOR.y_test)
    return trainer.fit(
        XOR.x_train,
        XOR.y_train,
        epochs=epochs,
        batch_size=4,
        validation_data=held_out,
        callbacks=callbacks,
        **more,
    )


def scripted(trainer, callback, key, values):
    """Call it epoch by epoch, all weights set to the epoch's number; the epoch that it ends."""
    for epoch, value in enumerate(values, 1):
        for parameter in trainer.model.parameters:
            parameter[...] = epoch
        if callback(trainer, {"epoch": epoch, key: value}):
            return epoch
    return None


def weight(trainer):
    (value,) = np.unique(np.concatenate([p.ravel() for p in trainer.model.parameters]))
    return value


class TestProgress:
    def test_line(self):
        stream = io.StringIO()
        Progress(stream)(None, RECORD | HELD_OUT)
        assert stream.getvalue().split("  ") == [
            "epoch",
            "12",
            "train loss 0.2500",
            "train accuracy 0.5000",
            "val loss 2.0000",
            "val accuracy 0.1250",
            "1.500 s\n",
        ]

    def test_an_interruption_cannot_part_a_line_from_its_end(self):
        stream, writes = io.StringIO(), []
        stream.write = writes.append
        Progress(stream)(None, RECORD)
        assert [text[-1] for text in filter(None, writes)] == ["\n"]

    def test_name_of_the_held_out_data(self):
        stream = io.StringIO()
        Progress(stream, held_out="test")(None, RECORD | HELD_OUT)
        assert "test accuracy 0.1250" in stream.getvalue()

    def test_default_is_the_standard_output_of_the_moment(self, trainer, capsys):
        progress = Progress()
        fit(trainer, 3, progress)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines] == [["epoch", str(n)] for n in (1, 2, 3)]


class TestCSVLog:
    def test_two_fits_make_one_log(self, trainer, tmp_path):
        log = CSVLog(tmp_path / "log.csv")
        records = [*fit(trainer, 2, log).epochs, *fit(trainer, 1, log).epochs]
        with open(tmp_path / "log.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [{name: float(text) for name, text in row.items()} for row in rows] == records

    def test_replaces_an_old_file_only_with_its_first_row(self, tmp_path):
        (tmp_path / "log.csv").write_text("precious")
        log = CSVLog(tmp_path / "log.csv")
        assert (tmp_path / "log.csv").read_text() == "precious"
        log(None, {"epoch": 1})
        assert (tmp_path / "log.csv").read_text() == "epoch\n1\n"

    def test_unknown_column(self, tmp_path):
        log = CSVLog(tmp_path / "log.csv")
        log(None, RECORD)
        with pytest.raises(ValueError, match="val_loss"):
            log(None, RECORD | HELD_OUT)

    def test_unwritable(self, tmp_path):
        with pytest.raises(OSError, match="nowhere"):
            CSVLog(tmp_path / "nowhere" / "log.csv")(None, RECORD)


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("monitor", "values", "end", "best"),
        [
            ("val_loss", [3, 2, 1, 2, 1], 5, 3),
            ("val_loss", [3, 2, 2, 1, 2, 0.5], None, 6),
            ("val_accuracy", [0.5, 0.7, 0.6, 0.7], 4, 2),
            ("train_loss", [np.nan, 2, np.nan, np.nan], 4, 2),
        ],
    )
    def test_ends_after_patience(self, trainer, monitor, values, end, best):
        stop = EarlyStopping(monitor, patience=2)
        assert scripted(trainer, stop, monitor, values) == end
        assert stop.best["epoch"] == best
        assert weight(trainer) == best

    def test_keeps_the_last_weights(self, trainer):
        stop = EarlyStopping(patience=1, restore_best=False)
        assert scripted(trainer, stop, "val_loss", [1, 2]) == 2
        assert weight(trainer) == 2

    def test_never_a_number(self, trainer):
        stop = EarlyStopping(patience=2)
        assert scripted(trainer, stop, "val_loss", [np.nan, np.nan]) == 2
        assert stop.best is None
        assert weight(trainer) == 2

    def test_patience_starts_anew(self, trainer):
        stop = EarlyStopping(patience=2)
        assert scripted(trainer, stop, "val_loss", [1, 2, 3]) == 3
        assert scripted(trainer, stop, "val_loss", [1, 2]) == 2

    def test_another_model_begins_anew(self, trainer):
        stop, other = EarlyStopping(patience=2), new_trainer()
        assert scripted(trainer, stop, "val_loss", [0, 1]) is None
        assert scripted(other, stop, "val_loss", [9, 5, 6, 7]) == 4
        assert (weight(other), stop.best["epoch"]) == (2, 2)

    def test_another_model_that_is_never_a_number(self, trainer):
        stop, other = EarlyStopping(patience=2), new_trainer()
        scripted(trainer, stop, "val_loss", [0])
        assert scripted(other, stop, "val_loss", [np.nan, np.nan]) == 2
        assert weight(other) == 2 and stop.best is None

    def test_in_fit(self, trainer):
        stop = EarlyStopping("val_accuracy", patience=100)
        history = fit(trainer, 1000, stop)
        assert len(history.epochs) == stop.best["epoch"] + 100 < 1000
        assert trainer.model.evaluate(XOR.x_test, XOR.y_test)["accuracy"] == stop.best["val_accuracy"] == 1

    def test_missing_value(self, trainer):
        with pytest.raises(ValueError, match=r"no 'val_loss'.*validation_data"):
            trainer.fit(XOR.x_train, XOR.y_train, epochs=2, batch_size=4, callbacks=[EarlyStopping()])
        with pytest.raises(ValueError, match=r"no 'val_acc', it has .*val_accuracy, seconds$"):
            fit(trainer, 2, EarlyStopping("val_acc"))


class TestCheckpoint:
    def test_every_epoch(self, trainer, tmp_path):
        path = tmp_path / "model.safetensors"
        assert scripted(trainer, Checkpoint(path), "val_loss", [1, 2, 3]) is None
        assert mlpfast.MLP.load(path).parameters[0][0, 0] == 3

    def test_best_only(self, trainer, tmp_path):
        path = tmp_path / "model.safetensors"
        assert scripted(trainer, Checkpoint(path, "val_accuracy"), "val_accuracy", [0.1, 0.5, 0.4]) is None
        assert mlpfast.MLP.load(path).parameters[0][0, 0] == 2

    def test_another_model_begins_anew(self, trainer, tmp_path):
        best = Checkpoint(tmp_path / "model.safetensors", "val_loss")
        scripted(trainer, best, "val_loss", [1])
        scripted(new_trainer(), best, "val_loss", [5, 4, 6])
        assert mlpfast.MLP.load(best.path).parameters[0][0, 0] == 2

    def test_unwritable(self, trainer, tmp_path):
        with pytest.raises(mlpfast.CheckpointError, match="nowhere"):
            fit(trainer, 1, Checkpoint(tmp_path / "nowhere" / "model.safetensors"))
