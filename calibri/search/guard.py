"""Whether a judge falls while the reward rises: what a search that hacks its reward looks like from outside.

Judges are scored on the validation pairs of a search, whose pictures are there anyway. Pure functions of its
records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from calibri.interval import Interval, paired_interval
from calibri.rewards.scoring import Pair
from calibri.search.records import BlindSpot, ValidationRecord

LEVEL = 0.99  # a search looks a dozen times at each judge, and one of them in a hundred may lie
MOST_SPOTS = 12


class Fall(NamedTuple):
    """A judge that fell after `generation` generations, against its best before that.

    `since`: generations at that best; 0 is the base. `judge`: mean paired difference in the judge's units,
    with its 99 % interval; `rise`: of the objective between the same two points, in spreads of the base.
    """

    name: str
    generation: int
    since: int
    judge: Interval
    rise: float

    @property
    def text(self) -> str:
        """In a sentence."""
        before = f"its best, after generation {self.since}" if self.since else "the base"
        return (
            f"{self.name} falls after generation {self.generation}: {self.judge.text()} (99 %) against "
            f"{before}, while the reward rises by {self.rise:.3f} spreads. The search may be learning to "
            "please its reward alone: look at its pictures."
        )


def find_falls(validations: Sequence[ValidationRecord]) -> list[Fall]:
    """The judges that fell by the last validation while the objective rose, each once, against the base or
    against their best validation so far, whichever tells more.
    """
    if not validations:
        return []
    last = validations[-1]
    falls = []
    for name, values in last.judged.items():
        now = np.array(values)
        zero = np.zeros_like(now)
        points = [(0, zero, zero)]
        earlier = [v for v in validations[:-1] if name in v.judged]
        if earlier:
            best = max(earlier, key=lambda v: float(np.mean(v.judged[name])))
            points.append((best.generation, np.array(best.judged[name]), np.array(best.objectives)))
        found = []
        for since, judged, objectives in points:
            change = paired_interval(now - judged, LEVEL)
            rise = float(np.mean(np.array(last.objectives) - objectives))
            if change.high < 0 < rise:
                found.append(Fall(name, last.generation, since, change, rise))
        if found:
            falls.append(min(found, key=lambda fall: fall.judge.mean))
    return falls


def judge_spreads(validations: Sequence[ValidationRecord]) -> dict[str, float]:
    """Standard deviation of each judge over the base's pictures: judges of different units compare by it."""
    if not validations or not validations[0].judged or not validations[0].base_scores:
        return {}
    names = list(validations[0].judged)
    spreads = np.array(validations[0].base_scores)[:, -len(names) :].std(axis=0)
    return {name: float(spread) for name, spread in zip(names, spreads, strict=True) if spread > 0}


def find_blind_spots(
    pairs: Sequence[Pair], gains: np.ndarray, judged: np.ndarray, spreads: np.ndarray, names: Sequence[str]
) -> list[BlindSpot]:
    """The pairs on which the objective rose most while a judge fell, MOST_SPOTS at most, the most first.

    `gains`: of the objective, (n,), in spreads. `judged`: differences of the judges from the base, (n, J).
    `spreads`: of each on the base, (J,): of several that fell, the one that fell most spreads is named.
    """
    if not len(names):
        return []
    falls = judged / np.where(spreads > 0, spreads, 1.0)
    worst = falls.argmin(axis=1)
    spots = [i for i in np.argsort(-gains, kind="stable") if gains[i] > 0 and falls[i, worst[i]] < 0]
    return [
        BlindSpot(
            prompt=pairs[i].prompt,
            seed=pairs[i].seed,
            gain=float(gains[i]),
            judge=names[worst[i]],
            fall=float(judged[i, worst[i]]),
        )
        for i in spots[:MOST_SPOTS]
    ]
