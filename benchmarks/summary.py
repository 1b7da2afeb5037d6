"""What the rounds of a row say: medians, quartiles, and ratios from pairs of the same round."""

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any, NamedTuple

from benchmarks.contenders import CONTROLS, PEAKS

OURS = "mlpfast"
Entry = Mapping[str, Any]  # what timing.race says of one contender


class Spread(NamedTuple):
    """Median, first and third quartile."""

    middle: float
    low: float
    high: float

    def overlaps(self, other: "Spread") -> bool:
        return self.low <= other.high and other.low <= self.high


def isa_of(run: Mapping[str, Any]) -> str:
    """What we ran on, as our worker noted it."""
    return str(run["versions"].get(OURS, "")).split(" ")[-1]


def spread(values: Sequence[float]) -> Spread:
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high)


def timed(entry: Entry | None) -> bool:
    """Whether it ran and its result was right."""
    return entry is not None and "unavailable" not in entry and not entry["check"] and bool(entry["seconds"])


def ratio(entry: Entry, base: Entry) -> Spread:
    """How many times as long as base, round by round."""
    return spread([a / b for a, b in zip(entry["seconds"], base["seconds"], strict=False)])


def headline(entries: Mapping[str, Entry]) -> tuple[str, Spread] | None:
    """The best peer, whose ratio is the lowest, and its time over ours."""
    ours = entries.get(OURS)
    if ours is None or not timed(ours):
        return None
    others = (OURS, *PEAKS, *CONTROLS)
    ratios = [(name, ratio(e, ours)) for name, e in entries.items() if name not in others and timed(e)]
    return min(ratios, key=lambda found: found[1].middle, default=None)


def tied(entries: Mapping[str, Entry]) -> bool:
    """Whether neither we nor the best peer can be called faster.

    The ratio's quartiles enclose 1, or the ratio of the medians says the contrary of the median ratio.
    """
    best = headline(entries)
    if best is None or len(entries[OURS]["seconds"]) < 2:
        return False
    peer, (middle, low, high) = best
    medians = median(entries[peer]["seconds"]) / median(entries[OURS]["seconds"])
    return low <= 1 <= high or (middle - 1) * (medians - 1) < 0


def peak_fraction(entries: Mapping[str, Entry]) -> tuple[str, float, float] | None:
    """The peak of the row, the rate it was measured at (0 for a copy), and our share of it."""
    ours = entries.get(OURS)
    for name in PEAKS:
        peak = entries.get(name)
        if timed(peak) and timed(ours):
            assert peak and ours
            share = ratio(peak, ours).middle
            if not peak["flops"]:
                return name, 0.0, share
            return name, peak["flops"] / median(peak["seconds"]), share * ours["flops"] / peak["flops"]
    return None
