"""Not a test: a process that `test_kill.py` starts, and that kills its own searches.

    kill_worker.py BACKBONE FOLDER MOMENTS [front]

Loads everything once, then forks a child for the reference run and one for each attempt; an attempt is
killed with SIGKILL after its moment (a share of the reference's time), the last one is left to finish.
Prints a JSON line at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from calibri.backbones.loading import Backbone, load_backbone
from calibri.search.config import Budget
from calibri.search.run import run_search
from tests.small_search import Blueness, Redness, make_small

FRONT = sys.argv[4:] == ["front"]


def search(backbone: Backbone, path: str, folder: Path) -> None:
    values = {"rewards": ({"name": "redness"}, {"name": "blueness"}), "front": 5} if FRONT else {}
    config = make_small(backbone=path, steps=1, validation_share=0.3, convergence="none", **values)
    rewards = {"redness": Redness(), "blueness": Blueness()}
    for _ in run_search(config, folder, backbone=backbone, rewards=rewards, budget=Budget(generations=10)):
        pass


def child(backbone: Backbone, path: str, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        search(backbone, path, folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    path, root, moments = sys.argv[1], Path(sys.argv[2]), [float(m) for m in sys.argv[3].split(",")]
    torch.set_num_threads(1)  # a fork takes no other threads with it
    backbone = load_backbone(path, device="cpu", dtype="float32")
    began = time.monotonic()
    _, status = os.waitpid(child(backbone, path, root / "whole"), 0)
    whole = time.monotonic() - began
    assert status == 0, "the reference run failed"
    killed = 0
    for moment in moments:
        pid = child(backbone, path, root / "killed")
        deadline = time.monotonic() + moment * whole
        while time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        try:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            killed += os.WIFSIGNALED(status)
        except (ProcessLookupError, ChildProcessError):
            pass  # it was done before its moment
    _, status = os.waitpid(child(backbone, path, root / "killed"), 0)
    print(json.dumps({"killed": killed, "finished": status == 0}))


if __name__ == "__main__":
    main()
