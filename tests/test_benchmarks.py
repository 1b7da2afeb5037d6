"""The benchmark command on one tiny case: its JSON, its tables, a comparison. No speed is asserted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
CASE = "gemm 1x256x784 NN float32"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])


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
    assert "| not run |" not in line and re.search(r"x(\*\*)? numpy", line) and "WRONG" not in done.stdout


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
    assert re.search(r"x(\*\*)? numpy", line)
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
    assert not re.search(r"x(\*\*)? numpy", printed)


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


CPUS = len(os.sched_getaffinity(0))
TINY = ("gemm", "--cases", "4x4x4")
REFUSED = [
    (("gemm", "--cases", "no such case"), "no case of gemm contains 'no such case'"),
    (("gemm", "--contenders", "nobody"), "unknown nobody"),
    (("gemm", "--contenders", "sklearn"), "sklearn takes part in no case of gemm"),
    (("gpu", "--write"), "--write replaces all tables"),
    (("step", "--write"), "--write replaces all tables"),
    (("all", "--cases", "4x4x4", "--write"), "--write replaces all tables"),
    (("all", "--contenders", "numpy", "--write"), "--write replaces all tables"),
    (("all", "--quick", "--write"), "--write replaces all tables"),
    ((*TINY, "--threads", CPUS + 1), f"must be at most {CPUS}"),
    ((*TINY, "--rounds", "x"), "must be an integer, at least 1"),
    ((*TINY, "--patience", "nan"), "must be a number of seconds, at least 0"),
    ((*TINY, "--patience", "-5"), "must be a number of seconds, at least 0"),
    ((*TINY, "--json", "no such folder/run.json"), "cannot write no such folder/run.json"),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_what_cannot_be_run_is_refused_before_it_is(arguments, message):
    before = (ROOT / "README.md").read_text()
    done = command(*arguments)
    assert done.returncode != 0 and not done.stdout
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (ROOT / "README.md").read_text() == before


@pytest.mark.parametrize(
    "text",
    ["[1]", "3", "{}", "{", '{"rows": [3], "environment": {}, "versions": {}}', '{"rows": [{"name": "a"}]}'],
)
def test_a_file_that_is_no_result_is_named(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    for arguments in (("report", path), ("compare", path, path)):
        done = command(*arguments)
        assert done.returncode == 1
        assert done.stderr == f"benchmarks: {path} is not a result of this command\n"


def test_ctrl_c_ends_with_one_line(tmp_path):
    arguments = [sys.executable, "-m", "benchmarks", "gemm", "--contenders", "numpy", "--rounds", "1000"]
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # one in the background ignores it
    )
    assert process.stderr and process.stderr.readline()  # the first case's name
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers have it too
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (printed, errors) == ("", "benchmarks: interrupted\n")


def test_workers_have_no_variables_that_throttle_libraries(monkeypatch):
    from benchmarks.timing import variables

    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    monkeypatch.setenv("XLA_FLAGS", "kept")
    ours = variables("numpy", "cpu", 2)
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(ours)
    assert ours["XLA_FLAGS"] == "kept" and ours["OMP_NUM_THREADS"] == ours["OPENBLAS_NUM_THREADS"] == "2"
    assert variables("jax", "cpu", 2)["OPENBLAS_NUM_THREADS"] == "1"


def entries(**seconds):
    """Contenders of a row, with the seconds of their rounds."""
    lists = {name: s if isinstance(s, list) else [s] for name, s in seconds.items()}
    return {name: {"seconds": s, "check": "", "flops": 0} for name, s in lists.items()}


def test_the_best_peer_is_the_one_with_the_lowest_ratio():
    """Not the one with the lowest median, which here is jax's: 2.9 against 3."""
    from benchmarks.report import table
    from benchmarks.summary import headline

    row = entries(mlpfast=[1, 1.5, 2.5], jax=[2.9, 2.9, 7], numpy=[1.5, 3, 3.5])
    peer, (middle, _, _) = headline(row)
    assert (peer, middle) == ("numpy", 1.5)
    lines = table([{"name": "a", "contenders": row}])
    assert "| **1.50x** numpy |" in lines[-1]


@pytest.mark.parametrize(
    "ours, theirs, cell",
    [
        ([1, 1, 1, 1], [2, 2, 2, 2], "| **2.00x** jax |"),
        ([2, 2, 2, 2], [1, 1, 1, 1], "| **0.50x** jax |"),
        ([1, 1, 1, 1], [0.8, 0.9, 1.2, 1.2], "| tie, 1.05x jax |"),  # 1 is within the quartiles
        ([1, 10, 11, 30, 31], [1.1, 11, 9.9, 33, 34.1], "| **1.10x** jax |"),  # medians agree
        ([1, 10, 11, 30, 31], [1.1, 10.5, 10.9, 31.5, 32.5], "| tie, 1.05x jax |"),  # they say 0.99
        ([1], [2], "| **2.00x** jax |"),
    ],
)
def test_a_tie_shows_no_advantage(ours, theirs, cell):
    from benchmarks.report import table

    assert cell in table([{"name": "a", "contenders": entries(mlpfast=ours, jax=theirs)}])[-1]


def test_a_softmax_whose_loss_is_a_little_wrong_is_found():
    from benchmarks import check, data
    from benchmarks.cases import Case
    from benchmarks.contenders import numpy

    case = Case("softmax", (600, 10))
    inputs = data.make(case)
    job = numpy.softmax(case, inputs, 1)
    job.run()
    loss, gradient = job.result()
    assert check.verify(case, inputs, (loss, gradient), []) == ""
    assert "loss" in check.verify(case, inputs, (1.001 * loss, gradient), [])


def test_the_reference_fit_trains_for_all_epochs_and_validates_each():
    from benchmarks import check, contenders, data
    from benchmarks.cases import Case

    case = Case("fit", (8, 16, 3), batch=32, batches=25, epochs=3, lr=0.1, features="uint8")
    inputs = data.make(case)
    losses = check.reference_losses(case, inputs)
    job = contenders.build("numpy", case, inputs, 1)
    values = np.ravel(job.run())
    assert check.verify(case, inputs, job.result(), losses) == ""
    assert len(values) == 9  # in each epoch a loss, and the validation's loss and accuracy
    assert losses[1] < losses[0] and values[-2] == pytest.approx(losses[1], rel=0.05)
    assert 1 / 3 < values[-1] < 1


def test_a_product_is_checked_between_its_ends():
    from benchmarks import check, data
    from benchmarks.cases import Case

    case = Case("gemm", (256, 4, 4))
    inputs = data.make(case)
    product = inputs.a @ inputs.b
    assert check.verify(case, inputs, product, []) == ""
    product[8:-8] = 0
    assert "product" in check.verify(case, inputs, product, [])


def test_an_unknown_isa_has_no_peak(monkeypatch):
    from benchmarks import peaks
    from benchmarks.contenders import NotAvailable

    monkeypatch.setattr(peaks, "active_isa", lambda: "amx_emulated")
    monkeypatch.setattr(peaks.platform, "machine", lambda: "x86_64")
    with pytest.raises(NotAvailable, match="amx_emulated"):
        peaks.library()


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


def test_a_form_that_fails_takes_no_part():
    from benchmarks.contenders import Job, fastest

    def form(seconds):
        def build():
            if seconds is None:
                raise RuntimeError("no compiler")
            return Job(lambda: None, lambda: seconds, "1", clock=lambda run, repeats: seconds)

        return build

    assert fastest([form(0.2), form(0.1), form(None)]).result() == 0.1
    assert fastest([form(None), form(0.2)]).result() == 0.2
    assert fastest([form(0.2), form(0.1)], trials=[form(1), form(2)]).result() == 0.2
    with pytest.raises(RuntimeError, match="no compiler"):
        fastest([form(None), form(None)])


def test_what_we_ask_is_compared_as_it_is_printed():
    from benchmarks.cases import CASES, Case
    from benchmarks.report import missed

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
