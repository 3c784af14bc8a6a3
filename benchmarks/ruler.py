"""What benchmarks of the search share: a backbone with its rewards, searches, and the held-out gain of a
vector.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from calibri.analysis.evaluate import pairs_of
from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Member
from calibri.rewards.base import RewardTerm, load_reward
from calibri.rewards.scoring import LocalScorer, Scorer
from calibri.sampling.renderer import Renderer, RenderRequest
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import read_journal
from calibri.search.records import GenerationRecord
from calibri.search.run import run_search
from calibri.tabletop.prompts import prompt_set


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def add_options(parser: argparse.ArgumentParser, work: Path, prompts: int, images: int) -> None:
    """The options that a Ruler reads, and those of the searches that it measures."""
    parser.add_argument("--images", type=int, default=images, help="of each search")
    parser.add_argument("--granularity", default="layer", choices=("block", "layer", "gate"))
    parser.add_argument("--reward", default="tabletop-align,tabletop-quality")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=prompts, help="held-out prompts")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--work", type=Path, default=work)


class Ruler:
    """Held-out gain of a vector on tabletop: Σ w · (R − R(base)) / spread over the held-out pairs."""

    def __init__(self, args: argparse.Namespace, compile: bool = False) -> None:
        self.backbone = load_backbone("tabletop", compile=compile)
        self.layout = self.backbone.layout(args.granularity)
        self.args, self.steps = args, args.steps
        self.terms = tuple(RewardTerm.parse(text) for text in args.reward.split(","))
        self.names = [term.name for term in self.terms]
        self.weights = np.array([term.weight for term in self.terms])
        self.rewards = {name: load_reward(name, device=str(self.backbone.device)) for name in self.names}
        renderer = Renderer(self.backbone, batch_size=args.batch_size)
        self.scorer = LocalScorer(renderer, self.rewards, args.batch_size)
        self.pairs = pairs_of(prompt_set("held-out", args.prompts, seed=0), seed=1)
        self.base = self._scores(None)
        self.spread = self.base.std(axis=0, ddof=1)

    def _scores(self, vector: np.ndarray | None) -> np.ndarray:
        return self.scores(None if vector is None else (Member(scales=tuple(float(v) for v in vector)),))

    def scores(self, members: tuple[Member, ...] | None) -> np.ndarray:
        """Raw scores of all rewards, (pairs, R), of `members`, or of the base for None."""
        layout = None if members is None else self.layout
        requests = [
            RenderRequest(pair.prompt, pair.seed, self.steps, members=members, layout=layout)
            for pair in self.pairs
        ]
        return self.scorer(requests, self.names)

    def gains(self, vector: np.ndarray) -> np.ndarray:
        """Gain of each reward, in its spreads, on each held-out pair, (pairs, R), of `vector`, (n,)."""
        return np.asarray((self._scores(vector) - self.base) / self.spread)

    def gain(self, vector: np.ndarray) -> float:
        """Mean gain of `vector`, (n,), in spreads of the base's rewards."""
        return float((self.gains(vector) @ self.weights).mean())

    def config(self, preset: str, seed: int, **values: Any) -> SearchConfig:
        """A search on this ruler's terms that stops at its budget only."""
        return SearchConfig.make(
            preset,
            granularity=self.args.granularity,
            rewards=self.terms,
            steps=self.steps,
            seed=seed,
            prompts=tuple(search_prompts()),
            validation_pairs=0,
            held_out_pairs=0,
            convergence="none",
            batch_size=self.args.batch_size,
            **values,
        )

    def search(
        self, config: SearchConfig, folder: Path, images: int, scorer: Scorer | None = None
    ) -> list[GenerationRecord]:
        """The generations of a search of about `images` images; what is in `folder` goes on from there."""
        budget = Budget(images=images)
        for record in run_search(
            config, folder, backbone=self.backbone, rewards=self.rewards, budget=budget, scorer=scorer
        ):
            if isinstance(record, GenerationRecord) and record.generation % 5 == 0:
                mean = record.bucket_mean.text()
                say(f"  {folder.name}: {record.images} images, {mean}, sigma {record.sigma:.3f}")
        return [r for r in read_journal(folder) if isinstance(r, GenerationRecord)]


def search_prompts() -> list[str]:
    """The prompts that all measured searches draw from."""
    return prompt_set("search", 512, seed=0)


def checkpoints(generations: list[GenerationRecord], spacing: float, first: int = 0) -> list[int]:
    """How many generations were done at each checkpoint: images a factor `spacing` apart, and the end."""
    found, last = [], 0
    for count, record in enumerate(generations, 1):
        if record.images >= max(first, spacing * last) or count == len(generations):
            last = record.images
            found.append(count)
    return found
