"""What a search is: every number that its candidates depend on, and apart from it the budget, which they do
not.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from calibri.errors import SearchError, sentence
from calibri.rewards.base import Frozen, RewardLoading, RewardTerm

FORMAT: Final = "calibri-search/1"
PUBLISHED_BOUNDS = (-1.0, 2.0)
WHOLE_BOUNDS = (0.5, 1.5)  # on tabletop these kept the pictures whole (TABLETOP.md)

PRESETS: dict[str, dict[str, Any]] = {
    # Levers from SEARCH.md's synthetic rewards. First step and bucket are measured on tabletop with 640
    # images, by benchmarks/settings.py: 0.2 and 4 gain 1.6 times as much as 0.1 and 8, and a first step of
    # 0.3 again 1.7 times as much. Without a limit such steps stay as wide as the bounds allow: of 0.59 gained
    # after 900 images 0.35 were left after 4,000; with one that shrinks, 0.74.
    # The fitted point needs about half the images of the tail average: means of ten seeds by
    # benchmarks/efficiency.py, 0.56 after 880 images against 0.55 after 1,556. In longer searches both end
    # alike: of five other seeds 0.55 against 0.45 after 540 images, 0.65 against 0.67 after 4,000.
    "default": {
        "optimizer": "cma",
        "sigma0": 0.3,
        "mirrors": 0.25,
        "mean_rate": "decay",
        "step_limit": "decay",
        "bucket": 4,
        "pool": 512,
        "race": 0,
        "convergence": "validation",
        "point": "fitted",
    },
    # Four more prompts for the better half of the candidates.
    "race": {
        "optimizer": "cma",
        "sigma0": 0.3,
        "mirrors": 0.25,
        "mean_rate": "decay",
        "step_limit": "decay",
        "bucket": 8,
        "pool": 512,
        "race": 4,
        "convergence": "validation",
    },
    # What the paper's code does; only the shipped point differs (the tail average instead of the luckiest).
    "paper": {
        "optimizer": "cma",
        "sigma0": 0.25,
        "mirrors": 0.0,
        "mean_rate": "constant",
        "bucket": 16,
        "pool": 0,
        "race": 0,
        "convergence": "paper",
        "bounds": PUBLISHED_BOUNDS,
    },
    # Many numbers, few images: no covariance to learn.
    "mirrored": {
        "optimizer": "mirrored-adam",
        "sigma0": 0.2,
        "popsize": 16,
        "mirrors": 0.0,
        "mean_rate": "decay",
        "bucket": 2,
        "pool": 512,
        "race": 0,
        "convergence": "validation",
    },
}


class Budget(Frozen):
    """When to stop in any case. `images` counts everything rendered before the final judgement."""

    images: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    generations: int | None = Field(default=None, ge=1)

    def reason_to_stop(self, *, images: int, seconds: float, generations: int) -> str | None:
        """Which limit is reached, in words; None if none is."""
        if self.images is not None and images >= self.images:
            return f"the budget of {self.images} images is used"
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"the budget of {self.minutes:g} minutes is used"
        if self.generations is not None and generations >= self.generations:
            return f"the budget of {self.generations} generations is used"
        return None


class SearchConfig(Frozen):
    """All that the candidates follow from. Saved as `config.json`; a search never changes it.

    The searched vector is `[scales of member 1, …, scales of member K, weights if searched]`.
    """

    format: Literal["calibri-search/1"] = FORMAT
    preset: str = "default"

    # What is searched
    backbone: str = "tabletop"
    granularity: Literal["block", "layer", "gate"] = "layer"
    conditions: tuple[Literal["positive", "negative"], ...] = ("positive",)
    weights: tuple[float, ...] = (1.0,)  # of the members, at the start
    search_weights: bool = False
    start: tuple[tuple[float, ...], ...] | None = None  # scales of each member; None is all ones
    start_from: str = "base"  # in words, for people

    # How pictures are made
    steps: int = Field(default=8, ge=1)
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    guidance: float | None = None  # of the base that everything is compared with
    batch_size: int = Field(default=32, ge=1)
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False  # of the transformer's blocks, which moves scores in the sixth digit

    # What is wanted
    rewards: tuple[RewardTerm, ...] = Field(min_length=1)
    judges: tuple[str, ...] = ()  # scored at the end only
    reward_loading: RewardLoading = RewardLoading()
    optimize_judges: bool = False  # a judge that was optimised measures nothing any more
    objective: Literal["difference", "win-rate"] = "difference"
    base_samples: int = Field(default=4, ge=2)  # of the base for each prompt; only the win rate uses them
    temperature: float = Field(default=2.0, gt=0)  # of the win rate, in spreads of base differences

    # On what
    prompts: tuple[str, ...] = Field(min_length=1)
    validation_prompts: tuple[str, ...] = ()
    held_out_prompts: tuple[str, ...] = ()
    pool: int = Field(default=512, ge=0)  # (prompt, seed) pairs; 0 draws new ones for each generation
    bucket: int = Field(default=4, ge=1)
    race: int = Field(default=0, ge=0)  # pairs that all candidates see before the worse half drops out

    # How
    seed: int = Field(default=0, ge=0)
    optimizer: Literal["cma", "mirrored-adam"] = "cma"
    popsize: int | None = Field(default=None, ge=4)
    sigma0: float = Field(default=0.3, gt=0)
    weight_sigma: float = Field(default=0.2, gt=0)
    mirrors: float = Field(default=0.25, ge=0, lt=0.5)
    mean_rate: Literal["decay", "constant"] = "decay"
    step_limit: Literal["decay", "none"] = "none"
    bounds: tuple[float, float] = PUBLISHED_BOUNDS
    weight_bounds: tuple[float, float] = (-10.0, 10.0)

    # When to look, when to stop, what to keep
    convergence: Literal["validation", "paper", "none"] = "validation"
    validation_pairs: int = Field(default=64, ge=0)
    validation_spacing: float = Field(default=1.24, gt=1)
    validation_share: float = Field(default=0.1, gt=0, le=1)  # of the images, at most, for validation
    held_out_pairs: int = Field(default=128, ge=0)
    tail: float = Field(default=0.5, gt=0, le=1)
    point: Literal["tail", "fitted"] = "tail"  # kept: the tail average, or halfway to the optimum of a fit

    @field_validator("bounds", "weight_bounds")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError(
                f"the lower bound must lie below the upper one, got {value[0]:g} and {value[1]:g}"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        k = len(self.conditions)
        if k < 1:
            raise ValueError("at least one member is needed")
        if "positive" not in self.conditions:
            raise ValueError("at least one member must see the positive prompt")
        if len(self.weights) != k:
            raise ValueError(f"{k} members need {k} weights, got {len(self.weights)}")
        if self.start is not None and len(self.start) != k:
            raise ValueError(f"{k} members need {k} rows of scales in start, got {len(self.start)}")
        names = [term.name for term in self.rewards]
        if len(set(names)) != len(names):
            raise ValueError(f"a reward is named twice: {', '.join(names)}")
        if all(term.weight == 0 for term in self.rewards):
            raise ValueError("at least one reward needs a weight other than 0")
        if self.race >= self.bucket:
            raise ValueError(f"race ({self.race}) must be smaller than bucket ({self.bucket})")
        if 0 < self.pool < self.bucket:
            raise ValueError(f"pool ({self.pool}) must hold at least one bucket ({self.bucket})")
        if (self.height is None) != (self.width is None):
            raise ValueError("give height and width together")
        overlap = set(self.prompts) & set(self.held_out_prompts)
        if overlap:
            raise ValueError(f"a held-out prompt is also searched on: {sorted(overlap)[0]!r}")
        return self

    @classmethod
    def make(cls, preset: str = "default", **values: Any) -> SearchConfig:
        """A config from a preset and what differs from it.

        Bounds not given are [0.5, 1.5] on tabletop and the published [-1, 2] elsewhere; more than one
        member means that weights are searched. Raises SearchError in one sentence.
        """
        if preset not in PRESETS:
            raise SearchError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        merged = {**PRESETS[preset], **values, "preset": preset}
        on_tabletop = str(merged.get("backbone", "tabletop")).rstrip("/").endswith("tabletop")
        merged.setdefault("bounds", WHOLE_BOUNDS if on_tabletop else PUBLISHED_BOUNDS)
        members = len(merged.get("conditions", ("positive",)))
        merged.setdefault("weights", (1.0,) + (0.0,) * (members - 1))
        merged.setdefault("search_weights", members > 1)
        try:
            return cls(**merged)
        except ValidationError as error:
            raise SearchError(sentence(error)) from error

    @classmethod
    def from_json(cls, text: str) -> SearchConfig:
        """Raises SearchError if `text` is not a search's config."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SearchError(f"config.json is not a search's config: {sentence(error)}") from error

    def to_json(self) -> str:
        """JSON with sorted keys, so that equal configs are equal texts."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @property
    def reward_names(self) -> tuple[str, ...]:
        """All rewards and judges, each once."""
        return tuple(dict.fromkeys([*(term.name for term in self.rewards), *self.judges]))

    @property
    def hash(self) -> str:
        """SHA-256 of the config's JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def prompts_hash(self) -> str:
        """SHA-256 of all prompts, for a calibration's provenance."""
        every = [self.prompts, self.validation_prompts, self.held_out_prompts]
        return hashlib.sha256(json.dumps(every, ensure_ascii=False).encode()).hexdigest()

    def numbers(self, scales: int) -> int:
        """How many numbers are searched on a layout of `scales` scales."""
        members = len(self.conditions)
        return members * scales + (members if self.search_weights else 0)

    def estimate_images(self, scales: int, generations: int) -> int:
        """About how many pictures `generations` generations render, validation and base included."""
        n = max(2, self.numbers(scales))
        popsize = self.popsize or (16 if self.optimizer == "mirrored-adam" else 4 + int(3 * math.log(n)))
        each = (
            popsize * self.bucket
            if not self.race
            else (popsize * self.race + math.ceil(popsize / 2) * (self.bucket - self.race))
        )
        base = generations * self.bucket if not self.pool else min(generations * self.bucket, self.pool)
        searched = generations * each + base
        return round(searched * (1 + self.validation_share)) + self.validation_pairs
