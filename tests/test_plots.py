"""Pictures: that they are drawn, hold what they should, and are refused before they are begun."""

import sys

import numpy as np
import pytest

import mlpfast
from mlpfast import plots

pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'mlpfast[cli]')")

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".jpg": b"\xff\xd8"}
HISTORY = mlpfast.History(
    [
        {"epoch": n, "train_loss": 2 / n, "train_accuracy": 1 - 0.5 / n, "val_accuracy": 1 - 0.6 / n}
        for n in range(1, 5)
    ]
)
IMAGES = np.arange(3 * 4 * 5).reshape(3, 4, 5)


@pytest.fixture
def figure(monkeypatch):
    """The figure that was drawn last."""
    drawn = []
    write = plots._write
    monkeypatch.setattr(plots, "_write", lambda figure, path: (drawn.append(figure), write(figure, path)))
    return lambda: drawn[-1]


def test_formats_are_those_signed():
    assert set(plots.FORMATS) == set(SIGNATURES)


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_files(tmp_path, suffix):
    plots.curves(HISTORY, tmp_path / f"curves{suffix}")
    plots.image_grid([*IMAGES], "abc", "abd", str(tmp_path / f"grid{suffix}"))
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(SIGNATURES[suffix])


def test_names_are_no_formulas(tmp_path, figure):
    plots.image_grid([IMAGES[0]], ["5$ or \\foo$"], ["5$ or 6$"], tmp_path / "grid.png")
    assert figure().axes[0].get_title() == "true 5$ or \\foo$\npredicted 5$ or 6$"
    plots.curves(HISTORY, tmp_path / "curves.png", held_out="$\\foo$")
    assert figure().axes[0].get_legend().get_texts()[-1].get_text() == "$\\foo$ accuracy"


def test_curves(tmp_path, figure):
    plots.curves(HISTORY, tmp_path / "curves.png")
    (axes,) = figure().axes
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert list(lines) == ["train loss", "train accuracy", "test accuracy"]
    assert np.array_equal(lines["train loss"], [[1, 2], [2, 1], [3, 2 / 3], [4, 0.5]])
    assert axes.get_ylim() == (0, pytest.approx(2.06))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss, accuracy")
    assert axes.get_legend() is not None


@pytest.mark.parametrize(
    ("losses", "highest"), [([0.3], 1), ([np.inf, np.nan], 1), ([np.nan, 5.0, np.inf], 5)], ids=str
)
def test_curves_without_held_out_data(losses, highest, tmp_path, figure):
    """From one epoch on; losses that are no numbers are left out."""
    records = [{"epoch": n, "train_loss": loss, "train_accuracy": 0.9} for n, loss in enumerate(losses, 1)]
    plots.curves(mlpfast.History(records), tmp_path / "curves.png")
    (axes,) = figure().axes
    assert len(axes.lines) == 2
    assert axes.get_ylim()[1] == pytest.approx(1.03 * highest)


def test_grid_marks_mistakes(tmp_path, figure):
    plots.image_grid(
        IMAGES, ["Coat", "Bag", "Shirt"], ["Coat", "Bag", "T-shirt/top"], tmp_path / "g.png", columns=2
    )
    colors = {axes.get_title(): axes.title.get_color() for axes in figure().axes}
    assert colors == {
        "true Coat\npredicted Coat": "black",
        "true Bag\npredicted Bag": "black",
        "true Shirt\npredicted T-shirt/top": plots.WRONG,
    }
    assert np.array_equal(figure().axes[2].images[0].get_array(), IMAGES[2])


def test_no_global_state(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plots.curves(HISTORY, tmp_path / "curves.png")
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda path: plots.curves(mlpfast.History(), path), "no epochs"),
        (lambda path: plots.curves(HISTORY, path.with_suffix(".xyz")), r"\.png, \.svg"),
        (lambda path: plots.curves(HISTORY, path.with_suffix("")), r"\.png, \.svg"),
        (lambda path: plots.image_grid(IMAGES, "ab", "abc", path), "2 names and 3 predicted"),
        (lambda path: plots.image_grid(IMAGES[:0], "", "", path), "at least 1"),
        (lambda path: plots.image_grid(IMAGES[0], "abcd", "abcd", path), "height, width"),
        (lambda path: plots.image_grid(IMAGES, "abc", "abc", path, columns=0), "columns is 0"),
        (lambda path: plots.curves(mlpfast.History([{"epoch": 1, "val_loss": 1}]), path), "train_loss"),
    ],
)
def test_refused(tmp_path, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_unwritable(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        plots.curves(HISTORY, tmp_path / "nowhere" / "curves.png")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'mlpfast\[cli\]'"):
        plots.check("curves.png")
