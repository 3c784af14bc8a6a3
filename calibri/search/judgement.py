"""The end of a search: the point reached against the base on held-out pairs, and what is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibri.calibration.artifact import Calibration, Member
from calibri.files import write_whole
from calibri.interval import Interval, Verdict, paired_interval
from calibri.search.config import SearchConfig
from calibri.search.guard import find_blind_spots
from calibri.search.journal import CALIBRATION, TAIL
from calibri.search.objective import Objective
from calibri.search.provenance import versions
from calibri.search.records import BlindSpot, ResultRecord, share_words
from calibri.search.space import SearchSpace


@dataclass(frozen=True)
class Judgement:
    """Paired differences on the held-out pairs: of the objective in spreads, of each reward and judge in
    its units. `spots`: where the objective rose most while a judge fell.
    """

    objective: Interval
    gains: dict[str, Interval]
    images: int
    spots: list[BlindSpot] = field(default_factory=list)


class Bench:
    """Holds points against the base on the held-out pairs, which nothing was searched or stopped on. The base
    is rendered once.
    """

    def __init__(self, objective: Objective) -> None:
        config = objective.config
        self.objective = objective
        self.pairs = objective.source.pairs(config.held_out_pairs, "held-out")
        self.names = [*objective.names, *(name for name in config.judges if name not in objective.names)]
        self._base: np.ndarray | None = None

    def judge(self, vector: np.ndarray, weights: np.ndarray | None = None) -> Judgement:
        """Renders `vector`, (n,), and the base if that was not done. `weights`: of the rewards, (R,); None
        for the config's.
        """
        objective, before = self.objective, self.objective.images
        if self._base is None:
            self._base = self._scores(None, "the base")
        raw, base = self._scores(objective.space.decode(vector), "the point reached"), self._base
        k = len(objective.names)
        gain, judged = objective.gain(raw[:, :k], base[:, :k], weights), raw[:, k:] - base[:, k:]
        return Judgement(
            objective=paired_interval(gain),
            spots=find_blind_spots(self.pairs, gain, judged, base[:, k:].std(axis=0), self.names[k:]),
            gains={name: paired_interval(raw[:, r] - base[:, r]) for r, name in enumerate(self.names)},
            images=objective.images - before,
        )

    def _scores(self, members: tuple[Member, ...] | None, who: str) -> np.ndarray:
        requests = [self.objective.request(pair, members) for pair in self.pairs]
        return self.objective.scores(requests, [who] * len(requests), self.names)


@dataclass(frozen=True)
class Shipment:
    """What a search found, and how."""

    config: SearchConfig
    backbone: str
    fingerprint: str
    space: SearchSpace
    vector: np.ndarray
    generation: int
    images: int
    seconds: float
    reason: str
    revisions: dict[str, str] = field(default_factory=dict)  # of the rewards
    sources: dict[str, str] = field(default_factory=dict)  # of their weights
    shares: dict[str, float] = field(default_factory=dict)  # of the rewards, for a point of a front
    loras: Sequence[dict[str, Any]] = ()  # that were on: name, file, strength, SHA-256

    def calibration(self, verdict: str, gains: dict[str, Interval]) -> Calibration:
        """The calibration with its provenance."""
        config = self.config
        rewards = ", ".join(term.text for term in config.rewards)
        if self.shares:
            rewards = share_words(self.shares)
        found: dict[str, Any] = {
            "how": "search",
            "verdict": verdict,
            "rewards": rewards,
            "objective": config.objective,
            "gains": {name: gain.model_dump() for name, gain in gains.items()},
            "steps": config.steps,
            "start": config.start_from,
            "preset": config.preset,
            "optimizer": config.optimizer,
            "seed": config.seed,
            "generations": self.generation,
            "images": self.images,
            "seconds": round(self.seconds, 1),
            "stopped": self.reason,
            "backbone_fingerprint": self.fingerprint,
            "config": config.hash,
            "prompts": config.prompts_hash,
            "versions": versions(),
        }
        if loading := config.load_options.tell():
            found["loading"] = loading
        if self.shares:
            found["shares"] = self.shares
        if self.loras:
            found["loras"] = list(self.loras)
        if self.revisions:
            found["reward_revisions"] = self.revisions
        if any(self.sources.values()):
            found["reward_sources"] = {name: source for name, source in self.sources.items() if source}
        kind = "ensemble" if len(config.conditions) > 1 else "calibration"
        return Calibration(
            title=f"{self.backbone} {config.granularity} {kind}, {rewards}",
            backbone=self.backbone,
            granularity=config.granularity,
            names=self.space.names,
            members=self.space.decode(self.vector),
            found=found,
        )


def ship(shipment: Shipment, judgement: Judgement | None, folder: Path, time: str) -> ResultRecord:
    """Writes the point reached with its gain; as `calibration.json` only if the interval lies above 0."""
    verdict: Verdict | Literal["not judged"] = judgement.objective.verdict if judgement else "not judged"
    gains = judgement.gains if judgement else {}
    text = shipment.calibration(verdict, gains).to_json()
    write_whole(folder / TAIL, text, durable=True)
    shipped = None
    if verdict == "better":
        write_whole(folder / CALIBRATION, text, durable=True)
        shipped = CALIBRATION
    else:
        # An earlier session's better calibration would no longer be what this run says.
        (folder / CALIBRATION).unlink(missing_ok=True)
    return ResultRecord(
        time=time,
        reason=shipment.reason,
        generation=shipment.generation,
        images=shipment.images,
        seconds=shipment.seconds,
        verdict=verdict,
        objective=judgement.objective if judgement else None,
        gains=gains,
        judges=[name for name in shipment.config.judges if name in gains],
        vector=shipment.vector.tolist(),
        calibration=shipped,
        judgement_images=judgement.images if judgement else 0,
        text=_sentence(verdict, judgement),
        blind_spots=judgement.spots if judgement else [],
    )


def _sentence(verdict: str, judgement: Judgement | None) -> str:
    if judgement is None:
        return f"Not judged on held-out prompts; the point reached is in {TAIL}."
    interval = judgement.objective
    where = f"{interval.text(2)} spreads of the base's reward, on {interval.n} held-out pairs"
    if verdict == "better":
        return f"Better than base: {where}."
    if verdict == "worse":
        return f"Worse than base: {where}. Nothing is shipped; the point reached is in {TAIL}."
    return f"Not told apart from base: {where}. Nothing is shipped as better; the point reached is in {TAIL}."
