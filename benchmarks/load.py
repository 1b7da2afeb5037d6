"""CPU time: of one process, and of everybody else on the machine."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

BUSY = (0, 1, 2, 5, 6, 7)  # columns of /proc/stat: user, nice, system, irq, softirq, steal
WINDOW, QUIET = 0.1, 0.25  # seconds; CPUs that others may use. /proc/stat counts in steps of 10 ms


def cpu_seconds(pid: int) -> float:
    """CPU time of a process's threads; 0 when it is gone."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3) of another process, CPUCLOCK_SCHED
    except OSError:
        return 0.0


class Others:
    """How many CPUs others kept busy since this was made: other processes, the hypervisor's other guests."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = (*pids, os.getpid())
        self.start, self.before = time.monotonic(), self._others()

    def cpus(self) -> float:
        return max(0.0, self._others() - self.before) / (time.monotonic() - self.start)

    def _others(self) -> float:
        columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        busy = sum(int(columns[i]) for i in BUSY) / os.sysconf("SC_CLK_TCK")
        return busy - sum(map(cpu_seconds, self.pids))


def await_quiet(pids: Sequence[int], deadline: float) -> None:
    """Wait until others leave the CPUs alone, at most until then on the monotonic clock."""
    while time.monotonic() < deadline:
        others = Others(pids)
        time.sleep(WINDOW)
        if others.cpus() < QUIET:
            return
