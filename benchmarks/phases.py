"""Do scales that differ early and late beat plain ones, at equal images of search and equal evaluations?

    python -m benchmarks.phases --images 1500 --seeds 10 --first-seed 200 --prompts 100
    python -m benchmarks.phases --quick

For each seed two searches on tabletop with the default preset: one vector, and one for each half of the
trajectory (twice the numbers). Both points are rendered on the same held-out pairs, and so is the base. JSON
on stdout: for each seed and over all of them the difference of phases from plain, of the objective in spreads
of the base, with its 95 % interval over pairs (within a seed) or over seeds. Searches are kept under --work.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ruler import Ruler, add_options, say
from calibri.interval import Interval, paired_interval
from calibri.search.config import SearchConfig
from calibri.search.space import SearchSpace, phase_start, plain_start
from calibri.search.stopping import kept_point


def config_of(ruler: Ruler, seed: int, switch: float | None) -> SearchConfig:
    """A search of one vector, or of one before and one after the share `switch` of the trajectory."""
    if switch is None:
        return ruler.config("default", seed)
    start = phase_start(plain_start(), (switch,))
    parts = {"conditions": start.conditions, "weights": start.weights, "roles": start.roles}
    numbers = len(start.conditions) * len(ruler.layout.names)
    return ruler.config("default", seed, numbers=numbers, search_weights=False, **parts)


def found(ruler: Ruler, args: argparse.Namespace, seed: int, switch: float | None) -> np.ndarray:
    """The gain, (pairs,), of the point that a search keeps."""
    config = config_of(ruler, seed, switch)
    folder = args.work / f"{'plain' if switch is None else 'phases'}-{seed}-{config.hash[:8]}-{args.images}"
    generations = ruler.search(config, folder, args.images)
    members = SearchSpace.of(config, ruler.layout).decode(kept_point(generations, config.tail))
    return np.asarray(((ruler.scores(members) - ruler.base) / ruler.spread) @ ruler.weights)


def told(interval: Interval) -> dict[str, Any]:
    return {name: round(value, 4) for name, value in interval.model_dump().items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, Path("work/phases"), prompts=100, images=1500)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=200)
    parser.add_argument("--switch", type=float, default=0.5, help="share of the trajectory (default 0.5)")
    parser.add_argument("--quick", action="store_true", help="two seeds, 400 images, 16 prompts")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.images, args.prompts = 2, 400, 16
    ruler = Ruler(args)
    seeds = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        plain, parted = found(ruler, args, seed, None), found(ruler, args, seed, args.switch)
        seeds.append({"seed": seed, "plain": float(plain.mean()), "phases": float(parted.mean())})
        seeds[-1]["difference"] = told(paired_interval(parted - plain))  # type: ignore[assignment]
        say(f"seed {seed}: plain {plain.mean():+.3f}, phases {parted.mean():+.3f}")
    apart = [row["phases"] - row["plain"] for row in seeds]
    over = {name: float(np.mean([row[name] for row in seeds])) for name in ("plain", "phases")}
    difference = told(paired_interval(apart)) if len(apart) > 1 else None
    json.dump(
        {
            "images": args.images,
            "prompts": args.prompts,
            "steps": args.steps,
            "granularity": args.granularity,
            "reward": args.reward,
            "switch": args.switch,
            "seeds": seeds,
            "mean": over,
            "difference over seeds": difference,
        },
        sys.stdout,
        indent=1,
    )
    print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
