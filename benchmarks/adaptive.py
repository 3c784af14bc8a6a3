"""Votes until a ranking is certain: the sampling `informative` of studies against even choice.

    python -m benchmarks.adaptive                 # about ten minutes on one core; --runs 20 for a look

Printed as JSON, one object a scenario. Both deal with the studio's own dealing book, raters in turns with two
pairs open each, as the rater's page has them, and fit the studio's own Bradley–Terry strengths. `votes to be
certain`: the median over runs of the votes after which every two neighbours in the ranking are told apart
(each is above the next one with a posterior chance of `--certain`); runs that do not get there count as the
most votes there are. `right`: the share of those rankings that are the true one. `coverage`: how many of the
95 % intervals of the strengths hold the true strength, after all votes. The exit code is 1 where
`informative` has a coverage below 93 %, or needs more votes than even choice.

Votes are drawn with log odds = strength of x − strength of y + an effect of the prompt for each arm + the
same of the rater, both normal; true strengths are those of a fit to the chances over all prompts and raters.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from random import Random
from typing import Any, Literal

import numpy as np

from calibri.preference import Strengths, Vote, bradley_terry, fit_posterior
from calibri.preference.bradley_terry import fit_strengths
from studio.studies.protocol import Protocol
from studio.studies.storage.study_store import StudyPair
from studio.studies.voting.dealing import Book, Showing

Sampling = Literal["even", "informative"]
BOTH: tuple[Sampling, ...] = ("even", "informative")
AHEAD = 2  # pairs that a rater has open
STEP = 10  # votes between two looks at the ranking


@dataclass(frozen=True)
class Scenario:
    """`strengths` in natural-log odds; effects are standard deviations of an arm's strength."""

    strengths: tuple[float, ...]
    prompts: int = 60
    raters: int = 40
    votes: int = 1200
    prompt_effect: float = 0.0
    rater_effect: float = 0.0


SCENARIOS = (
    Scenario((0.0, 0.5, 1.0)),
    Scenario((0.0, 0.2, 1.5)),
    Scenario((0.0, 0.3, 1.0, 2.0)),
    Scenario((0.0, 0.3, 0.9, 1.8, 3.0)),
    Scenario((0.0, 0.4, 1.2), prompt_effect=0.5, rater_effect=0.3),
)


@dataclass
class Run:
    """One simulated study: how its ranking was found, and its last intervals."""

    certain_at: int
    right: bool
    covered: list[bool]
    width: float


def find_truth(scenario: Scenario) -> np.ndarray:
    """Strengths, mean 0, of a fit to every two arms' chance over all prompts and raters. (k,)."""
    s = np.array(scenario.strengths)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.hypot(scenario.prompt_effect, scenario.rater_effect) * np.sqrt(2)
    difference = (s[:, None] - s[None, :])[:, :, None] + spread * nodes
    chance = (weights / (1 + np.exp(-difference))).sum(axis=2) / weights.sum()
    np.fill_diagonal(chance, 0.0)
    games = 1.0 - np.eye(len(s))
    return fit_strengths(games, chance.sum(axis=1))[0]


def open_book(scenario: Scenario, sampling: Sampling, seed: int) -> Book:
    """A study of these arms, every two of which meet on every prompt."""
    arms = [f"arm{i}" for i in range(len(scenario.strengths))]
    pairs = [
        StudyPair(f"s:{prompt}:{x}:{y}", "s", f"prompt {prompt}", prompt, x, y)
        for prompt in range(scenario.prompts)
        for x, y in combinations(arms, 2)
    ]
    return Book("s", Protocol(cap=10_000, sampling=sampling), seed, pairs)


def simulate(scenario: Scenario, sampling: Sampling, seed: int, certain: float) -> Run:
    """Deal and vote to the end."""
    book, random, generator = open_book(scenario, sampling, seed), Random(seed), np.random.default_rng(seed)
    k, truth = len(scenario.strengths), find_truth(scenario)
    of_prompts = generator.normal(0, scenario.prompt_effect, (scenario.prompts, k))
    of_raters = generator.normal(0, scenario.rater_effect, (scenario.raters, k))
    waiting: dict[int, list[Showing]] = {rater: [] for rater in range(scenario.raters)}
    votes: list[Vote] = []
    certain_at, right = scenario.votes, False
    now, number = datetime(2026, 1, 1), 0
    while len(votes) < scenario.votes:
        rater = number % scenario.raters
        number += 1
        while len(waiting[rater]) < AHEAD and (chosen := book.choose(f"r{rater}", random)) is not None:
            token = f"{number}-{len(waiting[rater])}"
            showing = Showing(token, chosen[0], f"r{rater}", chosen[1], now, now + timedelta(hours=1))
            book.add(showing)
            waiting[rater].append(showing)
        if not waiting[rater]:
            break
        showing = waiting[rater].pop(0)
        x, y = int(showing.pair.arm_x[3:]), int(showing.pair.arm_y[3:])
        odds = np.array(scenario.strengths) + of_prompts[showing.pair.seed] + of_raters[rater]
        won: Literal["x", "y"] = "x" if generator.random() < 1 / (1 + np.exp(odds[y] - odds[x])) else "y"
        book.settle(showing, "voted", won)
        pair = showing.pair
        votes.append(Vote("q", pair.arm_x, pair.arm_y, pair.prompt, f"r{rater}", won, pair=pair.id))
        if certain_at == scenario.votes and len(votes) % STEP == 0:
            order, chance = rank(book, k)
            if chance >= certain:
                certain_at, right = len(votes), order == list(np.argsort(-truth))
    fit = bradley_terry(votes, [f"arm{i}" for i in range(k)])
    assert isinstance(fit, Strengths)
    covered = [s.low <= truth[int(s.arm[3:])] <= s.high for s in fit.arms]
    return Run(certain_at, right, covered, float(np.mean([s.high - s.low for s in fit.arms])))


def rank(book: Book, k: int) -> tuple[list[int], float]:
    """(arms from the strongest, the smallest posterior chance that one is above the next)."""
    from scipy.special import ndtr

    wins = np.zeros((k, k))
    for (x, y), (won, counted) in book.score.items():
        wins[int(x[3:]), int(y[3:])] += won
        wins[int(y[3:]), int(x[3:])] += counted - won
    found = fit_posterior(wins)
    order = [int(i) for i in np.argsort(-found.mean, kind="stable")]
    chances = []
    for above, below in pairwise(order):
        c = found.covariance
        spread = np.sqrt(c[above, above] + c[below, below] - 2 * c[above, below])
        chances.append(float(ndtr((found.mean[above] - found.mean[below]) / spread)))
    return order, min(chances)


def measure(scenario: Scenario, sampling: Sampling, runs: int, certain: float) -> dict[str, float]:
    """Means over runs."""
    made = [simulate(scenario, sampling, seed, certain) for seed in range(runs)]
    there = [run for run in made if run.certain_at < scenario.votes]
    return {
        "votes to be certain": float(np.median([run.certain_at for run in made])),
        "runs that are": len(there) / runs,
        "right": sum(run.right for run in there) / max(1, len(there)),
        "coverage": float(np.mean([hit for run in made for hit in run.covered])),
        "interval width": float(np.mean([run.width for run in made])),
    }


def compare(scenario: Scenario, runs: int, certain: float) -> dict[str, Any]:
    """Both samplings on one scenario, and how they compare."""
    found = {sampling: measure(scenario, sampling, runs, certain) for sampling in BOTH}
    needed = {sampling: found[sampling]["votes to be certain"] for sampling in BOTH}
    return {
        **asdict(scenario),
        "runs": runs,
        **found,
        "votes saved": 1 - needed["informative"] / needed["even"],
        "ok": found["informative"]["coverage"] >= 0.93 and needed["informative"] <= needed["even"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--certain", type=float, default=0.95)
    parser.add_argument("--scenario", type=int, help=f"one alone, 1 to {len(SCENARIOS)} (default: all)")
    given = parser.parse_args(arguments)
    if given.scenario is not None and not 1 <= given.scenario <= len(SCENARIOS):
        parser.error(f"--scenario is 1 to {len(SCENARIOS)}, not {given.scenario}")
    fine = True
    for scenario in SCENARIOS if given.scenario is None else SCENARIOS[given.scenario - 1 :][:1]:
        row = compare(scenario, given.runs, given.certain)
        print(json.dumps(shorten(row)), flush=True)
        fine &= row["ok"]
    return 0 if fine else 1


def shorten(value: Any) -> Any:
    """The same with four digits behind the point."""
    if isinstance(value, dict):
        return {name: shorten(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
