"""The command: measure, report, compare."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import cases, charts, environment, report, timing
from benchmarks.compare import compare
from benchmarks.contenders import CONTROLS, NAMES, PEAKS

GROUPS = list(dict.fromkeys(case.group for case in cases.CASES))


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return int(arguments.command(arguments))
    except (OSError, ValueError, KeyError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def measure(arguments: argparse.Namespace) -> int:
    """Run the cases one after the other; the JSON file is complete after each of them."""
    chosen = cases.choose(arguments.group, arguments.cases, arguments.quick)
    entrants = [timing.entrants(case, arguments.contenders) for case in chosen]
    if not any(entrants):
        raise ValueError(f"no case of {arguments.group} contains {arguments.cases!r} and has such contenders")
    results: dict[str, Any] = {
        "environment": environment.describe(arguments.threads),
        "versions": {},
        "rows": [],
    }
    plan = timing.Plan(arguments.threads, arguments.rounds, arguments.patience)
    for case, names in zip(chosen, entrants, strict=True):
        print(case.name, file=sys.stderr, flush=True)
        entries, others = timing.race(case, names, plan)
        row = {"name": case.name, "case": asdict(case), "others": others, "contenders": entries}
        results["rows"].append(row)
        results["versions"] |= _versions(entries)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    pictures = [arguments.json.with_suffix(".png")] if arguments.json else []
    return _publish([results], arguments.write, pictures)


def show(arguments: argparse.Namespace) -> int:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.files]
    if arguments.charts:
        for path, run in zip(arguments.files, results, strict=True):
            charts.draw(run, path.with_suffix(".png"))
    return _publish(results, arguments.write, [path.with_suffix(".png") for path in arguments.files])


def judge(arguments: argparse.Namespace) -> int:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in (arguments.a, arguments.b)]
    print("\n".join(compare(*runs)))
    return 0


def _publish(results: list[Any], write: bool, pictures: list[Path]) -> int:
    print(report.markdown(results), end="")
    if write:
        print(f"wrote {', '.join(report.write(results, timing.ROOT, pictures))}", file=sys.stderr)
    return 0


def _versions(entries: dict[str, Any]) -> dict[str, str]:
    """Of libraries, and the ISA we ran on."""
    versions = {}
    for name, entry in entries.items():
        if entry.get("version"):
            versions[name.partition("_")[0]] = entry["version"]
    ours = entries.get("mlpfast", {})
    if ours.get("version"):
        versions["mlpfast"] = f"{ours['version']}, {ours['note']}"
    return versions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for group in [*GROUPS, "all", "gpu"]:
        run = commands.add_parser(group, help=f"measure {group}")
        run.set_defaults(command=measure, group=group)
        run.add_argument("--threads", type=_positive, default=2)
        run.add_argument("--rounds", type=_positive, default=15)
        run.add_argument(
            "--patience", type=float, default=0.0, help="seconds a case may wait for a quiet machine"
        )
        run.add_argument("--cases", default="", help="only those whose name contains this")
        run.add_argument("--contenders", type=_contenders, default=[], help="comma-separated; default: all")
        run.add_argument("--quick", action="store_true", help="the small set of cases")
        run.add_argument("--json", type=Path, help="write results here")
        run.add_argument("--write", action="store_true", help="write BENCHMARKS.md and README's table")
    again = commands.add_parser("report", help="tables of earlier results")
    again.set_defaults(command=show)
    again.add_argument("files", type=Path, nargs="+")
    again.add_argument("--write", action="store_true", help="write BENCHMARKS.md and README's table")
    again.add_argument("--charts", action="store_true", help="draw each file's picture beside it")
    against = commands.add_parser("compare", help="two results, case by case")
    against.set_defaults(command=judge)
    against.add_argument("a", type=Path)
    against.add_argument("b", type=Path)
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _contenders(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    known = (*NAMES, *CONTROLS, *PEAKS)
    if unknown := set(names) - set(known):
        raise argparse.ArgumentTypeError(
            f"unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
