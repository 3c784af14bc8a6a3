"""What a sweep measures: one checked form for the command line, the studio's page and its files."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ValidationError, field_validator

from calibri.analysis.evaluate import pairs_of
from calibri.backbones.layouts import Granularity
from calibri.calibration.scale_names import HIGHEST, LOWEST
from calibri.errors import SearchError, sentence
from calibri.prompts.files import read_field
from calibri.ranges import LONGEST_PROMPT, MOST_STEPS
from calibri.rewards.base import Frozen, RewardTerm
from calibri.rewards.scoring import Pair

VALUES = (0.0, 0.25, 0.5, 0.75, 1.25, 1.5)  # 0 bypasses
MOST_PAIRS, MOST_PROMPTS, MOST_VALUES = 10_000, 5000, 64


class SweepSettings(Frozen):
    """The settings of a sweep. `parse` makes them from what somebody typed.

    `rewards`: texts `name` or `name:weight`, with commas between or as a list. `prompts`: a text with one a
    line, or a list. `pairs`: (prompt, seed) pairs that every cell is measured on. `values`: of the one scale
    that a cell changes, a text with commas between or a list. `guidance`: 1 is none.
    """

    granularity: Granularity = "block"
    rewards: tuple[RewardTerm, ...]
    prompts: tuple[str, ...] = Field(min_length=1, max_length=MOST_PROMPTS)
    pairs: int = Field(16, ge=2, le=MOST_PAIRS)
    steps: int = Field(8, ge=1, le=MOST_STEPS)
    guidance: float | None = Field(None, ge=0, le=100)
    values: tuple[float, ...] = Field(VALUES, min_length=1, max_length=MOST_VALUES)
    seed: int = Field(0, ge=0, lt=2**31)

    @classmethod
    def parse(cls, **typed: Any) -> Self:
        """Raises SearchError with the field that does not fit, what was expected and what came."""
        try:
            return cls(**typed)
        except ValidationError as error:
            raise SearchError(sentence(error)) from None

    @field_validator("rewards", mode="before")
    @classmethod
    def _read_rewards(cls, typed: Any) -> Any:
        texts = typed.split(",") if isinstance(typed, str) else typed or ()
        return tuple(RewardTerm.parse(each) if isinstance(each, str) else each for each in texts)

    @field_validator("rewards")
    @classmethod
    def _check_rewards(cls, terms: tuple[RewardTerm, ...]) -> tuple[RewardTerm, ...]:
        if not terms:
            raise ValueError("expected at least one, got none")
        names = [term.name for term in terms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"expected each of them once, got {twice} twice")
        return terms

    @field_validator("prompts", mode="before")
    @classmethod
    def _read_prompts(cls, typed: Any) -> Any:
        if not isinstance(typed, str):
            return typed
        return read_field(typed)

    @field_validator("prompts")
    @classmethod
    def _check_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if not 0 < len(prompt) <= LONGEST_PROMPT:
                raise ValueError(f"expected 1 to {LONGEST_PROMPT} characters in each, got {len(prompt)}")
        return prompts

    @field_validator("guidance", mode="before")
    @classmethod
    def _read_guidance(cls, typed: Any) -> Any:
        return None if typed == 1 else typed

    @field_validator("values", mode="before")
    @classmethod
    def _read_values(cls, typed: Any) -> Any:
        if not isinstance(typed, str):
            return typed
        if (count := typed.replace(";", ",").count(",") + 1) > 2 * MOST_VALUES:  # some may be empty
            raise ValueError(f"expected at most {MOST_VALUES} values, got {count}")
        try:
            return tuple(float(part) for part in typed.replace(";", ",").split(",") if part.strip())
        except ValueError:
            raise ValueError(f"expected numbers with commas between, got {typed[:40]!r}") from None

    @field_validator("values")
    @classmethod
    def _check_values(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not LOWEST <= value <= HIGHEST:
                raise ValueError(f"expected scales from {LOWEST:g} to {HIGHEST:g}, got {value:g}")
        if 1.0 in values:
            raise ValueError("1 is the base itself: leave it out")
        return tuple(sorted(set(values)))

    def draw_pairs(self) -> list[Pair]:
        """The pairs, the same for every cell: each prompt once before any comes twice."""
        each = -(-self.pairs // len(self.prompts))
        by_prompt = pairs_of(self.prompts, self.seed, each)
        return [by_prompt[i * each + k] for k in range(each) for i in range(len(self.prompts))][: self.pairs]

    @property
    def nfe(self) -> int:
        """Transformer evaluations a picture."""
        return self.steps * (1 if self.guidance is None else 2)
