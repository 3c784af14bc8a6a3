"""Which settings of a search gain most with few images.

    python -m benchmarks.settings --images 620 --seeds 2

Each variant differs from the preset `default` in what its name says. Reported for each seed: the held-out
gain, as in `benchmarks/efficiency.py`, of the point that the search would have shipped after so many images,
for tail averages over the last half, quarter and tenth of the images, of what it keeps, and of the newest
mean alone. JSON on stdout, progress on stderr; searches are kept under --work and go on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ruler import Ruler, add_options, checkpoints, say
from calibri.search.presets import PUBLISHED_BOUNDS
from calibri.search.stopping import kept_point, tail_average

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "sigma 0.1, bucket 8": {"sigma0": 0.1, "bucket": 8},
    "sigma 0.1, bucket 4": {"sigma0": 0.1, "bucket": 4},
    "sigma 0.2, bucket 8": {"sigma0": 0.2, "bucket": 8},
    "sigma 0.2, bucket 4": {"sigma0": 0.2, "bucket": 4},
    "sigma 0.3, bucket 8": {"sigma0": 0.3, "bucket": 8},
    "sigma 0.3, bucket 4": {"sigma0": 0.3, "bucket": 4},
    "sigma 0.3, bucket 2": {"sigma0": 0.3, "bucket": 2},
    "sigma 0.3, bucket 4, 8 candidates": {"sigma0": 0.3, "bucket": 4, "popsize": 8},
    "steps without a limit": {"step_limit": "none"},
    "sigma 0.3, published bounds": {"sigma0": 0.3, "bounds": PUBLISHED_BOUNDS},
    "sigma 0.2, published bounds": {"sigma0": 0.2, "bounds": PUBLISHED_BOUNDS},
    "sigma 0.2, constant rate": {"sigma0": 0.2, "mean_rate": "constant"},
    "sigma 0.2, no mirrors": {"sigma0": 0.2, "mirrors": 0.0},
    "mirrored adam": {
        "optimizer": "mirrored-adam",
        "popsize": 16,
        "mirrors": 0.0,
        "bucket": 2,
        "sigma0": 0.2,
    },
}
TAILS = (0.5, 0.25, 0.1)
SPACING = 1.6  # between the points that are judged, in images


def one_search(args: argparse.Namespace, name: str, seed: int, ruler: Ruler) -> list[dict[str, float]]:
    """A search and the gains along its way: images, gain of each tail average, gain of the mean."""
    config = ruler.config("default", seed, **VARIANTS[name])
    folder = args.work / f"{name.replace(' ', '-').replace(',', '')}-{args.images}-{seed}"
    generations = ruler.search(config, folder, args.images)
    rows: list[dict[str, float]] = []
    for count in checkpoints(generations, SPACING, first=150):
        so_far = generations[:count]
        row = {f"tail {tail:g}": ruler.gain(tail_average(so_far, tail)) for tail in TAILS}
        row["kept"] = ruler.gain(kept_point(so_far, 0.5))
        row["mean"] = ruler.gain(np.array(so_far[-1].mean))
        rows.append({"images": so_far[-1].images} | {k: round(v, 3) for k, v in row.items()})
    say(f"{name}, seed {seed}: {rows}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--variant", action="append", choices=tuple(VARIANTS), help="repeatable; default: all"
    )
    parser.add_argument("--seeds", type=int, default=2)
    add_options(parser, Path("runs/settings"), prompts=64, images=620)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    ruler = Ruler(args)
    out = {
        "command": "python -m benchmarks.settings " + " ".join(sys.argv[1:]),
        "backbone": ruler.backbone.fingerprint,
        "variants": {
            name: [one_search(args, name, seed, ruler) for seed in range(args.seeds)]
            for name in args.variant or VARIANTS
        },
    }
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
