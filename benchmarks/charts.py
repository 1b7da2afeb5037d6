"""A picture of a run: ratios to the best peer as bars, and the roofline its products lie under."""

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES
from benchmarks.summary import OURS, headline, isa_of, peak_fraction, timed

Row = Mapping[str, Any]
AHEAD, BEHIND = "#2a7f62", "#b3541e"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write the picture; matplotlib is imported here because only this needs it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in results["rows"] if headline(row["contenders"])]
    figure = Figure(figsize=(13, max(4, 0.28 * len(rows) + 1.5)), layout="constrained")
    FigureCanvasAgg(figure)
    bars, roof = figure.subplots(1, 2, width_ratios=(3, 2))
    _bars(bars, rows, isa_of(results))
    _roofline(roof, rows)
    versions = results["versions"].get(OURS, "")
    where = results["environment"]
    figure.suptitle(f"mlpfast {versions}; {where['CPU']}, {where['threads']} threads, {where['date']}")
    figure.savefig(path, dpi=100)


def _bars(axes: Any, rows: list[Row], isa: str) -> None:
    """The best peer's time over ours, with the quartiles over rounds; a tick is what we ask."""
    floors = {case.name: case.asked(isa) for case in CASES}
    for at, row in enumerate(rows):
        found = headline(row["contenders"])
        assert found
        peer, (middle, low, high) = found
        axes.barh(at, middle - 1, left=1, color=AHEAD if middle >= 1 else BEHIND)
        axes.plot([low, high], [at, at], color="black", linewidth=1)
        floor = floors.get(row["name"], 0)
        axes.text(max(high, 1, floor) * 1.03, at, f"{middle:.2f}x {peer}", va="center", fontsize=7)
        if floor:
            axes.plot([floor, floor], [at - 0.4, at + 0.4], color="black", linewidth=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.01)
    axes.set_xlabel("best peer's time / ours (quartiles; a tick is what we ask)")


def _roofline(axes: Any, rows: list[Row]) -> None:
    """Our rate in float32 products over operations per byte of their arrays, each counted once."""
    points = [
        (*_work(row["case"]), row["contenders"][OURS]) for row in rows if timed(row["contenders"][OURS])
    ]
    points = [(flops, size, entry) for flops, size, entry in points if flops]
    peaks = [found[1] for row in rows if (found := peak_fraction(row["contenders"])) and found[1]]
    copies = [rate for row in rows if (rate := _copy_rate(row))]
    for flops, size, entry in points:
        axes.plot(flops / size, entry["flops"] / median(entry["seconds"]) / 1e9, "o", color=AHEAD)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if peaks and points:
        ends = [min(f / s for f, s, _ in points) / 2, max(f / s for f, s, _ in points) * 2]
        copy = max(copies, default=float("inf"))  # bytes a second
        ends = sorted([*ends, median(peaks) / copy] if copies else ends)
        roof = [min(median(peaks), copy * end) / 1e9 for end in ends]
        axes.plot(ends, roof, color="black", linewidth=1)
        axes.text(ends[-1], roof[-1], "multiply-adds in float32 ", ha="right", va="bottom", fontsize=8)
        if copies:
            axes.text(ends[0], roof[0], " a copy in memory", va="bottom", fontsize=8)
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("GFLOP/s")


def _work(case: Mapping[str, Any]) -> tuple[float, float]:
    """Operations, and bytes of the arrays, of a row in float32; 0 operations for others."""
    shape = case["shape"]
    exact = case["dtype"] == "float32" and case.get("precision", "highest") == "highest"
    if not exact or case["group"] not in ("gemm", "step", "predict"):
        return 0, 1
    if case["group"] == "gemm":
        m, n, k = shape
        return 2 * prod(shape), 4 * (m * k + k * n + m * n)
    weights = sum(a * b for a, b in pairwise(shape))
    passes = 3 * weights - shape[0] * shape[1] if case["group"] == "step" else weights
    return 2 * passes * case["batch"], 4 * (case["batch"] * sum(shape) + weights)


def _copy_rate(row: Row) -> float:
    """Bytes read and written a second by the copy of a softmax row; 0 elsewhere."""
    copy = row["contenders"].get("peak_copy")
    if row["case"]["group"] != "softmax" or not timed(copy):
        return 0
    assert copy
    return 2 * 4 * prod(row["case"]["shape"]) / median(copy["seconds"])
