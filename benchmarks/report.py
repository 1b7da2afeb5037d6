"""Markdown from results: BENCHMARKS.md, and README's table between its markers."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import zip_longest
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES, ON_GPU, Case
from benchmarks.contenders import PEAKS
from benchmarks.load import QUIET
from benchmarks.summary import OURS, Entry, headline, isa_of, peak_fraction, ratio, spread, tied, timed

Results = Mapping[str, Any]
IN_README = 2  # of the runs that are reported, the first
OPEN, CLOSE = "<!-- benchmarks -->", "<!-- /benchmarks -->"
HOW = """\
Time of one call, or of one step in a whole epoch: median (quartiles) over the rounds. Each contender runs
in its own process. Contenders take turns in every round; each starts when the previous one's threads have
gone to sleep. Behind a peer's time is its ratio to ours: the median over rounds of the ratio within a
round. The best peer is the one whose ratio is the lowest; "tie" where the ratio's quartiles enclose 1, or
where the ratio of the medians says the contrary. All contenders of a row have the same data, float type and
threads; their first result is checked against NumPy's. A library that has several forms of the same work is
timed in the fastest. `step` is a shuffled epoch of `Trainer.fit` with plain SGD, from memory. torch_manual
is PyTorch without autograd, by hand; torch_compile compiles the whole step into one graph; jax scans over
the epoch inside jit. `fit` is ten such epochs, each with a validation. A level after the dtype is our
`precision`; for medium, PyTorch and JAX may compute in bf16 too. torch_six_bf16 is not a peer but a
yardstick: the time of six bf16 products. "of peak" is of float32 multiply-adds, which AMX can exceed.
Targets ("we ask") below the tables were set for two cores with AVX-512; those for high and medium, with
AMX.

To measure again, in a checkout, with a C++ compiler for the peaks: `pip install . torch jax scikit-learn
onnxruntime matplotlib threadpoolctl`, where a library that is missing only leaves its cells empty; then
`python -m benchmarks all --json run.json` and `python -m benchmarks report --charts run.json`."""


def markdown(results: Iterable[Results], pictures: Iterable[str] = ()) -> str:
    """All tables of one or more runs; their pictures before them."""
    parts = ["# Benchmarks", "", "Written by `python -m benchmarks report`.", "", HOW]
    for run, picture in zip_longest(results, pictures):
        parts += ["", *_environment(run)]
        if picture:
            parts += ["", f"![Ratios to the best peer, and the roofline]({picture})"]
        for group in dict.fromkeys(row["case"]["group"] for row in run["rows"]):
            rows = [row for row in run["rows"] if row["case"]["group"] == group]
            parts += ["", f"## {group}", "", *table(rows), "", *_notes(rows, isa_of(run))]
    return "\n".join(parts).rstrip() + "\n"


def table(rows: list[Results]) -> list[str]:
    """Lines of a group's table: ours, share of the peak, headline, every peer."""
    names = dict.fromkeys(name for row in rows for name in row["contenders"])
    peers = [name for name in names if name != OURS and name not in PEAKS]
    lines = _header(["case", OURS, "of peak", "best peer / ours", *peers])
    for row in rows:
        entries = row["contenders"]
        ours = entries.get(OURS)
        cells = [_cell(entries.get(name), ours) for name in peers]
        lines.append(_line([row["name"], _cell(ours, None), _peak(entries), _headline(entries), *cells]))
    return lines


def short_table(results: Iterable[Results]) -> list[str]:
    """README's lines: the quick cases, ours against the best peer."""
    quick = {case.name for case in CASES if case.quick}
    lines = _header(["case", OURS, "best peer", "best peer / ours"])
    for row in (row for run in results for row in run["rows"] if row["name"] in quick):
        entries, best = row["contenders"], headline(row["contenders"])
        theirs = _cell(entries[best[0]], None) if best else "none"
        lines.append(_line([row["name"], _cell(entries.get(OURS), None), theirs, _headline(entries)]))
    return lines


def write(results: list[Results], root: Path, pictures: Iterable[Path] = ()) -> list[str]:
    """Write BENCHMARKS.md, and README's table if it has the markers; names of the files written."""
    inside = [p.resolve() for p in pictures if p.resolve().is_relative_to(root) and p.exists()]
    links = [str(path.relative_to(root)) for path in inside]
    (root / "BENCHMARKS.md").write_text(markdown(results, links), encoding="utf-8")
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, opened, rest = text.partition(OPEN)
    _, closed, after = rest.partition(CLOSE)
    if not (opened and closed):
        return ["BENCHMARKS.md"]
    shown = results[:IN_README]
    body = "\n\n".join("\n".join([*short_table([run]), "", _caption(run)]) for run in shown)
    readme.write_text(f"{before}{OPEN}\n{body}\n{CLOSE}{after}", encoding="utf-8")
    return ["BENCHMARKS.md", "README.md"]


def duration(seconds: float, *quartiles: float) -> str:
    """Three digits: 12.3 us; with quartiles 12.3 (11.9 - 13.0) us."""
    unit, scale = next(
        (u, s) for u, s in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)) if seconds >= 0.9995 * s or u == "us"
    )
    middle, *ends = (
        f"{t / scale:#.3g}".rstrip(".") if t < 999.5 * scale else f"{t / scale:.0f}"
        for t in (seconds, *quartiles)
    )
    return f"{middle} ({' - '.join(ends)}) {unit}" if ends else f"{middle} {unit}"


def _header(titles: list[str]) -> list[str]:
    return [_line(titles), _line(["---"] * len(titles))]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cell(entry: Entry | None, ours: Entry | None) -> str:
    if entry is None:
        return "not run"
    if "unavailable" in entry:
        return str(entry["unavailable"])[:80]
    if entry["check"]:
        return f"WRONG: {entry['check']}"
    if not entry["seconds"]:
        return "no rounds"
    text = duration(*spread(entry["seconds"]))
    return f"{text}, {ratio(entry, ours).middle:.2f}x" if ours and timed(ours) else text


def _headline(entries: Mapping[str, Entry]) -> str:
    best = headline(entries)
    if best is None:
        return "-"
    peer, (middle, _, _) = best
    return f"tie, {middle:.2f}x {peer}" if tied(entries) else f"**{middle:.2f}x** {peer}"


def _peak(entries: Mapping[str, Entry]) -> str:
    found = peak_fraction(entries)
    if found is None:
        reasons = [entries[name].get("unavailable", "") for name in PEAKS if name in entries]
        return reasons[0] if reasons else "not measured"
    _, rate, share = found
    return f"{share:.0%} of {rate / 1e9:.0f} GFLOP/s" if rate else f"{share:.0%} of a copy"


def missed(case: Case, entries: Mapping[str, Entry]) -> list[str]:
    """The targets that a case misses, in the digits of the tables."""
    best, ours = headline(entries), entries.get(OURS)
    ratios = [(case.floor, *best)] if best and not case.peer else []
    unknown: list[str] = []
    eager = "torch_gpu" if case.device == "cuda" else "torch_eager"
    for ask, name in ((case.floor, case.peer), (case.eager, eager)):
        peer = entries.get(name)
        if timed(ours) and timed(peer):
            assert ours and peer
            ratios.append((ask, name, ratio(peer, ours)))
        elif ask and name and name == case.peer:
            unknown.append(f"{name} did not run, we ask {ask:g}x of it")
    texts = [
        f"{x.middle:.2f}x {peer}, we ask {ask:g}x" for ask, peer, x in ratios if round(x.middle, 2) < ask
    ]
    texts += unknown
    peak = peak_fraction(entries)
    if peak and round(peak[2], 2) < case.share:
        texts.append(f"{peak[2]:.0%} of {'its peak' if peak[1] else 'a copy'}, we ask {case.share:.0%}")
    if timed(ours) and case.limit and float(f"{spread(ours['seconds']).middle:.3g}") > case.limit:
        texts.append(f"{duration(spread(ours['seconds']).middle)}, we ask {case.limit * 1e6:g} us")
    return texts


def _notes(rows: list[Results], isa: str) -> list[str]:
    """Geometric mean, rows that miss what we ask, and contenders that kept the CPUs busy."""
    known = {case.name: case for case in [*CASES, *ON_GPU]}
    heads = {row["name"]: best for row in rows if (best := headline(row["contenders"]))}
    lines = []
    if heads:
        mean = prod(best[1].middle for best in heads.values()) ** (1 / len(heads))
        count = f"{len(heads)} case{'s' * (len(heads) > 1)}"
        lines.append(f"Geometric mean over {count}: {mean:.2f}x the best peer.")
    for row in rows:
        case = known.get(row["name"])
        if case and (texts := missed(replace(case, floor=case.asked(isa)), row["contenders"])):
            lines.append(f"- {case.name}: {'; '.join(texts)}. {case.remark.get(isa, '')}".rstrip())
    for row in rows:
        if row["others"] and median(row["others"]) > QUIET:
            others = f"others kept {median(row['others']):.1f} CPUs busy"
            why = "so this row is unreliable: libraries whose threads spin suffer most"
            lines.append(f"- {row['name']}: {others}, {why}.")
        for name, entry in row["contenders"].items():
            if timed(entry) and entry["restless"]:
                lines.append(
                    f"- {row['name']}: {name} still used CPU half a second after {entry['restless']} of "
                    f"{len(entry['seconds'])} rounds."
                )
    return lines


def _environment(run: Results) -> list[str]:
    facts = {**run["environment"], **run["versions"]}
    return ["```", *(f"{name:<14} {text}" for name, text in facts.items()), "```"]


def _caption(run: Results) -> str:
    e = run["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return f"{e['CPU']}, {e['CPUs usable']} CPUs, {e['threads']} threads, {e['date']}; {versions}."
