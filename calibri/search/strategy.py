"""Ask/tell optimisers of a vector under noise. No I/O, no threads, no clock, no global random state.

Both optimisers maximise. The same seed and the same scores give bitwise the same candidates, so that a
search is resumed by replaying its scores. The point to keep is the mean of the distribution, never a
sampled candidate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from calibri.errors import SearchError

MEAN_RATE_FLOOR = 0.15
STEP_LIMIT_FLOOR = 0.2


@dataclass(frozen=True)
class StrategySettings:
    """How one optimiser samples. Arrays are (n,) for n searched numbers.

    `start`: the point injected first. `lower`, `upper`: bounds. `steps`: initial step of each number (its
    standard deviation in the first generation). `seed`: any integer ≥ 0. `popsize`: candidates a
    generation, or None for 4 + ⌊3 ln n⌋. `mirrors`: share of candidates that mirror the worst of the
    generation before. `mean_rate`: "decay" slows the mean down as the search goes on, "constant" is
    textbook CMA-ES. `step_limit`: "decay" lets no step of CMA-ES grow beyond a width that shrinks as the
    search goes on, "none" leaves steps to it alone.
    """

    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    steps: np.ndarray
    seed: int
    popsize: int | None = None
    mirrors: float = 0.25
    mean_rate: str = "decay"
    step_limit: str = "none"

    def __post_init__(self) -> None:
        for name in ("start", "lower", "upper", "steps"):
            values = np.array(getattr(self, name), dtype=np.float64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        n = self.start.shape
        if len(n) != 1 or n[0] < 2:
            raise SearchError(f"a search needs at least 2 numbers in one row, got an array of shape {n}")
        for name in ("start", "lower", "upper", "steps"):
            values = getattr(self, name)
            if values.shape != n:
                raise SearchError(f"{name} has shape {values.shape}, expected {n} like start")
            if not np.isfinite(values).all():
                raise SearchError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
        if not (self.lower < self.upper).all():
            raise SearchError("every lower bound must lie below its upper bound")
        if not ((self.start >= self.lower) & (self.start <= self.upper)).all():
            worst = int(np.argmax(np.maximum(self.lower - self.start, self.start - self.upper)))
            raise SearchError(
                f"number {worst} starts at {self.start[worst]:g}, outside its bounds "
                f"[{self.lower[worst]:g}, {self.upper[worst]:g}]"
            )
        if not (self.steps > 0).all():
            raise SearchError("every initial step must be above 0")
        if self.seed < 0:
            raise SearchError(f"the seed must be 0 or more, got {self.seed}")
        if self.popsize is not None and self.popsize < 4:
            raise SearchError(f"a generation needs at least 4 candidates, got {self.popsize}")
        if not 0 <= self.mirrors < 0.5:
            raise SearchError(f"mirrors is a share in [0, 0.5), got {self.mirrors}")
        if self.mean_rate not in ("decay", "constant"):
            raise SearchError(f'mean_rate is "decay" or "constant", got {self.mean_rate!r}')
        if self.step_limit not in ("decay", "none"):
            raise SearchError(f'step_limit is "decay" or "none", got {self.step_limit!r}')


class Strategy(Protocol):
    """What a search needs of an optimiser."""

    generation: int
    popsize: int

    def ask(self) -> np.ndarray:
        """Candidates of the next generation, (popsize, n) float64, within the bounds."""
        ...

    def tell(self, scores: Sequence[float] | np.ndarray) -> None:
        """Scores of the candidates just asked for, (popsize,), higher is better, all finite."""
        ...

    @property
    def mean(self) -> np.ndarray:
        """Mean of the distribution, (n,), within the bounds: the point to keep."""
        ...

    @property
    def sigma(self) -> float:
        """Step size: the standard deviation that the first number would have without learnt shape."""
        ...

    @property
    def axis_ratio(self) -> float:
        """Longest over shortest axis of the distribution."""
        ...

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each number, (n,)."""
        ...

    def reason_to_stop(self) -> str | None:
        """Why the optimiser cannot usefully go on, in words; None if it can."""
        ...


def checked_scores(scores: Sequence[float] | np.ndarray, expected: int) -> np.ndarray:
    """`scores` as (expected,) float64. Raises SearchError for a wrong length or a number not finite."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (expected,):
        raise SearchError(f"expected {expected} scores, one for each candidate, got shape {values.shape}")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise SearchError(
            f"the score of candidate {bad[0]} is {values[bad[0]]}; scores must be finite numbers"
        )
    return values


class _PrivateNormal:
    """numpy's `randn(*shape)` over a generator of its own, which is what pycma's option `randn` wants."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, *shape: int) -> np.ndarray:
        return self._generator.standard_normal(shape)


class CmaStrategy:
    """CMA-ES (pycma) with selective mirrors and, if asked, a mean that learns ever more slowly.

    The slow mean averages noise away in the late search: rate max(0.15, 1 / (1 + g / (n/2))) in generation g.
    Under noise the step size has nothing to hold it and drifts to the width of the bounds, where most
    candidates are broken. So no number's step may exceed max(0.2, 1 / √(1 + g / (n/2))) of its first one.
    """

    def __init__(self, settings: StrategySettings) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pycma warns that it cannot plot
            import cma

        self.settings = settings
        n = settings.start.size
        sigma0 = float(settings.steps[0])
        options = {
            # pycma would draw from numpy's global state, and would read the clock for seed 0.
            "randn": _PrivateNormal(settings.seed),
            "seed": math.nan,
            "bounds": [settings.lower.tolist(), settings.upper.tolist()],
            "CMA_mirrors": settings.mirrors,
            "CMA_stds": (settings.steps / sigma0).tolist(),
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": None,
            # Under noise these fire by chance; the run has rules of its own.
            "maxiter": math.inf,
            "tolstagnation": math.inf,
            "tolflatfitness": math.inf,
            "tolxstagnation": False,
            "tolfun": 0,
            "tolfunhist": 0,
            "tolx": 0,
        }
        if settings.popsize is not None:
            options["popsize"] = settings.popsize
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es = cma.CMAEvolutionStrategy(settings.start.tolist(), sigma0, options)
            self._es.inject([settings.start], force=True)
        self._n = n
        self._asked: list[np.ndarray] | None = None
        self.generation = 0
        self.popsize = int(self._es.popsize)

    @property
    def mean_rate(self) -> float:
        """Learning rate of the mean in the generation to come."""
        if self.settings.mean_rate == "constant":
            return 1.0
        return max(MEAN_RATE_FLOOR, 1 / (1 + self.generation / (self._n / 2)))

    @property
    def step_limit(self) -> float:
        """Greatest step of any number in the generation to come, in units of its first step."""
        if self.settings.step_limit == "none":
            return math.inf
        return max(STEP_LIMIT_FLOOR, 1 / math.sqrt(1 + self.generation / (self._n / 2)))

    def ask(self) -> np.ndarray:
        if self._asked is not None:
            raise SearchError("ask was called twice: tell the scores of the first candidates before")
        self._asked = self._es.ask()
        return np.array(self._asked, dtype=np.float64)

    def tell(self, scores: Sequence[float] | np.ndarray) -> None:
        if self._asked is None:
            raise SearchError("tell was called before ask")
        values = checked_scores(scores, len(self._asked))
        self._es.sp.cmean = self.mean_rate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es.tell(self._asked, (-values).tolist())
        self._asked = None
        self.generation += 1
        widest = float((self.spread / self.settings.steps).max())
        if widest > self.step_limit:
            self._es.sigma *= self.step_limit / widest

    @property
    def mean(self) -> np.ndarray:
        # es.mean lives before the bounds' transformation; es.result.xbest is the luckiest sample.
        es = self._es
        return np.array(es.gp.pheno(es.mean, into_bounds=es.boundary_handler.repair), dtype=np.float64)

    @property
    def sigma(self) -> float:
        return float(self._es.sigma)

    @property
    def axis_ratio(self) -> float:
        return float(self._es.D.max() / self._es.D.min())

    @property
    def spread(self) -> np.ndarray:
        es = self._es
        return np.array(es.sigma * es.sigma_vec.scaling * np.sqrt(es.sm.variances), dtype=np.float64)

    def reason_to_stop(self) -> str | None:
        es = self._es
        if self.generation and es.D.max() / es.D.min() > 1e7:
            return "the distribution has collapsed: its axes differ by more than 10⁷ times"
        if not np.isfinite(es.sigma) or (self.spread < 1e-10).all():
            return "the steps have become too small to change any picture"
        return None


class MirroredAdamStrategy:
    """Mirrored evolution strategy on centred ranks, with Adam: antithetic pairs around a mean, fixed width.

    Gradient estimate as in Salimans et al. 2017 (arXiv 1703.03864, sec. 2), Adam as in Kingma & Ba 2015,
    alg. 1. Cheaper than CMA-ES for many numbers and few images; it learns no covariance.
    """

    RATE = 0.08  # of the initial steps a generation; the best of 0.03–0.4 on a noisy quadratic of 76 numbers
    BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings
        size = settings.popsize or 16
        if size % 2:
            raise SearchError(f"mirrored pairs need an even number of candidates, got {size}")
        self.popsize = size
        self.generation = 0
        self._normal = _PrivateNormal(settings.seed)
        self._mean = settings.start.copy()
        self._first = np.zeros_like(self._mean)
        self._second = np.zeros_like(self._mean)
        self._noise: np.ndarray | None = None

    def ask(self) -> np.ndarray:
        if self._noise is not None:
            raise SearchError("ask was called twice: tell the scores of the first candidates before")
        settings = self.settings
        half = self._normal(self.popsize // 2, self._mean.size)
        self._noise = np.concatenate([half, -half])
        return np.clip(self._mean + settings.steps * self._noise, settings.lower, settings.upper)

    def tell(self, scores: Sequence[float] | np.ndarray) -> None:
        if self._noise is None:
            raise SearchError("tell was called before ask")
        values = checked_scores(scores, self.popsize)
        order = np.argsort(values, kind="stable")
        ranks = np.empty(self.popsize)
        ranks[order] = np.linspace(-0.5, 0.5, self.popsize)
        gradient = ranks @ self._noise / self.popsize
        self.generation += 1
        self._first = self.BETA1 * self._first + (1 - self.BETA1) * gradient
        self._second = self.BETA2 * self._second + (1 - self.BETA2) * gradient**2
        first = self._first / (1 - self.BETA1**self.generation)
        second = self._second / (1 - self.BETA2**self.generation)
        rate = self.RATE
        if self.settings.mean_rate == "decay":
            rate *= max(MEAN_RATE_FLOOR, 1 / (1 + self.generation / (self._mean.size / 2)))
        step = rate * self.settings.steps * first / (np.sqrt(second) + self.EPSILON)
        self._mean = np.clip(self._mean + step, self.settings.lower, self.settings.upper)
        self._noise = None

    @property
    def mean(self) -> np.ndarray:
        return self._mean.copy()

    @property
    def sigma(self) -> float:
        return float(self.settings.steps[0])

    @property
    def axis_ratio(self) -> float:
        return float(self.settings.steps.max() / self.settings.steps.min())

    @property
    def spread(self) -> np.ndarray:
        return self.settings.steps.copy()

    def reason_to_stop(self) -> str | None:
        return None


STRATEGIES: dict[str, Callable[[StrategySettings], Strategy]] = {
    "cma": CmaStrategy,
    "mirrored-adam": MirroredAdamStrategy,
}


def make_strategy(name: str, settings: StrategySettings) -> Strategy:
    """The optimiser called `name`. Raises SearchError, naming the known ones."""
    if name not in STRATEGIES:
        raise SearchError(f"unknown optimiser {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name](settings)
