"""Candidates × bucket → scores: the reward of each picture against the base's on the same prompt and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Member
from calibri.calibration.phases import vary, weights_at
from calibri.errors import SearchError
from calibri.interval import Interval, paired_interval
from calibri.rewards.calibrated import expected_wins
from calibri.rewards.scoring import Pair, Progress, Scorer
from calibri.sampling.request import RenderRequest
from calibri.search.config import SearchConfig
from calibri.search.counting import SPREAD_PAIRS, count_generation, count_spread_pairs
from calibri.search.pairs import PairSource
from calibri.search.records import BaseRecord, GenerationRecord
from calibri.search.space import SearchSpace

USUAL_TEMPERATURE = 2.0  # of the win rate, in spreads of the base's differences


@dataclass(frozen=True)
class BucketScores:
    """One generation's outcome. λ candidates, B pairs, S base samples, R rewards.

    `told`: (λ,), what the optimiser ranks. `objective`: (λ,), mean over the pairs that a candidate saw.
    `rewards`: (λ, R), mean difference from the base, in the reward's units. `base`: (B, S, R), raw. `mean`:
    over all candidates, with its interval over pairs.
    """

    told: np.ndarray
    objective: np.ndarray
    rewards: np.ndarray
    base: np.ndarray
    mean: Interval
    images: int


class Objective:
    """The function that a search maximises. It remembers the base's scores: each is rendered once in a run.

    Difference: Σ_r w_r · (R_r(x) − R_r(base)) / spread_r, with the spread of reward r on the base. Win
    rate: the weighted mean over rewards of the expected win rate against base samples of the prompt
    (CaPO eq. 7; `calibri.rewards.calibrated`).
    """

    def __init__(
        self,
        config: SearchConfig,
        layout: Layout,
        scorer: Scorer,
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.layout = layout
        self.space = SearchSpace.of(config, layout)
        self.source = PairSource(config)
        self.scorer = scorer
        self.stop = stop
        self.progress = progress
        self.images = 0  # rendered through this object
        self.names = [term.name for term in config.rewards]
        missing = [name for name in self.names if name not in scorer.known]
        if missing:
            raise SearchError(
                f"expected loaded rewards ({', '.join(scorer.known) or 'none'}), got {missing[0]}"
            )
        spoiled = [name for name in self.names if name in scorer.judges]
        if spoiled and not config.optimize_judges:
            raise SearchError(
                f"{spoiled[0]} is a judge: once optimised, it measures nothing any more. "
                "Choose another reward, or set optimize_judges (--optimize-judges) if you mean it"
            )
        self._base: dict[int, np.ndarray] = {}
        self._scale: BaseRecord | None = None

    # ---- rendering and scoring

    def request(self, pair: Pair, members: tuple[Member, ...] | None) -> RenderRequest:
        """What to render for a pair: `members`, or the base for None."""
        config = self.config
        return RenderRequest(
            prompt=pair.prompt,
            seed=pair.seed,
            steps=config.steps,
            members=members,
            layout=None if members is None else self.layout,
            height=config.height,
            width=config.width,
            guidance=config.guidance if members is None else None,
        )

    def is_base(self, members: tuple[Member, ...]) -> bool:
        """Whether `members` paint exactly the base's pictures: those of weight 0 do not count."""
        strength = self.config.guidance
        base = [(1.0, "positive")]
        if strength not in (None, 1):
            base = [(strength, "positive"), (1 - strength, "negative")]
        counting = [member for member in members if member.weight != 0]
        if any(scale != 1 for member in counting for scale in member.scales):
            return False
        steps = range(self.config.steps if vary(counting) else 1)
        at_each = (weights_at(counting, step, self.config.steps) for step in steps)
        return all(
            [(weight, member.condition) for member, weight in zip(counting, weights) if weight != 0] == base
            for weights in at_each
        )

    def scores(
        self, requests: Sequence[RenderRequest], who: Sequence[str], names: Sequence[str] | None = None
    ) -> np.ndarray:
        """Raw scores, (len(requests), len(names)), of the optimised rewards unless `names` says others.

        `who`: whose picture each is, for the message. Raises SearchError that names prompt, seed, candidate
        and reward where a score is not finite.
        """
        names = self.names if names is None else names
        raw = self.scorer(requests, names, stop=self.stop, progress=self.progress)
        self.images += len(requests)
        if raw.shape != (len(requests), len(names)):
            raise SearchError(f"the scorer gave shape {raw.shape}, expected {(len(requests), len(names))}")
        bad = np.argwhere(~np.isfinite(raw))
        if bad.size:
            i, r = bad[0]
            raise SearchError(
                f"reward {names[r]} gave {raw[i, r]} for {who[i]} "
                f"on prompt {requests[i].prompt!r} with seed {requests[i].seed}; the search cannot rank it"
            )
        return raw

    def _beside_base(
        self, indices: Sequence[int], requests: Sequence[RenderRequest] = (), who: Sequence[str] = ()
    ) -> np.ndarray:
        """Raw scores of `requests`, rendered together with the base's missing pictures of pairs `indices`: a
        separate call for a few pictures would leave all workers but one idle.
        """
        missing = [i for i in dict.fromkeys(indices) if i not in self._base]
        base = [self.request(pair, None) for i in missing for pair in self.source.base_samples(i)]
        if not base and not requests:
            return np.empty((0, len(self.names)))
        raw = self.scores([*base, *requests], ["the base"] * len(base) + [*who])
        if missing:
            self._base.update(zip(missing, np.split(raw[: len(base)], len(missing)), strict=True))
        return raw[len(base) :]

    def _base_of(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([self._base[i] for i in indices])

    # ---- what the rewards are divided by

    def measure_base(self) -> tuple[np.ndarray, int]:
        """Renders the base on the first pairs: raw scores (pairs, S, R) and the number of pictures."""
        indices, before = range(count_spread_pairs(self.config)), self.images
        self._beside_base(indices)
        return self._base_of(indices), self.images - before

    def base_record(self, raw: np.ndarray, *, images: int, seconds: float) -> BaseRecord:
        """Mean and spread of each reward on the base, from `measure_base`. Raises SearchError for a flat
        reward.
        """
        first = raw[:, 0]
        spread = first.std(axis=0, ddof=1)
        for name, value in zip(self.names, spread, strict=True):
            if not value > 0:
                raise SearchError(
                    f"reward {name} gives the same score for every picture of the base: nothing to compare"
                )
        total = (first / spread) @ self._weights()
        temperatures, alphas = self._odds(raw, spread) if self.config.objective == "win-rate" else ({}, {})
        return BaseRecord(
            pairs=len(raw),
            means=dict(zip(self.names, first.mean(axis=0).tolist(), strict=True)),
            spread=dict(zip(self.names, spread.tolist(), strict=True)),
            total_spread=float(total.std(ddof=1)),
            temperatures=temperatures,
            alphas=alphas,
            base_scores=raw.tolist(),
            images=images,
            seconds=seconds,
        )

    def _odds(self, raw: np.ndarray, spread: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
        """Of the win rate: the temperature of each reward, and alpha of those that are probabilities."""
        asked, infos = self.config.temperature, getattr(self.scorer, "infos", {})
        known = {name: infos[name].temperature for name in self.names if name in infos}
        # Twice the spread of paired differences: at once it saturates and costs 1.8 times the images
        # (measured on synthetic rewards). So too for a reward that does not know its own.
        times = USUAL_TEMPERATURE if asked == "reward" else asked
        widths = times * (raw[:, 1:] - raw[:, :1]).std(axis=(0, 1))
        measured = dict(zip(self.names, np.where(widths > 0, widths, spread).tolist(), strict=True))
        own = {name: value for name, value in known.items() if value is not None and asked == "reward"}
        kinds = {name: infos[name].kind for name in known}
        alphas = {name: self.config.alpha for name, kind in kinds.items() if kind == "probability"}
        return measured | own, alphas

    def count_generation(self, candidates: int, indices: Sequence[int]) -> int:
        """How many pictures `evaluate` renders for so many candidates, at most."""
        return count_generation(self.source, candidates, indices, self._base)

    def use_base(self, record: BaseRecord) -> None:
        """Takes the rewards' spreads and the base's scores from a record, a new or a replayed one."""
        self._scale = record
        for i, rows in enumerate(record.base_scores):
            self._base[i] = np.array(rows, dtype=np.float64)

    def use_generation(self, record: GenerationRecord) -> None:
        """Takes the base's scores of a replayed generation: its pairs are not rendered again."""
        for i, rows in zip(record.bucket, record.base_scores, strict=True):
            self._base[i] = np.array(rows, dtype=np.float64)
        if not self.config.pool:
            self.forget_base()

    def forget_base(self) -> None:
        """Drops scores that are not needed again: without a pool no pair comes twice."""
        self._base = {i: rows for i, rows in self._base.items() if i < SPREAD_PAIRS}

    def _weights(self) -> np.ndarray:
        return np.array([term.weight for term in self.config.rewards], dtype=np.float64)

    def values(self, raw: np.ndarray, base: np.ndarray) -> np.ndarray:
        """The objective of each picture: raw (…, B, R) and base (B, S, R) → (…, B)."""
        if self._scale is None:
            raise SearchError("the base must be measured before candidates")
        if self.config.objective == "win-rate":
            wins = [self._wins(name, raw[..., r], base[..., r]) for r, name in enumerate(self.names)]
            weights = self._weights()
            return np.stack(wins, axis=-1) @ weights / np.abs(weights).sum()
        return self.gain(raw, base[:, 0])

    def _wins(self, name: str, raw: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Expected win rate of one reward: raw (…, B) and base (B, S) → (…, B)."""
        assert self._scale is not None
        temperature, alpha = self._scale.temperatures[name], self._scale.alphas.get(name)
        if alpha is None:
            return expected_wins(raw[..., None], base, "bt", temperature)[..., 0]
        return expected_wins(raw[..., None], base, "probability", alpha=alpha)[..., 0]

    def gain(self, raw: np.ndarray, base: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Σ_r w_r · (R_r − R_r(base)) / spread_r of the optimised rewards: (…, R) twice → (…). `weights`:
        (R,), None for the config's.
        """
        if self._scale is None:
            raise SearchError("the base must be measured before candidates")
        spread = np.array([self._scale.spread[name] for name in self.names])
        return ((raw - base) / spread) @ (self._weights() if weights is None else weights)

    # ---- a generation

    def evaluate(self, vectors: np.ndarray, indices: Sequence[int]) -> BucketScores:
        """Scores all candidates, (λ, n), on the same pairs. In a race the worse half drops out after `race`
        pairs.
        """
        before = self.images
        members = [self.space.decode(vector) for vector in vectors]
        everyone = list(range(len(members)))
        heat = self.config.race or len(indices)
        raw = self._raw(members, everyone, indices[:heat], later=indices[heat:])  # (λ, heat, R)
        base = self._base_of(indices)
        values = self.values(raw, base[:heat])
        told = values.mean(axis=1)
        objective = told.copy()
        rewards = (raw - base[:heat, 0]).mean(axis=1)
        if heat < len(indices):
            order = np.argsort(-told, kind="stable")
            winners = np.sort(order[: math.ceil(len(members) / 2)])
            losers = np.setdiff1d(everyone, winners)
            late = self._raw(members, winners.tolist(), indices[heat:])
            both = np.concatenate([raw[winners], late], axis=1)
            objective[winners] = self.values(both, base).mean(axis=1)
            rewards[winners] = (both - base[:, 0]).mean(axis=1)
            gap = float(told.std()) or 1.0
            worst = float(objective[winners].min())
            loser_told = told[losers]
            told = objective.copy()
            told[losers] = worst - gap - (loser_told.max() - loser_told)  # losers rank below every winner
        mean = values.mean(axis=0)
        flat = float(mean.mean())
        return BucketScores(
            told=told,
            objective=objective,
            rewards=rewards,
            base=base,
            mean=paired_interval(mean) if len(mean) > 1 else Interval(mean=flat, low=flat, high=flat, n=1),
            images=self.images - before,
        )

    def _raw(
        self,
        members: list[tuple[Member, ...]],
        chosen: list[int],
        indices: Sequence[int],
        later: Sequence[int] = (),
    ) -> np.ndarray:
        """Raw scores (chosen, pairs, R) on pairs `indices`, pair by pair, so that one prompt's candidates
        share batches. The base is there afterwards, for pairs `later` too.
        """
        painted = [k for k, c in enumerate(chosen) if not self.is_base(members[c])]
        pairs = [self.source.pair(i) for i in indices]
        raw = self._beside_base(
            [*indices, *later],
            [self.request(pair, members[chosen[k]]) for pair in pairs for k in painted],
            [f"candidate {chosen[k]}" for _ in pairs for k in painted],
        )
        base = self._base_of(indices)[:, 0]
        out = np.repeat(base[None], len(chosen), axis=0)  # what is not painted is the base itself
        out[painted] = raw.reshape(len(pairs), len(painted), len(self.names)).transpose(1, 0, 2)
        return out
