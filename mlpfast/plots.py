"""Pictures of a training: its curves, and test images with the names given to them. Drawn by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from numpy.typing import ArrayLike

from mlpfast.arguments import PathLike, file_path, integer, numbers, unfit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf", ".jpg")
WRONG = "#c81e1e"


class HasEpochs(Protocol):
    """What `curves` draws: `mlpfast.History` is one."""

    @property
    def epochs(self) -> Sequence[Mapping[str, float]]: ...


def curves(history: HasEpochs, path: PathLike, *, held_out: str = "test") -> None:
    """Draw train loss, train accuracy and, where there were validation data, their accuracy by epoch.

    The figure is the one of the chapter on multilayer perceptrons in Zhang et al., Dive into Deep Learning.

    Parameters
    ----------
    history : History of at least one epoch
    path : of the picture; its suffix, one of `FORMATS`, is the format
    held_out : what the validation data are called in the legend

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError, TypeError
        If history is no History or has no epoch with a train_loss, path is not a path, or its suffix is not
        one of `FORMATS`.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from mlpfast import History
    >>> curves(History([{"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.8}]), "c.png")  # doctest: +SKIP
    """
    path = file_path("curves", "path", path)
    if not hasattr(history, "epochs"):
        raise TypeError(unfit("curves", "history", history, "a History, what fit returns"))
    losses = [record["train_loss"] for record in history.epochs if "train_loss" in record]
    if not losses:
        raise ValueError("curves: history has no epochs with a train_loss; train first")
    figure = _figure((6.0, 4.2))
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    drawn = {"train_loss": ("train loss", "-"), "train_accuracy": ("train accuracy", "--")}
    drawn["val_accuracy"] = (f"{held_out} accuracy", "-.")
    few = len(history.epochs) <= 30
    for key, (label, style) in drawn.items():
        points = [(record["epoch"], record[key]) for record in history.epochs if key in record]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, marker="o" if few else "", markersize=3)
    highest = max([1.0, *filter(math.isfinite, losses)])
    axes.set(xlabel="epoch", ylabel="loss, accuracy", ylim=(0, 1.03 * highest))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.4)
    for text in axes.legend().get_texts():
        text.set_parse_math(False)
    _write(figure, path)


def image_grid(
    images: ArrayLike,
    names: Sequence[str],
    predicted: Sequence[str],
    path: PathLike,
    *,
    columns: int = 5,
) -> None:
    """Draw images with their true and predicted names; mistakes are red and framed.

    Parameters
    ----------
    images : real numbers [n, height, width]
    names, predicted : n names each
    path : of the picture; its suffix, one of `FORMATS`, is the format
    columns : images side by side

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError, TypeError
        If the numbers of images and names differ or are 0, columns is not a positive integer, images are no
        numbers, path is not a path, or its suffix is not one of `FORMATS`.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import mlpfast
    >>> d = mlpfast.datasets.digits()  # doctest: +SKIP
    >>> image_grid(d.x_test[:2].reshape(2, 8, 8), ["2", "8"], ["2", "3"], "grid.png")  # doctest: +SKIP
    """
    path = file_path("image_grid", "path", path)
    images, columns = numbers("image_grid", "images", images), integer("image_grid", "columns", columns, 1)
    if images.ndim != 3 or not images.size or not len(images) == len(names) == len(predicted):
        raise ValueError(
            f"image_grid: images has shape {images.shape}, with {len(names)} names and {len(predicted)} "
            "predicted; it must be [n, height, width] with n of each, n at least 1"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = _figure((1.9 * columns, 2.35 * rows))
    for i, (image, name, guess) in enumerate(zip(images, names, predicted, strict=True), 1):
        axes = figure.add_subplot(rows, columns, i, xticks=[], yticks=[])
        axes.imshow(image, cmap="gray_r")
        wrong = name != guess
        axes.set_title(
            f"true {name}\npredicted {guess}", fontsize=9, color=WRONG if wrong else "black", parse_math=False
        )
        axes.spines[:].set(color=WRONG if wrong else "0.8", linewidth=2.5 if wrong else 0.8)
    _write(figure, path)


def check(path: PathLike) -> None:
    """Find out before the work whether a picture of this name can be drawn.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError, TypeError
        If path is not a path, or its suffix is not one of `FORMATS`.

    Examples
    --------
    >>> check("curves.png")  # doctest: +SKIP
    """
    path = file_path("check", "path", path)
    _figure((1, 1))
    if Path(path).suffix not in FORMATS:
        raise ValueError(f"{path}: the name of a picture must end in {', '.join(FORMATS)}")


def _figure(inches: tuple[float, float]) -> Figure:
    """A figure of its own: no window, no pyplot, no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'mlpfast[cli]'") from error
    return Figure(figsize=inches, layout="constrained")


def _write(figure: Figure, path: PathLike) -> None:
    check(path)
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:], dpi=150)
    Path(path).write_bytes(content.getvalue())
