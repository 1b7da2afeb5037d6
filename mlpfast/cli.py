"""The command mlpfast: train, evaluate, predict, info."""

import argparse
import inspect
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import mlpfast
from mlpfast import callbacks, plots
from mlpfast.arguments import integer
from mlpfast.datasets import DATASETS, Dataset

COURSE_SETTINGS: dict[str, Any] = {  # of Dive into Deep Learning, but for its --init normal:0.01
    "hidden": [256],
    "activation": "relu",
    "init": "he",
    "epochs": 10,
    "batch_size": 256,
    "lr": 0.1,
    "momentum": 0.0,
}
SETTINGS: dict[str, dict[str, Any]] = {  # what train takes for an option that is not given
    "digits": COURSE_SETTINGS | {"batch_size": 32, "momentum": 0.9},
    "fashion-mnist": COURSE_SETTINGS,
    "mnist": COURSE_SETTINGS | {"lr": 0.5},
    "xor": COURSE_SETTINGS | {"hidden": [16], "epochs": 50, "batch_size": 4, "lr": 0.5, "momentum": 0.9},
}
EXIT_CODES: dict[type[Exception], int] = {  # of the first class that fits
    mlpfast.DataError: 3,
    mlpfast.DeviceError: 4,
    mlpfast.MlpfastError: 1,
    ValueError: 2,
    OSError: 1,
    ImportError: 1,
    MemoryError: 1,
}
GRID_IMAGES = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : what follows the command's name, by default the arguments of the process

    Returns
    -------
    0 done, 1 failed, 2 wrong arguments, 3 data missing or damaged, 4 the device cannot do it, 130 interrupted

    Examples
    --------
    >>> main(["predict", "model.safetensors", "digits", "--rows", "10:20"])  # doctest: +SKIP
    0
    """
    if getattr(sys.stdout, "errors", None) == "strict" and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        args = _parser().parse_args(argv)
        with nullcontext() if args.threads is None else mlpfast.threads(args.threads):
            args.run(args)
        if sys.stdout is not None:  # closed by the shell (`>&-`)
            sys.stdout.flush()
        return 0
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    except BrokenPipeError:  # the reader is gone (`| head`); keep Python's exit from writing to it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("mlpfast: interrupted", file=sys.stderr)
        return 130
    except tuple(EXIT_CODES) as error:
        print(f"mlpfast: error: {str(error) or type(error).__name__}", file=sys.stderr)
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))


def train(args: argparse.Namespace) -> None:
    """Run `mlpfast train`. What was learnt is written also when training is interrupted."""
    for name, value in SETTINGS[args.dataset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in ("epochs", "batch_size"):  # which fit checks after the log's first lines
        integer("train", name, getattr(args, name), 1)
    outputs = [path for path in (args.out, args.plot, args.grid, args.csv) if path is not None]
    _check_outputs(outputs)
    for picture in (args.plot, args.grid):
        if picture is not None:
            plots.check(picture)
    data = _load(args)
    if args.grid and data.image_shape is None:
        raise ValueError(f"--grid: {args.dataset} has no images")
    model = _network(args, data)
    optimizer = mlpfast.SGD(args.lr, args.momentum, args.nesterov, args.weight_decay)
    print(f"{args.dataset}: {len(data.x_train)} rows to train on, {len(data.x_test)} to test on")
    print(f"{model!r}, {optimizer!r}, batches of {args.batch_size}", flush=True)
    trainer = mlpfast.Trainer(model, optimizer)
    with _terminated_as_interrupted():
        try:
            _fit(args, trainer, data)
            print(f"test accuracy {trainer.history.epochs[-1]['val_accuracy']:.4f}")
            _write(args, trainer, data)
        except (KeyboardInterrupt, OSError) as stop:  # Ctrl-C, SIGTERM, or nobody takes the log any more
            if trainer.epoch or trainer.position:
                with redirect_stdout(sys.stdout if isinstance(stop, KeyboardInterrupt) else None):
                    _write(args, trainer, data)  # the writing may be what was interrupted
            raise


def evaluate(args: argparse.Namespace) -> None:
    """Run `mlpfast evaluate`."""
    model, data = _model_and_data(args)
    result = model.evaluate(data.x_test, data.y_test)
    print(f"test loss {result['loss']:.4f}  test accuracy {result['accuracy']:.4f}  rows {len(data.x_test)}")


def predict(args: argparse.Namespace) -> None:
    """Run `mlpfast predict`."""
    model, data = _model_and_data(args)
    rows, names = range(len(data.x_test))[args.rows], data.class_names
    if not rows:
        raise ValueError(f"--rows: no such row, the test set of {args.dataset} has {len(data.x_test)}")
    width = max(map(len, names))
    print(f"{'row':>5}  {'true':<{width}}  predicted")
    for row, guess in zip(rows, model.predict(data.x_test[args.rows]), strict=True):
        label = data.y_test[row]
        print(f"{row:>5}  {names[label]:<{width}}  {names[guess]}{'' if label == guess else '  (wrong)'}")


def info(args: argparse.Namespace) -> None:
    """Run `mlpfast info`."""
    mlpfast.show_config()


COMMANDS = {  # and their arguments and help, which python -OO would drop with the docstrings
    train: ("[DATASET]", "Train a network, show each epoch, write what was asked for, even if interrupted."),
    evaluate: ("MODEL DATASET", "Print the loss and accuracy of a trained model on a test set."),
    predict: ("MODEL DATASET", "Print the true and the predicted names of rows of a test set."),
    info: ("", "Print CPU, instruction set, the method of each precision level, threads and versions."),
}


def _network(args: argparse.Namespace, data: Dataset) -> mlpfast.MLP:
    return mlpfast.MLP(
        [data.x_train.shape[1], *args.hidden, len(data.class_names)],
        activation=args.activation,
        init=args.init,
        input_scale=data.input_scale,
        seed=args.seed,
        dtype=args.dtype,
        device=args.device,
        precision=args.precision,
    )


def _fit(args: argparse.Namespace, trainer: mlpfast.Trainer, data: Dataset) -> None:
    trainer.fit(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        batch_size=args.batch_size,
        validation_data=(data.x_test, data.y_test),
        seed=args.seed,
        callbacks=[*([callbacks.CSVLog(args.csv)] if args.csv else []), callbacks.Progress(held_out="test")],
    )


def _write(args: argparse.Namespace, trainer: mlpfast.Trainer, data: Dataset) -> None:
    """Keep what was learnt, even within the first epoch, and the curves of whole epochs."""
    drawn = args.plot if trainer.history.epochs else None
    if args.out:
        trainer.model.save(args.out)
    if drawn:
        plots.curves(trainer.history, drawn)
    if args.grid:
        _draw_grid(trainer.model, data, args.grid)
    for path in (args.out, drawn, args.grid, args.csv if trainer.history.epochs else None):
        if path is not None:
            print(f"wrote {path}")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, with which schedulers announce the end of a job, ends a training as Ctrl-C does."""
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _draw_grid(model: mlpfast.MLP, data: Dataset, path: str) -> None:
    assert data.image_shape is not None
    x, y = data.x_test[:GRID_IMAGES], data.y_test[:GRID_IMAGES]
    names, predicted = ([data.class_names[i] for i in labels] for labels in (y, model.predict(x)))
    plots.image_grid(x.reshape(-1, *data.image_shape), names, predicted, path)


def _load(args: argparse.Namespace) -> Dataset:
    loader = DATASETS[args.dataset]
    if args.data_dir is None:
        return loader()
    if "data_dir" not in inspect.signature(loader).parameters:
        raise ValueError(f"--data-dir: {args.dataset} is not read from a folder")
    return loader(data_dir=args.data_dir)


def _model_and_data(args: argparse.Namespace) -> tuple[mlpfast.MLP, Dataset]:
    model, data = mlpfast.MLP.load(args.model, device=args.device), _load(args)
    features, classes = data.x_test.shape[1], len(data.class_names)
    if (model.sizes[0], model.sizes[-1]) != (features, classes):
        raise ValueError(
            f"{args.model} is a model of {model.sizes[0]} features and {model.sizes[-1]} classes, "
            f"{args.dataset} has {features} and {classes}"
        )
    return model, data


def _check_outputs(paths: Sequence[str]) -> None:
    """Find out, before hours of training, that a file cannot be written. Leaves no trace."""
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise ValueError("--out, --plot, --grid and --csv must name different files")
    for path in map(Path, paths):
        try:
            if path.exists() and not path.is_file():
                raise OSError("not a regular file")
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".mlpfast."):
                pass
            if path.exists():
                path.open("ab").close()
        except OSError as error:
            raise OSError(f"cannot write {path}: {error.strerror or error}") from error


def _rows(text: str) -> slice:
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first or not colon else None
        stop = (int(last) if last else None) if colon else int(first) + 1 or None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a row, or a range of rows such as 0:10") from None
    return slice(start, stop)


def _units(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        advice = "give several as 256 128; the data set comes before the options"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of units; {advice}") from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as any other error is said."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mlpfast: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mlpfast", description="Train and run multilayer perceptrons.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"mlpfast {mlpfast.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for run, (arguments, text) in COMMANDS.items():
        command = commands.add_parser(
            run.__name__,
            help=text,
            description=text,
            usage=f"mlpfast {run.__name__} {arguments} [options]".replace("  ", " "),
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        add = command.add_argument
        add("--threads", type=int, metavar="N", help="threads to use; results do not depend on it")
        if "MODEL" in arguments:
            add("model", metavar="MODEL", help="file of a trained model")
        if "DATASET" in arguments:
            optional: dict[str, Any] = {"nargs": "?", "default": "digits"} if "[" in arguments else {}
            add("dataset", choices=DATASETS, metavar="DATASET", help=", ".join(DATASETS), **optional)
            add("--data-dir", metavar="FOLDER", help="where data sets are, by default MLPFAST_DATA")
            add("--device", default="cpu", metavar="DEVICE", help="cpu or cuda")
        if run is predict:
            add("--rows", type=_rows, default="0:10", metavar="FROM:TO", help="by default 0:10")
        if run is train:
            _add_train_options(command)
    return parser


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--hidden", type=_units, nargs="*", action="extend", metavar="UNITS",
        help="units of each hidden layer; --hidden alone: none, softmax regression")  # fmt: skip
    add("--activation", metavar="NAME", help=", ".join(mlpfast.kernels.ACTIVATIONS))
    add("--init", metavar="NAME", help="he, xavier, lecun, zeros, normal:DEVIATION or constant:VALUE")
    add("--epochs", type=int, metavar="N")
    add("--batch-size", type=int, metavar="ROWS")
    add("--lr", type=float, metavar="RATE", help="learning rate")
    add("--momentum", type=float, metavar="SHARE")
    add("--nesterov", action="store_true", help="look ahead along the velocity")
    add("--weight-decay", type=float, default=0.0, metavar="RATE")
    add("--seed", type=int, default=0, metavar="N", help="of the initial weights and the order of rows")
    add("--dtype", default="float32", metavar="DTYPE", help="float32 or float64")
    add("--precision", default="highest", metavar="LEVEL", help="ieee, highest, high or medium")
    add("--out", metavar="FILE", help="save the model, for example to model.safetensors")
    add("--plot", metavar="FILE", help="draw the curves of the training, for example to curves.png")
    add("--grid", metavar="FILE", help=f"draw {GRID_IMAGES} test images with names, for example to grid.png")
    add("--csv", metavar="FILE", help="log the epochs, for example to log.csv")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["where not given:", *map(_defaults, SETTINGS)])


def _defaults(dataset: str) -> str:
    options = {name.replace("_", "-"): value for name, value in SETTINGS[dataset].items()}
    texts = [f"--{name} {' '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in options.items()]
    return f"  {dataset}\n    {' '.join(texts)}"
