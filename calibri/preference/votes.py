"""The vote as the statistics see it, and the two kinds of answers they give: a rate, or no data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from calibri.errors import StudyError

Answer = Literal["x", "y", "tie", "both_bad", "skip"]
ANSWERS: tuple[Answer, ...] = ("x", "y", "tie", "both_bad", "skip")

#: What an answer is worth for arm x. Both-bad and skip say nothing about which one is better.
SCORES: dict[str, float] = {"x": 1.0, "tie": 0.5, "y": 0.0}
_SWAPPED: dict[Answer, Answer] = {"x": "y", "y": "x"}


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer of one rater to one question on two pictures of the same prompt and seed.

    `winner`: which arm won, x or y. `left_is_x`: which one stood on the left. `pair`: the two pictures;
    votes on the same two pictures share it. `kind`: real, gold (x is plainly better) or repeat (the pair seen
    before, sides swapped). `response_ms`: milliseconds from seeing both pictures to the answer.
    """

    question: str
    arm_x: str
    arm_y: str
    prompt: str
    rater: str
    winner: Answer
    pair: str = ""
    left_is_x: bool | None = None
    kind: Literal["real", "gold", "repeat"] = "real"
    category: str = ""
    response_ms: float | None = None
    order: float = 0.0

    def __post_init__(self) -> None:
        if self.winner not in ANSWERS:
            raise StudyError(f"a vote is one of {', '.join(ANSWERS)}; got {self.winner!r}")
        if self.arm_x == self.arm_y:
            raise StudyError(f"a vote compares two arms; got {self.arm_x!r} twice")

    @property
    def score(self) -> float | None:
        """1 if x won, 0.5 for a tie, 0 if y won; None for both-bad and skip."""
        return SCORES.get(self.winner)

    def swapped(self) -> Vote:
        """The same vote with x and y exchanged."""
        winner = _SWAPPED.get(self.winner, self.winner)
        left = None if self.left_is_x is None else not self.left_is_x
        return replace(self, arm_x=self.arm_y, arm_y=self.arm_x, winner=winner, left_is_x=left)


@dataclass(frozen=True, slots=True)
class NoData:
    """There is nothing to tell, and why. It has no value: asking for one is an AttributeError, not 50 %."""

    reason: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "no data"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share in [0, 1], its interval at `level`, the number of votes it stands on, and how it was made."""

    value: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            raise StudyError(f"a rate must be finite; got {self.value}, [{self.low}, {self.high}]")

    @property
    def verdict(self) -> Literal["preferred", "not preferred", "not told apart"]:
        """Whether the interval excludes one half, and on which side."""
        if self.low > 0.5:
            return "preferred"
        return "not preferred" if self.high < 0.5 else "not told apart"

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def between(votes: Iterable[Vote], arm: str, other: str) -> list[Vote]:
    """The votes on these two arms, turned so that `arm` is x."""
    turned = []
    for vote in votes:
        if (vote.arm_x, vote.arm_y) == (arm, other):
            turned.append(vote)
        elif (vote.arm_x, vote.arm_y) == (other, arm):
            turned.append(vote.swapped())
    return turned


def arms_of(votes: Iterable[Vote]) -> tuple[str, ...]:
    """All arms in these votes, sorted by name."""
    return tuple(sorted({arm for vote in votes for arm in (vote.arm_x, vote.arm_y)}))


K = TypeVar("K")


def codes(keys: Sequence[K]) -> tuple[list[int], int]:
    """Each key as a number, in order of first appearance, and how many different ones there are."""
    seen: dict[K, int] = {}
    return [seen.setdefault(key, len(seen)) for key in keys], len(seen)
