"""Which optimiser, step, bucket and point suit how many numbers: a synthetic reward whose true gain is known.

    python -m benchmarks.optimizers --numbers 16 24 57 76 114 --seeds 10
    python -m benchmarks.optimizers --quick

The reward has an optimum of its own for each problem, sensitivities over two and a half decades, an effect
of its own for each (prompt, seed) pair, and a ripple in each picture; the base gains 0, the optimum 2.
Nothing is rendered, so that ten seeds of 12,800 images take minutes. What it says is an order of magnitude
and an order of strategies: check on a real model before believing it.

Each family is read at several budgets: the true gain of the point that it would keep, which is its last mean,
its tail average, halfway to the optimum of a fit, or its luckiest candidate. `paper` is the loop of the
paper's code; its last mean is the stronger baseline than the luckiest candidate, which that code returns.
Optimisers of the package cmaes, which is no dependency, are measured where it is installed. JSON on stdout.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from calibri.search.fitted import point_reached
from calibri.search.stopping import tail_average
from calibri.search.strategy import StrategySettings, make_strategy

BOUNDS = (-1.0, 2.0)
BEST = 2.0  # gain at the optimum
DECADES = 2.5  # of the sensitivities
POOL = 512  # (prompt, seed) pairs that buckets are drawn from
WAVES = 4  # of the ripple of a picture
FINENESS = 3.0  # how often a wave turns on the way to the optimum, about
BUDGETS = (800, 1500, 4000, 12_800)
TAIL = 0.5
# So rough that the luckiest candidate of 1,500 images at 76 numbers gains next to nothing.
SLOPE, RIPPLE = 3.0, 2.5


class Problem:
    """A reward of n numbers. `slope`: how much a pair's own taste differs from the common one, `ripple`: of
    a picture, both in gains at a distance as far as the optimum's."""

    def __init__(self, n: int, seed: int, slope: float, ripple: float) -> None:
        draw = np.random.default_rng((seed, n))
        self.n = n
        low, high = BOUNDS
        self.optimum = np.clip(draw.normal(1.0, 0.3, n), low + 0.1, high - 0.1)
        raw = 10 ** draw.uniform(-DECADES, 0, n)
        self.weights = raw * BEST / float(raw @ (self.optimum - 1) ** 2)
        self.slopes = draw.normal(0, slope / math.sqrt(n), (POOL, n)) * np.sqrt(self.weights)
        self.waves = draw.normal(0, FINENESS, (POOL, WAVES, n)) * np.sqrt(self.weights)
        self.phases = draw.uniform(0, 2 * math.pi, (POOL, WAVES))
        self.ripple = ripple / WAVES

    def gain(self, x: np.ndarray) -> np.ndarray:
        """The true gain of points (..., n): 0 at ones, BEST at the optimum."""
        return BEST - (self.weights * (x - self.optimum) ** 2).sum(axis=-1)

    def score(self, x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """(k, len(pairs)): rewards of candidates (k, n) less the base's on the same pairs."""
        z = x - 1
        own = z @ self.slopes[pairs].T
        turned = np.einsum("pwn,kn->kpw", self.waves[pairs], z) + self.phases[pairs]
        rippled = self.ripple * (np.cos(turned) - np.cos(self.phases[pairs])).sum(axis=-1)
        return self.gain(x)[:, None] + own + rippled


@dataclass(frozen=True)
class Family:
    """How a search asks; its points are read from one run."""

    optimizer: str
    sigma: float
    bucket: int
    more: dict[str, Any]


OURS = {"mirrors": 0.25, "mean_rate": "decay", "step_limit": "decay"}
FAMILIES: dict[str, Family] = {
    "paper": Family("cma", 0.25, 16, {"mirrors": 0.0, "mean_rate": "constant"}),
    **{f"cma-{s:g}-b{b}": Family("cma", s, b, OURS) for s in (0.1, 0.2, 0.3) for b in (2, 4, 8)},
    **{
        f"mirrored-{s:g}-b{b}": Family("mirrored-adam", s, b, {"popsize": 16})
        for s in (0.1, 0.2, 0.3)
        for b in (1, 2, 4)
    },
}


@dataclass
class Asked:
    """One generation, as much of it as points are read from."""

    x: np.ndarray
    objective: np.ndarray
    mean: np.ndarray
    images: int

    def candidate_array(self) -> np.ndarray:
        return self.x


class Ask(Protocol):
    """An optimiser that maximises: candidates, their scores, and the mean of its distribution."""

    def ask(self) -> np.ndarray: ...
    def tell(self, scores: np.ndarray) -> None: ...
    @property
    def mean(self) -> np.ndarray: ...


class Search:
    """Generations of one optimiser on one problem, images counted as a search counts them."""

    def __init__(self, problem: Problem, optimiser: Ask, bucket: int, sigma: float, seed: int) -> None:
        self.problem, self.optimiser, self.bucket = problem, optimiser, bucket
        self.steps = np.full(problem.n, sigma)
        self.done: list[Asked] = []
        self.images, self.best, self.luckiest = 0, -math.inf, np.ones(problem.n)
        self._draw = np.random.default_rng((seed, 1))
        self._known: set[int] = set()  # pairs whose base picture is there

    def go_on(self) -> None:
        """One generation."""
        pairs = self._draw.choice(POOL, self.bucket, replace=False)
        asked = self.optimiser.ask()
        scores = self.problem.score(asked, pairs).mean(axis=1)
        self.optimiser.tell(scores)
        self.images += asked.shape[0] * self.bucket + len(set(pairs.tolist()) - self._known)
        self._known.update(pairs.tolist())
        if scores.max() > self.best:
            self.best, self.luckiest = float(scores.max()), asked[int(scores.argmax())]
        self.done.append(Asked(asked, scores, self.optimiser.mean, self.images))

    def gains(self) -> dict[str, float]:
        """The true gain of every point that could be kept now."""
        records: Any = self.done
        points = {
            "mean": self.done[-1].mean,
            "tail": tail_average(records, TAIL),
            "fitted": point_reached(records, TAIL, np.ones(self.problem.n), self.steps),
            "luckiest": self.luckiest,
        }
        return {name: float(self.problem.gain(point)) for name, point in points.items()}


def read_at(search: Search, budgets: Sequence[int]) -> dict[str, list[float]]:
    """The gains of all points when each budget is used."""
    found: dict[str, list[float]] = {}
    for budget in budgets:
        while search.images < budget:
            search.go_on()
        for name, gain in search.gains().items():
            found.setdefault(name, []).append(gain)
    return found


class Cmaes:
    """One of the package cmaes' optimisers, which is no dependency."""

    KINDS = {"cmaes": "CMA", "cmaes-sep": "SepCMA", "cmaes-xnes": "XNES", "cmaes-lra": "CMA"}

    def __init__(self, name: str, n: int, sigma: float, seed: int) -> None:
        import cmaes

        more = {"lr_adapt": True} if name == "cmaes-lra" else {}
        self._made = getattr(cmaes, self.KINDS[name])(
            mean=np.ones(n), sigma=sigma, bounds=np.tile(BOUNDS, (n, 1)), seed=seed, **more
        )
        self._asked: list[np.ndarray] = []

    def ask(self) -> np.ndarray:
        self._asked = [self._made.ask() for _ in range(self._made.population_size)]
        return np.array(self._asked)

    def tell(self, scores: np.ndarray) -> None:
        self._made.tell([(x, -float(score)) for x, score in zip(self._asked, scores, strict=True)])

    @property
    def mean(self) -> np.ndarray:
        mean = self._made.mean if hasattr(self._made, "mean") else self._made._mean
        return np.clip(mean, *BOUNDS)


def search_once(job: tuple[str, int, int, float, float, tuple[int, ...]]) -> tuple[str, int, dict]:
    """(family, n, gains) of one seed. A family shares its candidates: its points are read from one run."""
    family, n, seed, slope, ripple, budgets = job
    problem = Problem(n, seed, slope, ripple)
    if family in Cmaes.KINDS:
        search = Search(problem, Cmaes(family, n, 0.1, seed), 4, 0.1, seed)
    else:
        how = FAMILIES[family]
        low, high = (np.full(n, bound) for bound in BOUNDS)
        settings = StrategySettings(np.ones(n), low, high, np.full(n, how.sigma), seed=seed, **how.more)
        search = Search(problem, make_strategy(how.optimizer, settings), how.bucket, how.sigma, seed)
    return family, n, read_at(search, budgets)


def summarise(values: list[float]) -> dict[str, float]:
    """Median, and the spread of the middle half."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(middle), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--numbers", type=int, nargs="+", default=[16, 24, 57, 76, 114])
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="images")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--family", action="append", help="repeatable; default: all that are installed")
    parser.add_argument("--slope", type=float, default=SLOPE, help="of a pair's own taste")
    parser.add_argument("--ripple", type=float, default=RIPPLE, help="of a picture")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="does it work?")
    args = parser.parse_args()
    if args.quick:
        args.numbers, args.budgets, args.seeds = [16], [300, 600], 2
    installed = tuple(Cmaes.KINDS) if importlib.util.find_spec("cmaes") else ()
    families = args.family or [*FAMILIES, *installed]
    jobs = [
        (family, n, seed, args.slope, args.ripple, tuple(sorted(args.budgets)))
        for n in args.numbers
        for family in families
        for seed in range(args.seeds)
    ]
    gains: dict[tuple[int, str, str], list[list[float]]] = {}
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for number, (family, n, found) in enumerate(pool.imap_unordered(search_once, jobs), 1):
            for point, values in found.items():
                gains.setdefault((n, family, point), []).append(values)
            print(f"\r{number} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    table = [
        {
            "numbers": n,
            "family": family,
            "point": point,
            **{str(b): summarise(column) for b, column in zip(sorted(args.budgets), zip(*rows), strict=True)},
        }
        for (n, family, point), rows in sorted(gains.items())
    ]
    command = "python -m benchmarks.optimizers " + " ".join(sys.argv[1:])
    noise = {"slope": args.slope, "ripple": args.ripple}
    print(json.dumps({"command": command, **noise, "table": table}, indent=1))


if __name__ == "__main__":
    main()
