"""What benchmarks of the search share: a backbone with its rewards, and the held-out gain of a vector."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from calibri.analysis.evaluate import pairs_of
from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Member
from calibri.rewards.base import load_reward
from calibri.sampling.renderer import Renderer, RenderRequest
from calibri.search.config import RewardTerm
from calibri.search.scoring import LocalScorer
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

    def __init__(self, args: argparse.Namespace) -> None:
        self.backbone = load_backbone("tabletop")
        self.layout = self.backbone.layout(args.granularity)
        self.steps = args.steps
        self.terms = tuple(RewardTerm.parse(text) for text in args.reward.split(","))
        self.names = [term.name for term in self.terms]
        self.weights = np.array([term.weight for term in self.terms])
        self.rewards = {name: load_reward(name, self.backbone.device.type) for name in self.names}
        renderer = Renderer(self.backbone, batch_size=args.batch_size)
        self.scorer = LocalScorer(renderer, self.rewards, args.batch_size)
        self.pairs = pairs_of(prompt_set("held-out", args.prompts, seed=0), seed=1)
        self.base = self._scores(None)
        self.spread = self.base.std(axis=0, ddof=1)

    def _scores(self, vector: np.ndarray | None) -> np.ndarray:
        members = None if vector is None else (Member(scales=tuple(float(v) for v in vector)),)
        layout = None if members is None else self.layout
        requests = [
            RenderRequest(pair.prompt, pair.seed, self.steps, members=members, layout=layout)
            for pair in self.pairs
        ]
        return self.scorer(requests, self.names)

    def gain(self, vector: np.ndarray) -> float:
        """Mean gain of `vector`, (n,), in spreads of the base's rewards."""
        return float((((self._scores(vector) - self.base) / self.spread) @ self.weights).mean())
