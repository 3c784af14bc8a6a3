"""What a server process takes of the machine, for benchmarks of a running studio."""

from __future__ import annotations

import time

import psutil

QUIET = 0.2  # of one core


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far: what its work costs, however busy the machine is otherwise."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def settle(pid: int, seconds: float = 2.0) -> None:
    """Wait until a studio has nothing to do by itself: until it takes little of one core for `seconds`."""
    while True:
        before = cpu_seconds(pid)
        time.sleep(seconds)
        if cpu_seconds(pid) - before < QUIET * seconds:
            return
