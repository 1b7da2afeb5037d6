"""The machine that a number belongs to."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

# Those that workers have from the shell, and that change times; timing.THROTTLES never reach them.
VARIABLES = ("MLPFAST_ISA", "XLA_FLAGS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "LD_PRELOAD")


def describe(threads: int) -> dict[str, str]:
    """Facts by name; versions and the ISA come from the workers."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": _cpu_model(),
        **_gpu(),
        "CPUs usable": str(len(os.sched_getaffinity(0))),
        "threads": str(threads),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _cpu_model() -> str:
    """Name, family, model and stepping: clouds hide the name."""
    wanted = ("model name", "cpu family", "model", "stepping")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name, *numbers = [facts[key] for key in wanted if key in facts] or [platform.machine()]
    return f"{name} (family, model, stepping {', '.join(numbers)})" if numbers else name


def _gpu() -> dict[str, str]:
    """Its name, driver and clock, where there is one."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"GPU": done.stdout.splitlines()[0]} if done.stdout else {}


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
