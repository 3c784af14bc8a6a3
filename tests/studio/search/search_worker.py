"""Not a test: a studio without pages that `test_jobs.py` starts and kills while it searches.

    search_worker.py BACKBONE RUNS CONFIG THREADS

Starts the search of the file CONFIG, prints its run id, and holds it back after two generations, as a person
who renders does: however fast the machine, the search is under way when it is killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from calibri.search.config import Budget, SearchConfig
from studio.machine.host import ModelHost
from studio.machine.queue import Priority
from studio.search.jobs import Searches


def main() -> None:
    backbone, runs, config, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    host = ModelHost(device="cpu", batch_size=4)
    host.load(backbone, wait=True)
    jobs = Searches(host, Path(runs), Path(runs).parent / "assets")
    found = SearchConfig.from_json(Path(config).read_text(encoding="utf-8"))
    run = jobs.start(found, Budget(generations=8))
    print(run, flush=True)
    while True:  # between two of these the search renders a batch or two
        with host.hold(Priority.INTERACTIVE, "a person"):
            while jobs.status(run).generations >= 2:
                time.sleep(0.1)


if __name__ == "__main__":
    main()
