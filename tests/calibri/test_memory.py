"""Freed memory stays with the process: counted in page faults of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from calibri.memory import is_out_of_memory, keep_freed_memory

PROGRAM = """
import resource, sys
import numpy as np
from calibri.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    for size in (20, 6, 24):  # MiB
        np.ones(size * 2**20, np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    parts = [np.ones(size * 2**20, np.uint8) for size in (20, 6, 24)]
    del parts
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of Linux")
def test_freed_memory_is_used_again_without_page_faults():
    pages = 50 * 2**20 // 4096  # of one round
    assert faults("keep") < 2 * pages < faults("plain")


TRIMMED = """
import numpy as np
from calibri.memory import bytes_in_use, keep_freed_memory, trim_heaps
assert keep_freed_memory()
made = [np.ones(2**20, np.uint8) for _ in range(300)]
kept = made[::10]  # so that what is freed lies between what is used
del made
before = bytes_in_use()
trim_heaps()
assert all(int(part[0]) == 1 for part in kept)
print(before - bytes_in_use())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of Linux")
def test_heaps_give_back_what_lies_free_between_what_is_used():
    done = subprocess.run([sys.executable, "-c", TRIMMED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200 * 2**20


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


def test_a_shortage_is_recognised_whoever_raises_it():
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)  # more than any machine has
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("")) and is_out_of_memory(MemoryError())
    for other in (RuntimeError("shapes differ: out of memory of the last call"), OSError(12, "no memory")):
        assert not is_out_of_memory(other)
