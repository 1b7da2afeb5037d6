"""Two runs case by case; "tie" when spreads overlap."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report import duration
from benchmarks.summary import OURS, headline, spread, timed

Results = Mapping[str, Any]


def compare(a: Results, b: Results) -> list[str]:
    """Lines: our time in a and b, the verdict, and the ratios to the best peer, which noise spares."""
    ours, theirs = ({row["name"]: row["contenders"] for row in run["rows"]} for run in (a, b))
    lines = _differences(a, b)
    width = max(map(len, [*ours, *theirs, "case"]))
    lines.append(f"{'case':<{width}}  {'a':>8}  {'b':>8}  {'verdict':<16}  against the best peer")
    for name in dict.fromkeys([*ours, *theirs]):
        before, after = ours.get(name), theirs.get(name)
        if not (before and after and timed(before.get(OURS)) and timed(after.get(OURS))):
            lines.append(f"{name:<{width}}  only in {'b' if not before else 'a'}, or not timed in both")
            continue
        s, t = (spread(entries[OURS]["seconds"]) for entries in (before, after))
        times = f"{duration(s.middle):>8}  {duration(t.middle):>8}"
        lines.append(f"{name:<{width}}  {times}  {verdict(s, t):<16}  {_peers(before, after)}")
    return lines


def verdict(a: Any, b: Any) -> str:
    """Of two spreads of times."""
    if a.overlaps(b):
        return "tie"
    return (
        f"b {a.middle / b.middle:.2f}x faster"
        if b.middle < a.middle
        else f"b {b.middle / a.middle:.2f}x slower"
    )


def _peers(before: Any, after: Any) -> str:
    first, second = headline(before), headline(after)
    if not (first and second):
        return "-"
    (peer, s), (other, t) = first, second
    word = "tie" if s.overlaps(t) else "b better" if t.middle > s.middle else "b worse"
    return f"{s.middle:.2f}x {peer}, {t.middle:.2f}x {other}: {word}"


def _differences(a: Results, b: Results) -> list[str]:
    """What differs between the two environments, dates and loads aside."""
    facts = [{**run["environment"], **run["versions"]} for run in (a, b)]
    names = [n for n in dict.fromkeys([*facts[0], *facts[1]]) if n not in ("date", "load at start")]
    pairs = [(n, facts[0].get(n, "none"), facts[1].get(n, "none")) for n in names]
    return [f"{n}: {x} in a, {y} in b" for n, x, y in pairs if x != y]
