"""How fast a picture is made on an idle machine and beside busy processes, with waits of OpenMP as they are
by default and shortened (calibri/threads.py), in pairs of fresh processes. Prints JSON.

`python -m benchmarks.busy --pictures 8 --rounds 3 --busy 0 --busy 2 --busy 10`
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys

from calibri.threads import SHORT_WAIT

ARMS: dict[str, dict[str, str]] = {"default": {}, "shortened": SHORT_WAIT}
PROGRAM = """
import sys, time
from calibri.backbones.loading import load_backbone
from calibri.sampling.renderer import Renderer
from calibri.sampling.request import RenderRequest
backbone = load_backbone("tabletop", device="cpu")
renderer = Renderer(backbone, batch_size=1)
requests = [RenderRequest("a red cube", seed, steps=8) for seed in range(int(sys.argv[1]))]
list(renderer.render(requests[:1]))
began = time.perf_counter()
list(renderer.render(requests))
print(len(requests) / (time.perf_counter() - began))
"""


def turn() -> None:
    """Keep one core busy until the process is ended."""
    while True:
        sum(range(10_000))


def pictures_a_second(pictures: int, waits: dict[str, str]) -> float:
    """Of a fresh process that renders tabletop's pictures one by one."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "KMP_", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(pictures)],
        capture_output=True,
        text=True,
        check=True,
        env=clean | waits,
    )
    return float(done.stdout)


def measure(pictures: int, rounds: int, busy: int) -> dict[str, object]:
    """Pictures a second of both arms beside `busy` processes, taken in turns, and the median ratio."""
    others = [multiprocessing.Process(target=turn, daemon=True) for _ in range(busy)]
    for other in others:
        other.start()
    try:
        rates = [
            {arm: pictures_a_second(pictures, waits) for arm, waits in ARMS.items()} for _ in range(rounds)
        ]
    finally:
        for other in others:
            other.terminate()
            other.join()
    ratios = [rate["shortened"] / rate["default"] for rate in rates]
    return {
        "busy processes": busy,
        **{arm: [round(rate[arm], 2) for rate in rates] for arm in ARMS},
        "shortened / default": round(statistics.median(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, action="append", help="busy processes beside; default 0 and 2")
    args = parser.parse_args()
    print(json.dumps([measure(args.pictures, args.rounds, busy) for busy in args.busy or [0, 2]], indent=1))


if __name__ == "__main__":
    main()
