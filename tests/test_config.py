"""Threads and the report of what runs here: calls, environment variables, limits of the process."""

import os
import shutil
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version

import pytest
from processes import SANITIZED, output_of, python

import mlpfast
from mlpfast import _cpu
from mlpfast.config import configuration

VARIABLES = ("MLPFAST_NUM_THREADS", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def restored():
    before = _cpu.requested_threads()
    yield
    _cpu.set_num_threads(before)


def threads_of_a_new_process(cpus=None, **environment):
    limit = f"os.sched_setaffinity(0, {cpus});" if cpus else ""
    code = f"import os, mlpfast; {limit} print(mlpfast.get_num_threads())"
    return int(output_of(code, without=VARIABLES, **environment))


def test_set_and_get():
    mlpfast.set_num_threads(3)
    assert mlpfast.get_num_threads() == 3


def test_threads_ends_with_its_block():
    mlpfast.set_num_threads(2)
    with mlpfast.threads(5):
        with mlpfast.threads(1):
            assert mlpfast.get_num_threads() == 1
        assert mlpfast.get_num_threads() == 5
    assert mlpfast.get_num_threads() == 2
    with pytest.raises(KeyError), mlpfast.threads(4):
        raise KeyError
    assert mlpfast.get_num_threads() == 2


def test_threads_returns_to_the_default():
    _cpu.set_num_threads(0)
    with mlpfast.threads(7):
        pass
    assert _cpu.requested_threads() == 0


def test_quotas_of_control_groups(tmp_path):
    """Of version 2, of version 1, of a group or of one above it."""
    root, groups = tmp_path / "cgroup", tmp_path / "groups"

    def granted(lines, **quotas):
        shutil.rmtree(root, ignore_errors=True)
        for path, (quota, period) in quotas.items():
            folder = root / path.replace("__", "/")
            folder.mkdir(parents=True, exist_ok=True)
            if "cpu" in path:
                (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
                (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
            else:
                (folder / "cpu.max").write_text(f"{quota} {period}\n")
        groups.write_text(lines)
        return _cpu.granted_cpus(str(root), str(groups))

    many = granted("")
    assert many >= 1024
    assert granted("0::/a/b\n", a__b=(150000, 100000), a=("max", 100000)) == 2
    assert granted("0::/a/b\n", a__b=(400000, 100000), a=(50000, 100000)) == 1
    assert granted("0::/a/b\n", other=(100000, 100000)) == many
    assert granted("5:memory:/a\n4:cpu:/a\n1:x=y:/\n", cpu__a=(300000, 100000), cpu=(-1, 100000)) == 3
    assert granted("4:cpu:/not/seen/here\n", cpu=(250000, 100000)) == 3
    assert granted("4:cpuacct,cpu:/a\n", cpu__a=(100000, 100000)) == 1
    assert granted("4:cpuset:/\nnonsense\n", cpuset=(100000, 100000)) == many


def test_it_holds_for_every_python_thread():
    mlpfast.set_num_threads(3)
    found = []
    thread = threading.Thread(target=lambda: found.append(mlpfast.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [3]


def test_the_default_is_what_the_process_may_use():
    usable = len(os.sched_getaffinity(0))
    assert 1 <= threads_of_a_new_process() <= usable
    first = min(os.sched_getaffinity(0))
    assert threads_of_a_new_process(cpus={first}) == 1
    assert threads_of_a_new_process(OMP_NUM_THREADS="1") == 1
    assert threads_of_a_new_process(OMP_NUM_THREADS="64") <= usable
    assert threads_of_a_new_process(MLPFAST_NUM_THREADS="5", OMP_NUM_THREADS="1") == 5


@pytest.mark.parametrize("text", ["0", "-3", "two", "2.5", "9" * 5, "9" * 30])
def test_a_wrong_environment_variable_is_named(text):
    code = "import mlpfast; mlpfast.get_num_threads()"
    done = python("-c", code, MLPFAST_NUM_THREADS=text)
    assert done.returncode == 1 and "MLPFAST_NUM_THREADS" in done.stderr


@pytest.mark.skipif(SANITIZED, reason="sanitizers take address space")
def test_more_threads_than_the_system_can_make():
    """1024 stacks of 1 GB do not fit the 9 GB that the process may use: those that do compute."""
    code = """if True:
        import os, resource
        import mlpfast, numpy as np
        a = np.ones((2000, 2000), np.float32)
        with mlpfast.threads(1):
            want = mlpfast.kernels.gemm(a, a)
        mlpfast.set_num_threads(1024)
        assert mlpfast.kernels.explain(2000, 2000, 2000)[2] == 1024
        alone = len(os.listdir("/proc/self/task"))
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (9 << 30), -1))
        assert (mlpfast.kernels.gemm(a, a) == want).all()
        print(len(os.listdir("/proc/self/task")) - alone)"""
    command = ["sh", "-c", 'ulimit -s 1048576 && exec "$0" -c "$1"', sys.executable, code]
    limits = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, env=os.environ | limits, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 8


def test_show_config(capsys):
    try:
        assert version("mlpfast") == mlpfast.__version__
    except PackageNotFoundError:
        pytest.skip("mlpfast is imported from its source folder, not installed")
    mlpfast.show_config()
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    facts = configuration()
    assert {k: v.strip() for k, v in lines.items()} == facts
    assert facts["isa"].startswith(_cpu.isa()) and facts["threads"] == str(mlpfast.get_num_threads())
    assert [k for k in facts if k.startswith("precision ")] == [f"precision {p}" for p in _cpu.precisions()]
    assert all(isinstance(v, str) and v for v in facts.values())
