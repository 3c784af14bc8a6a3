"""Milliseconds and page faults of a picture on a CPU: freed memory kept (calibri/memory.py), and not.

    python -m benchmarks.memory

Each way runs in processes of its own, in turn. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time

import numpy as np

from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Member
from calibri.memory import keep_freed_memory
from calibri.sampling.renderer import Renderer, RenderRequest

WARM = 3  # batches that are not timed


def measured(keep: bool, pictures: int, batches: int) -> tuple[float, float, float]:
    """Median milliseconds and mean page faults of a picture, and the process's peak MiB."""
    if keep and not keep_freed_memory():
        raise SystemExit("expected Linux with the GNU C library: this allocator has no such options")
    backbone = load_backbone("tabletop", device="cpu")
    renderer, layout = Renderer(backbone, batch_size=pictures), backbone.layout("layer")
    draw = np.random.Generator(np.random.PCG64(0))
    times, faults = [], 0
    for number in range(WARM + batches):
        requests = [
            RenderRequest(
                "a red cube",
                seed,
                8,
                members=(Member(scales=tuple(draw.uniform(0.8, 1.2, len(layout.names)))),),
                layout=layout,
            )
            for seed in range(pictures)
        ]
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        renderer.render(requests)
        if number >= WARM:
            times.append((time.perf_counter() - began) / pictures * 1000)
            faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return statistics.median(times), faults / pictures / batches, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=26, help="in a batch")
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    found: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for _ in range(args.rounds):
        for keep in found:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[keep].append(pool.apply(measured, (keep, args.pictures, args.batches)))
    report = {
        name: {
            "ms_a_picture": statistics.median(each[0] for each in found[keep]),
            "page_faults_a_picture": statistics.median(each[1] for each in found[keep]),
            "peak_mib": statistics.median(each[2] for each in found[keep]),
        }
        for name, keep in (("given_back", False), ("kept", True))
    }
    faster = report["given_back"]["ms_a_picture"] / report["kept"]["ms_a_picture"]
    print(json.dumps({"threads": os.cpu_count(), **report, "times_faster": faster}, indent=1))


if __name__ == "__main__":
    main()
