"""The benchmark command on one tiny case: its JSON, its tables, a comparison. No speed is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CASE = "gemm 1x256x784 NN float32"


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(path of the JSON, its content, the printed report)"""
    path = tmp_path_factory.mktemp("benchmarks") / "out.json"
    tiny = ["gemm", "--cases", "1x256x784", "--contenders", "mlpfast,numpy", "--rounds", 3, "--threads", 1]
    done = command(*tiny, "--json", path)
    assert done.returncode == 0, done.stderr
    return path, json.loads(path.read_text()), done.stdout


def test_training_is_checked_by_one_run_of_numpys():
    """The first contender's worker makes it, the next one is told."""
    step = ["step", "--cases", "64-48-48-48-4 batch 512", "--contenders", "mlpfast,numpy", "--rounds", 1]
    done = command(*step, "--threads", 1)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| step 64-48-48-48-4")]
    assert "x** numpy" in line and "WRONG" not in done.stdout


def test_results_say_what_ran_where(run):
    _, results, _ = run
    assert {"CPU", "threads", "date", "python"} <= set(results["environment"])
    assert {"mlpfast", "numpy"} <= set(results["versions"])
    (row,) = results["rows"]
    assert row["name"] == CASE
    assert list(row["contenders"]) == ["mlpfast", "numpy"]
    for entry in row["contenders"].values():
        assert entry["check"] == ""
        assert len(entry["seconds"]) == 3
        assert all(0 < seconds < 1 for seconds in entry["seconds"])


def test_report_has_a_row_with_the_ratio_to_the_best_peer(run):
    path, _, printed = run
    (line,) = [line for line in printed.splitlines() if line.startswith(f"| {CASE}")]
    assert "x** numpy" in line
    again = command("report", path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == printed


def test_charts(run, tmp_path):
    pytest.importorskip("matplotlib", reason="charts need matplotlib")
    copy = tmp_path / "run.json"
    copy.write_text(run[0].read_text())
    assert command("report", "--charts", copy).returncode == 0
    assert copy.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_contender_keeps_its_cell(run, tmp_path):
    path, results, _ = run
    results = json.loads(path.read_text())
    results["rows"][0]["contenders"]["jax"] = {"unavailable": "not installed"}
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(results))
    assert "| not installed |" in command("report", changed).stdout


def test_a_wrong_result_is_no_peer(run, tmp_path):
    path, results, _ = run
    results = json.loads(path.read_text())
    results["rows"][0]["contenders"]["numpy"]["check"] = "product: relative error 0.1"
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(results))
    printed = command("report", changed).stdout
    assert "WRONG: product" in printed
    assert "x** numpy" not in printed


def test_compare_with_itself_is_a_tie_and_twice_as_slow_is_not(run, tmp_path):
    path, _, _ = run
    same = command("compare", path, path)
    assert same.returncode == 0, same.stderr
    assert CASE in same.stdout
    assert "tie" in same.stdout
    results = json.loads(path.read_text())
    ours = results["rows"][0]["contenders"]["mlpfast"]
    ours["seconds"] = [100 * seconds for seconds in ours["seconds"]]
    slower = tmp_path / "slower.json"
    slower.write_text(json.dumps(results))
    assert "slower" in command("compare", path, slower).stdout


@pytest.mark.parametrize(
    "arguments", [("gemm", "--cases", "no such case"), ("gemm", "--contenders", "nobody")]
)
def test_nothing_to_run_is_an_error(arguments):
    done = command(*arguments)
    assert done.returncode != 0
    assert arguments[-1] in done.stderr


def test_contenders_of_a_gpu_say_why_they_cannot_run(tmp_path):
    """Where there is one, they run."""
    path = tmp_path / "gpu.json"
    done = command("gpu", "--cases", "softmax 65536x10", "--rounds", 1, "--json", path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(path.read_text())["rows"]
    assert {"mlpfast", "torch_gpu", "jax_gpu"} <= set(row["contenders"])
    for entry in row["contenders"].values():
        assert (
            entry.get("seconds") or "GPU" in entry["unavailable"] or "not installed" in entry["unavailable"]
        )


def test_a_form_that_fails_takes_no_part(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    from benchmarks.contenders import Job, fastest

    def form(seconds):
        def build():
            if seconds is None:
                raise RuntimeError("no compiler")
            return Job(lambda: None, lambda: seconds, "1", clock=lambda run, repeats: seconds)

        return build

    assert fastest([form(0.2), form(0.1), form(None)]).result() == 0.1
    assert fastest([form(None), form(0.2)]).result() == 0.2
    with pytest.raises(RuntimeError, match="no compiler"):
        fastest([form(None), form(None)])


def test_what_we_ask_is_compared_as_it_is_printed(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    from benchmarks.cases import CASES, Case
    from benchmarks.report import missed

    def entries(**seconds):
        return {name: {"seconds": [s], "check": "", "flops": 0} for name, s in seconds.items()}

    case = Case("softmax", (8, 2), floor=0.95, eager=3.0, share=0.5, limit=2e-6)
    within = dict(mlpfast=2.004e-6, jax=1.9e-6, torch_eager=6.01e-6, peak_copy=0.999e-6)
    assert not missed(case, entries(**within))
    beyond = dict(mlpfast=2.03e-6, jax=1.9e-6, torch_eager=6.01e-6, peak_copy=0.9e-6)
    assert missed(case, entries(**beyond)) == [
        "0.94x jax, we ask 0.95x",
        "2.96x torch_eager, we ask 3x",
        "44% of a copy, we ask 50%",
        "2.03 us, we ask 2 us",
    ]
    assert {isa for case in CASES for isa in case.remark} == {"avx2", "avx512", "amx"}
