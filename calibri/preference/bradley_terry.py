"""Bradley–Terry strengths of three or more arms, with one virtual tie for each pair of arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibri.errors import StudyError
from calibri.preference.rates import quantile
from calibri.preference.votes import NoData, Vote, arms_of, codes

TOLERANCE = 1e-10
MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class Strength:
    """The strength of one arm in natural-log odds; the mean over arms is 0."""

    arm: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Strengths:
    """All arms, the strongest first, and how the fit was made."""

    arms: tuple[Strength, ...]
    votes: int
    steps: int
    level: float
    method: str

    def chance(self, arm: str, other: str) -> float:
        """The chance that `arm` is preferred to `other`."""
        value = {s.arm: s.value for s in self.arms}
        return float(1 / (1 + np.exp(value[other] - value[arm])))


def bradley_terry(
    votes: Sequence[Vote], arms: Sequence[str] | None = None, level: float = 0.95, *, met_only: bool = False
) -> Strengths | NoData:
    """Fit P(i preferred to j) = 1/(1 + exp(s_j − s_i)) (Bradley and Terry 1952); a tie is half a win.

    One virtual tie for each pair of arms keeps an undefeated arm finite and above the others. Intervals come
    from the two-way clustered sandwich over prompts and raters (Cameron, Gelbach and Miller 2011), never
    narrower than the model's own. `arms` may name arms that have no vote yet; NoData while no vote counts.
    `met_only`: virtual ties only between arms that met, so that arms that never did say nothing of each
    other; all arms must then be connected by votes.
    """
    counted = [v for v in votes if v.score is not None]
    if not counted:
        return NoData("no vote that prefers a side or calls a tie")
    if len({v.question for v in counted}) > 1:
        raise StudyError("Bradley–Terry needs votes on one question")
    names = tuple(arms) if arms is not None else arms_of(counted)
    if met_only and len(find_groups(counted, names)) > 1:
        raise StudyError("Bradley–Terry needs arms that votes connect; fit each group by itself")
    index = {name: i for i, name in enumerate(names)}
    missing = set(arms_of(counted)) - set(names)
    if missing:
        raise StudyError(f"votes on arms that were not named: {', '.join(sorted(missing))}")
    k = len(names)
    x = np.array([index[v.arm_x] for v in counted])
    y = np.array([index[v.arm_y] for v in counted])
    score = np.array([v.score for v in counted], dtype=np.float64)  # (n,)

    games = np.zeros((k, k))
    np.add.at(games, (x, y), 1.0)
    games += games.T
    ties = (games > 0).astype(np.float64) if met_only else 1.0 - np.eye(k)
    games += ties
    wins = ties.sum(axis=1) / 2
    np.add.at(wins, x, score)
    np.add.at(wins, y, 1.0 - score)

    s, steps = fit_strengths(games, wins)
    chance = 1 / (1 + np.exp(s[None, :] - s[:, None]))
    inverse = np.linalg.pinv(information_matrix(games, chance))
    residual = score - chance[x, y]
    gradient = np.zeros((len(counted), k))
    rows = np.arange(len(counted))
    gradient[rows, x], gradient[rows, y] = residual, -residual
    prompts, n_prompts = codes([v.prompt for v in counted])
    raters, n_raters = codes([v.rater for v in counted])
    cells, n_cells = codes(list(zip(prompts, raters)))
    meat = -_clustered(gradient, cells, n_cells)
    fewest = min((size for size in (n_prompts, n_raters) if size > 1), default=2)
    for groups, size in ((prompts, n_prompts), (raters, n_raters)):
        meat += _clustered(gradient, groups, size) * (size / (size - 1) if size > 1 else 1.0)
    variance = np.maximum(np.diag(inverse @ meat @ inverse), np.diag(inverse))
    half = quantile(level, fewest - 1) * np.sqrt(variance)
    order = np.argsort(-s, kind="stable")
    return Strengths(
        arms=tuple(
            Strength(names[i], float(s[i]), float(s[i] - half[i]), float(s[i] + half[i])) for i in order
        ),
        votes=len(counted),
        steps=steps,
        level=level,
        method="Bradley–Terry, one virtual tie a pair of arms"
        f"{' that met' if met_only else ''}; two-way clustered intervals",
    )


def find_groups(votes: Sequence[Vote], arms: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """The arms in groups that votes connect, the largest first. Only a vote that prefers a side or calls a
    tie connects two arms: nothing compares arms of different groups.
    """
    counted = [v for v in votes if v.score is not None]
    of = {name: {name} for name in (arms if arms is not None else arms_of(votes))}
    for vote in counted:
        joined = of.setdefault(vote.arm_x, {vote.arm_x}) | of.setdefault(vote.arm_y, {vote.arm_y})
        of.update(dict.fromkeys(joined, joined))
    groups = {id(group): tuple(sorted(group)) for group in of.values()}
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def fit_strengths(games: np.ndarray, wins: np.ndarray) -> tuple[np.ndarray, int]:
    """(strengths with mean 0, steps): maximum likelihood by damped Newton steps. `games`: (k, k), symmetric,
    with the virtual ties that make it strictly concave; `wins`: (k,), with their halves."""
    s = np.zeros(len(wins))
    for step in range(1, MOST_STEPS + 1):
        chance = 1 / (1 + np.exp(s[None, :] - s[:, None]))
        slope = wins - (games * chance).sum(axis=1)
        move = np.linalg.pinv(information_matrix(games, chance)) @ slope
        s = s + move * min(1.0, 2.0 / max(np.abs(move).max(), 1e-300))
        s -= s.mean()
        if np.abs(move).max() < TOLERANCE:
            return s, step
    raise StudyError(f"Bradley–Terry did not settle in {MOST_STEPS} steps")


def information_matrix(games: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Fisher's information of the strengths after these games. (k, k), (k, k) → (k, k), singular along 1."""
    weight = games * chance * (1 - chance)
    np.fill_diagonal(weight, 0.0)
    return np.diag(weight.sum(axis=1)) - weight


def _clustered(gradient: np.ndarray, groups: Sequence[int], size: int) -> np.ndarray:
    """Sum over clusters of the outer product of their summed gradients. (n, k) → (k, k)."""
    sums = np.zeros((size, gradient.shape[1]))
    np.add.at(sums, np.asarray(groups), gradient)
    return sums.T @ sums
