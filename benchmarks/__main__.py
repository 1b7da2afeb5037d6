"""The command: measure, report, compare."""

import argparse
import json
import math
import os
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
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, KeyError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def measure(arguments: argparse.Namespace) -> int:
    """Run the cases one after the other; the JSON file is complete after each of them."""
    chosen = cases.choose(arguments.group, arguments.cases, arguments.quick)
    entrants = [timing.entrants(case, arguments.contenders) for case in chosen]
    if not any(entrants):
        raise ValueError(_nothing(arguments, chosen))
    partly = arguments.group != "all" or arguments.cases or arguments.contenders or arguments.quick
    if arguments.write and partly:
        raise ValueError("--write replaces all tables: it takes `all` without --cases, --contenders, --quick")
    if arguments.json and (arguments.json.is_dir() or not arguments.json.parent.is_dir()):
        raise ValueError(f"cannot write {arguments.json}: no such folder, or a folder itself")
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
    results = [_load(path) for path in arguments.files]
    if arguments.charts:
        for path, run in zip(arguments.files, results, strict=True):
            charts.draw(run, path.with_suffix(".png"))
    return _publish(results, arguments.write, [path.with_suffix(".png") for path in arguments.files])


def judge(arguments: argparse.Namespace) -> int:
    print("\n".join(compare(_load(arguments.a), _load(arguments.b))))
    return 0


def _load(path: Path) -> Any:
    """The results that `measure` wrote there."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        facts = [results["environment"], results["versions"], *results["rows"]]
        if not all(isinstance(fact, dict) for fact in facts):
            raise TypeError
        for row in results["rows"]:
            _ = row["name"], row["others"], row["case"]["group"], row["contenders"].items()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path} is not a result of this command") from None
    return results


def _nothing(arguments: argparse.Namespace, chosen: list[cases.Case]) -> str:
    """Why there is nothing to measure."""
    if chosen and not arguments.cases:
        verb = "takes" if len(arguments.contenders) == 1 else "take"
        return f"{' and '.join(arguments.contenders)} {verb} part in no case of {arguments.group}"
    with_them = f" and has {' or '.join(arguments.contenders)}" if chosen else ""
    return f"no case of {arguments.group} contains {arguments.cases!r}{with_them}"


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
        run.add_argument("--threads", type=_threads, default=min(2, _cpus()))
        run.add_argument("--rounds", type=_positive, default=15)
        run.add_argument(
            "--patience", type=_seconds, default=0.0, help="seconds a case may wait for a quiet machine"
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
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be an integer, at least 1")
    return int(text)


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _threads(text: str) -> int:
    if (number := _positive(text)) > _cpus():
        raise argparse.ArgumentTypeError(f"must be at most {_cpus()}, the CPUs that this process may use")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError("must be a number of seconds, at least 0")
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
