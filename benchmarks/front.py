"""Which way of finding a front is better: hypervolume on held-out pairs at equal images.

    python -m benchmarks.front --images 1500 --seeds 4 --prompts 128
    python -m benchmarks.front --quick

Ways of spending the same number of images on tabletop's align, quality and keep:

- `front`: what `calibri search --front` does: one search of equal weights, and a fit for each weighting.
- `turns`: an optimiser for each weighting, which take turns; a fit for each weighting to all scores.
- `three`: three searches with the defaults and a third of the images each, one leaning to each reward.
- `como`: COMO-CMA-ES with seven kernels (package comocma, which is no dependency: install it to measure it).

Every point is judged on the same held-out pairs. The hypervolume is that between the base and the points that
beat it in every reward, in spreads of the base's rewards, and with --from-below that over a point below the
base. JSON on stdout, progress on stderr; searches and judged seeds are kept under --work.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from benchmarks.ruler import Ruler, add_options, say
from calibri.calibration.artifact import Calibration
from calibri.interval import paired_interval
from calibri.search.config import USUAL_FRONT, SearchConfig
from calibri.search.fitted import fitted_optimum
from calibri.search.front import front_points, hypervolume, on_front, shares_of, weights_of
from calibri.search.journal import read_journal
from calibri.search.objective import Objective
from calibri.search.presets import WHOLE_BOUNDS
from calibri.search.records import BaseRecord, GenerationRecord
from calibri.search.space import SearchSpace, calibration_start
from calibri.search.stopping import kept_point
from calibri.search.strategy import make_strategy

FINDERS = ("front", "turns", "three", "como")


def config_of(ruler: Ruler, seed: int, **values: object) -> SearchConfig:
    """A search on the ruler's terms; `rewards` may say other weights."""
    args, more = ruler.args, {}
    if args.start is not None:
        found = Calibration.load(args.start)
        first = calibration_start(found, ruler.layout, WHOLE_BOUNDS, args.start.name)
        more = {"start": first.scales, "start_from": first.words}
    made = ruler.config("default", seed, **more | {"sigma0": args.sigma0})
    return SearchConfig.model_validate(made.model_dump() | values)


def searched(
    args: argparse.Namespace, ruler: Ruler, config: SearchConfig, name: str, images: float
) -> tuple[BaseRecord, list[GenerationRecord]]:
    """The base and the generations of a search of so many images."""
    folder = args.work / f"{name}-{args.steps}-{config.hash[:8]}-{images:.0f}"
    ruler.search(config, folder, round(images))
    records = read_journal(folder)
    base = next(record for record in records if isinstance(record, BaseRecord))
    return base, [record for record in records if isinstance(record, GenerationRecord)]


def find(args: argparse.Namespace, ruler: Ruler, seed: int, finder: str) -> np.ndarray:
    """The points of a finder, (K, n)."""
    config = config_of(ruler, seed, front=args.points)
    if finder == "front":
        settings = SearchSpace.of(config, ruler.layout).settings(config)
        base, generations = searched(args, ruler, config, f"front-{seed}", args.images)
        kept = kept_point(generations, config.tail)
        return front_points(config, base, generations, settings.start, settings.steps, kept)
    if finder == "three":
        found = []
        for place, weights in enumerate(weights_of(config, np.eye(len(config.rewards)))):
            terms = [{"name": n, "weight": w} for n, w in zip(ruler.names, weights.tolist(), strict=True)]
            lean = config_of(ruler, seed, rewards=terms)
            _, generations = searched(args, ruler, lean, f"three-{seed}-{place}", args.images / 3)
            found.append(kept_point(generations, lean.tail))
        return np.array(found)
    loop = Loop(ruler, config_of(ruler, seed), args.images)
    return turns(loop, config) if finder == "turns" else como(loop, config, args.from_below)


class Loop:
    """Generations of candidates from any optimiser, until so many images are rendered."""

    def __init__(self, ruler: Ruler, config: SearchConfig, images: int) -> None:
        self.objective = Objective(config, ruler.layout, ruler.scorer)
        raw, spent = self.objective.measure_base()
        base = self.objective.base_record(raw, images=spent, seconds=0)
        self.objective.use_base(base)
        self.spread = np.array([base.spread[name] for name in ruler.names])
        self.settings = self.objective.space.settings(config)
        self.images, self.number = images, 0

    @property
    def on(self) -> bool:
        return self.objective.images < self.images

    def gains(self, candidates: np.ndarray) -> np.ndarray:
        """Of each reward, in spreads, (λ, R), on the next bucket."""
        bucket = self.objective.source.bucket(self.number)
        self.number += 1
        say(f"  generation {self.number}: {self.objective.images} images")
        return self.objective.evaluate(candidates, bucket).rewards / self.spread


def turns(loop: Loop, config: SearchConfig) -> np.ndarray:
    """An optimiser for each weighting; each point lies halfway between its optimiser's last means and the
    optimum of a fit to the scores of all.
    """
    aims = weights_of(config, shares_of(config))
    seeds = np.random.SeedSequence((config.seed, 5)).generate_state(len(aims))
    optimisers = [make_strategy("cma", replace(loop.settings, seed=int(seed))) for seed in seeds]
    means: list[list[np.ndarray]] = [[] for _ in aims]
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    while loop.on:
        turn = loop.number % len(aims)
        candidates = optimisers[turn].ask()
        seen.append((candidates, loop.gains(candidates)))
        optimisers[turn].tell(seen[-1][1] @ aims[turn])
        means[turn].append(optimisers[turn].mean)
    records = cast(list[GenerationRecord], [SimpleNamespace(candidate_array=lambda x=x: x) for x, _ in seen])
    points = []
    for own, weights in zip(means, aims, strict=True):
        tail = np.mean(own[len(own) // 2 :], axis=0)
        scores = [gains @ weights for _, gains in seen]
        optimum = fitted_optimum(records, loop.settings.start, loop.settings.steps, scores)
        points.append(tail if optimum is None else (tail + optimum) / 2)
    return np.array(points)


def como(loop: Loop, config: SearchConfig, below: float) -> np.ndarray:
    """The incumbents of COMO-CMA-ES (Toure et al. 2019), as many kernels as the front has points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import comocma
    settings, draw = loop.settings, np.random.Generator(np.random.PCG64(config.seed))
    options = {
        "bounds": [settings.lower.tolist(), settings.upper.tolist()],
        "randn": lambda *shape: draw.standard_normal(shape),
        "seed": math.nan,
        "verbose": -9,
        "verb_log": 0,
        "signals_filename": None,
        "tolfun": 0,
        "tolx": 0,
        "tolfunhist": 0,
    }
    kernels = comocma.get_cmas(
        len(shares_of(config)) * [settings.start.tolist()], float(settings.steps[0]), options
    )
    optimiser = comocma.Sofomore(kernels, [-below] * len(config.rewards), {"archive": False})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while loop.on:
            asked = optimiser.ask()
            optimiser.tell(asked, (-loop.gains(np.array(asked))).tolist())
    found = [np.clip(kernel.incumbent, settings.lower, settings.upper) for kernel in optimiser.kernels]
    return np.array(found, dtype=np.float64)


def judged(args: argparse.Namespace, ruler: Ruler, seed: int, finder: str) -> dict:
    """A finder's points with their held-out gains in spreads, kept under --work."""
    start = f"-{args.start.stem}-{args.sigma0:g}" if args.start else ""
    name = f"{finder}-{args.steps}-{args.images}-{args.points}-{args.prompts}-{seed}{start}.json"
    path = args.work / "judged" / name
    if not path.exists():
        points = find(args, ruler, seed, finder)
        gains = [ruler.gains(point) for point in points]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {
                    "points": points.tolist(),
                    "gains": [gain.mean(axis=0).tolist() for gain in gains],
                    "intervals": [[paired_interval(row).text() for row in gain.T] for gain in gains],
                }
            ),
            encoding="utf-8",
        )
    return json.loads(path.read_text(encoding="utf-8"))


def report(args: argparse.Namespace, found: dict) -> dict:
    """What is printed of a finder on one seed."""
    gains = np.array(found["gains"])
    return {
        "hypervolume": hypervolume(gains),
        "hypervolume_from_below": hypervolume(gains - args.from_below),
        "points": len(gains),
        "on_front": int(on_front(gains).sum()),
        "gains": [dict(zip(args.names, row, strict=True)) for row in gains.round(3).tolist()],
        "intervals": found["intervals"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, Path("runs/front"), prompts=128, images=1500)
    parser.set_defaults(reward="tabletop-align,tabletop-quality,tabletop-keep", steps=4)
    parser.add_argument("--seeds", type=int, default=4, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a calibration to start from; default: the base")
    parser.add_argument("--sigma0", type=float, default=0.3, help="first step")
    parser.add_argument("--points", type=int, default=USUAL_FRONT, help="of a front, at least")
    parser.add_argument(
        "--finder", action="append", choices=FINDERS, help="repeatable; default: all but como"
    )
    parser.add_argument("--from-below", type=float, default=-0.5, help="second reference, in spreads")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--quick", action="store_true", help="one seed of 250 images: does it work?")
    args = parser.parse_args()
    if args.quick:
        args.images, args.seeds, args.prompts, args.work = 250, 1, 8, args.work / "quick"
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    args.names = args.reward.split(",")
    args.work.mkdir(parents=True, exist_ok=True)
    ruler = Ruler(args)
    rows: dict[str, list[dict]] = {name: [] for name in args.finder or FINDERS[:-1]}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name, done in rows.items():
            done.append(report(args, judged(args, ruler, seed, name)))
            told = {key: round(value, 4) for key, value in done[-1].items() if isinstance(value, int | float)}
            say(f"seed {seed}, {name}: {told}")
    out = {
        "command": "python -m benchmarks.front " + " ".join(sys.argv[1:]),
        "backbone": ruler.backbone.fingerprint,
        "means": {
            name: {
                key: statistics.fmean(row[key] for row in done)
                for key in ("hypervolume", "hypervolume_from_below", "on_front")
            }
            for name, done in rows.items()
        },
        "finders": rows,
    }
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
