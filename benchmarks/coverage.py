"""How often nominal 95 % intervals of a win rate cover the truth, when prompts and raters differ.

    python -m benchmarks.coverage            # about ten minutes on one core; --runs 200 for a look

Printed as JSON, one object a scenario: coverage and mean width of the two-way cluster bootstrap (the headline
of every report), of the plain Wilson interval, and of the pigeonhole bootstrap (Owen 2007), which the two-way
bootstrap replaces. Votes are Bernoulli with log odds = advantage + prompt effect + rater effect, both normal;
the truth is the mean over all prompts and raters.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np

from calibri.preference import Rate, Vote, two_way_interval, win_rate


@dataclass(frozen=True)
class Scenario:
    """Each prompt gets `per_prompt` votes, dealt to the raters in turn; effects are standard deviations."""

    prompts: int
    raters: int
    per_prompt: int
    advantage: float = 0.3
    prompt_effect: float = 0.8
    rater_effect: float = 0.6


SCENARIOS = (
    Scenario(200, 33, 5),  # five-per-pair
    Scenario(200, 200, 28, prompt_effect=0.8, rater_effect=0.4),  # side-by-side: 5,600 votes
    Scenario(40, 20, 5),
    Scenario(40, 10, 5, prompt_effect=1.0),
    Scenario(30, 5, 5),
    Scenario(20, 20, 3, advantage=1.5),
    Scenario(60, 60, 1, prompt_effect=0.0, rater_effect=0.0),
    Scenario(40, 20, 5, prompt_effect=0.0, rater_effect=0.0),
)


def chance(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def truth(scenario: Scenario) -> float:
    """E[chance] over both effects, by Gauss–Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    sd = np.hypot(scenario.prompt_effect, scenario.rater_effect)
    return float((weights * chance(scenario.advantage + sd * nodes)).sum() / weights.sum())


def study(scenario: Scenario, generator: np.random.Generator) -> list[Vote]:
    """One simulated study."""
    prompt_effect = generator.normal(0, scenario.prompt_effect, scenario.prompts)
    rater_effect = generator.normal(0, scenario.rater_effect, scenario.raters)
    n = scenario.prompts * scenario.per_prompt
    rounds = -(-n // scenario.raters)
    raters = np.concatenate([generator.permutation(scenario.raters) for _ in range(rounds)])[:n]
    prompts = np.repeat(np.arange(scenario.prompts), scenario.per_prompt)
    odds = scenario.advantage + prompt_effect[prompts] + rater_effect[raters]
    wins = generator.random(n) < chance(odds)
    return [
        Vote("q", "a", "b", str(p), str(r), "x" if won else "y", pair=str(p))
        for p, r, won in zip(prompts, raters, wins)
    ]


def pigeonhole(votes: list[Vote], generator: np.random.Generator, draws: int) -> tuple[float, float]:
    """Prompts and raters resampled at once, percentile interval."""
    prompts = np.unique([v.prompt for v in votes], return_inverse=True)[1]
    raters = np.unique([v.rater for v in votes], return_inverse=True)[1]
    scores = np.array([v.score for v in votes])
    p, r = prompts.max() + 1, raters.max() + 1
    weight = generator.multinomial(p, np.full(p, 1 / p), draws)[:, prompts]
    weight = weight * generator.multinomial(r, np.full(r, 1 / r), draws)[:, raters]
    low, high = np.quantile((weight @ scores) / np.maximum(weight.sum(axis=1), 1), [0.025, 0.975])
    return float(low), float(high)


def measure(
    scenario: Scenario, runs: int, draws: int, *, seed: int = 0, wide: bool = False
) -> dict[str, float]:
    """Share of `runs` studies whose interval holds the truth, by method, and the mean widths."""
    generator = np.random.default_rng(seed)
    true = truth(scenario)
    covered: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for run in range(runs):
        votes = study(scenario, generator)
        intervals = {}
        for name, rate in (
            ("two-way", two_way_interval(votes, draws=draws, seed=run)),
            ("plain", win_rate(votes)),
        ):
            assert isinstance(rate, Rate)
            intervals[name] = (rate.low, rate.high)
        if wide:
            intervals["pigeonhole"] = pigeonhole(votes, generator, draws)
        for name, (low, high) in intervals.items():
            covered.setdefault(name, []).append(low <= true <= high)
            widths.setdefault(name, []).append(high - low)
    return {n: float(np.mean(c)) for n, c in covered.items()} | {
        f"{n} width": float(np.mean(w)) for n, w in widths.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--scenario", type=int, help=f"one alone, 1 to {len(SCENARIOS)} (default: all)")
    given = parser.parse_args()
    if given.scenario is not None and not 1 <= given.scenario <= len(SCENARIOS):
        parser.error(f"--scenario is 1 to {len(SCENARIOS)}, not {given.scenario}")
    for scenario in SCENARIOS if given.scenario is None else SCENARIOS[given.scenario - 1 :][:1]:
        small = scenario.prompts * scenario.per_prompt <= 2000  # the pigeonhole needs draws × votes memory
        made = measure(scenario, given.runs, given.draws, wide=small)
        row = {**asdict(scenario), "truth": truth(scenario), "runs": given.runs, **made}
        print(json.dumps({k: round(v, 4) for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
