"""The mixing desk without its page: vectors of scales, what changes them, undo and redo. No Gradio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.phases import find_payer
from calibri.calibration.scale_names import HIGHEST, LOWEST, parse_names
from calibri.errors import LayoutError

NEUTRAL = 1.0
HEAVIEST = 20.0  # of a member's output weight, either way
MOST_MEMBERS = 8
HISTORY = 100
MOST_KEPT = 2 * HISTORY  # different members in it: whole ensembles in turn would take 6 MB

Vector = tuple[float, ...]
State = tuple[tuple[Member, ...], int]  # the members, and which of them is in hand


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a page sent a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_scales(values: Iterable[object], layout: Layout) -> Vector:
    """Numbers that a page sent as a vector of this layout. Raises LayoutError with the first wrong one."""
    vector: list[float] = []
    for name, value in zip(layout.names, given := list(values)):
        if not is_number(value) or not LOWEST <= value <= HIGHEST:
            raise LayoutError(f"{name}: expected a scale from {LOWEST:g} to {HIGHEST:g}, got {value!r}.")
        vector.append(float(value))
    if len(given) != len(layout.names):
        raise LayoutError(f"Expected {len(layout.names)} scales for this layout, got {len(given)}.")
    return tuple(vector)


@dataclass(frozen=True)
class Desk:
    """A layout, its members, the one in hand, and the states before and after. A change makes a new desk.

    `at`: the place of the member whose vector the sliders show.
    """

    layout: Layout
    members: tuple[Member, ...]
    at: int = 0
    past: tuple[State, ...] = ()
    future: tuple[State, ...] = ()

    @classmethod
    def neutral(cls, layout: Layout) -> Desk:
        return cls(layout, (Member(scales=(NEUTRAL,) * len(layout.names)),))

    @property
    def member(self) -> Member:
        """The member in hand."""
        return self.members[self.at]

    @property
    def values(self) -> Vector:
        """The vector of the member in hand, (n_scales,)."""
        return self.member.scales

    @property
    def is_ensemble(self) -> bool:
        return len(self.members) > 1

    def calibration(self, backbone: str, title: str = "Your desk") -> Calibration:
        """The desk as a calibration, with all its members."""
        return Calibration(
            title=title,
            backbone=backbone,
            granularity=self.layout.granularity,
            names=self.layout.names,
            members=self.members,
            found={"by": "hand, on the mixing desk"},
        )

    # the vector in hand

    def set(self, values: Sequence[float]) -> Desk:
        """All scales at once. The same values again are no step of the history."""
        return self._with(scales=check_scales(values, self.layout))

    def reset(self) -> Desk:
        """Every scale back to 1."""
        return self.set((NEUTRAL,) * len(self.values))

    def strengthen(self, factor: float) -> Desk:
        """The distance of every scale from 1, times `factor`: 0.5 halves the calibration, -1 mirrors it."""
        return self.set([NEUTRAL + factor * (v - NEUTRAL) for v in self.values])

    def blend(self, other: Sequence[float], share: float) -> Desk:
        """`share` of `other` (0: this vector, 1: the other) with the rest of this vector."""
        target = check_scales(other, self.layout)
        return self.set([v + share * (o - v) for v, o in zip(self.values, target)])

    # members

    def choose(self, at: int) -> Desk:
        """Take another member in hand: no step of the history. Raises LayoutError where there is none."""
        if not 0 <= at < len(self.members):
            raise LayoutError(f"Expected one of {len(self.members)} members, got member {at + 1}.")
        return replace(self, at=at)

    def weigh(self, weight: object) -> Desk:
        """The output weight of the member in hand. Raises LayoutError for what is no weight."""
        if not is_number(weight) or abs(weight) > HEAVIEST:
            raise LayoutError(f"Expected a weight from −{HEAVIEST:g} to {HEAVIEST:g}, got {weight!r}.")
        return self._with(weight=float(weight))

    def condition(self, condition: object) -> Desk:
        """What the member in hand sees: the prompt (`positive`) or the negative prompt (`negative`)."""
        if condition not in ("positive", "negative"):
            raise LayoutError(f"Expected a member that is positive or negative, got {condition!r}.")
        return self._with(condition=condition)

    def place(self, start: object, stop: object) -> Desk:
        """Between which shares of the trajectory the member in hand counts. Raises LayoutError."""
        if not is_number(start) or not is_number(stop) or not 0 <= start < stop <= 1:
            raise LayoutError(
                f"Expected shares of the steps from 0 to 1, start before stop, got {start!r} and {stop!r}."
            )
        return self._with(start=float(start), stop=float(stop))

    def balance(self, balanced: object) -> Desk:
        """Whether the weight of the member in hand is taken from the first positive one."""
        if not isinstance(balanced, bool):
            raise LayoutError(f"Expected a member that is balanced or not, got {balanced!r}.")
        return self._with(balanced=balanced)

    def guide(self, members: Sequence[Member]) -> Desk:
        """These members, of which the last one guides those before it: it is in hand."""
        for member in members:
            check_scales(member.scales, self.layout)
        return self._step(tuple(members), len(members) - 1)

    def add(self, members: Sequence[Member]) -> Desk:
        """More members after those that are there; the first of them is in hand."""
        for member in members:
            check_scales(member.scales, self.layout)
        return self._step((*self.members, *members), len(self.members))

    def remove(self) -> Desk:
        """The desk without the member in hand. Raises LayoutError for the last one."""
        if not self.is_ensemble:
            raise LayoutError("The last member cannot be removed: the desk would have no scales.")
        rest = self.members[: self.at] + self.members[self.at + 1 :]
        return self._step(rest, min(self.at, len(rest) - 1))

    def hold(self, members: Sequence[Member]) -> Desk:
        """These members in place of those that are there. The first positive one is in hand."""
        for member in members:
            check_scales(member.scales, self.layout)
        at = next((i for i, m in enumerate(members) if m.condition == "positive"), 0)
        return self._step(tuple(members), at)

    def _with(self, **changes: object) -> Desk:
        made = self.member.model_copy(update=changes)
        return self._step((*self.members[: self.at], made, *self.members[self.at + 1 :]), self.at)

    def _step(self, members: tuple[Member, ...], at: int) -> Desk:
        if not 1 <= len(members) <= MOST_MEMBERS:
            raise LayoutError(f"Expected 1 to {MOST_MEMBERS} members, got {len(members)}.")
        if any(member.balanced for member in members) and find_payer(members) < 0:
            raise LayoutError(
                "A balanced member takes its weight from a positive one that is not balanced: one must stay."
            )
        if members == self.members:
            return replace(self, at=at)
        past = (*self.past, (self.members, self.at))[-HISTORY:]
        while len({id(member) for state, _ in past for member in state}) > MOST_KEPT:
            past = past[1:]
        return replace(self, members=members, at=at, past=past, future=())

    # back and forth

    def undo(self) -> Desk:
        if not self.past:
            return self
        (members, at), now = self.past[-1], (self.members, self.at)
        return replace(self, members=members, at=at, past=self.past[:-1], future=(now, *self.future))

    def redo(self) -> Desk:
        if not self.future:
            return self
        (members, at), now = self.future[0], (self.members, self.at)
        return replace(self, members=members, at=at, past=(*self.past, now), future=self.future[1:])

    def convert(self, layout: Layout) -> Desk:
        """These members at another granularity of the same backbone; the history starts anew."""
        if layout == self.layout:
            return self
        vectors = [tuple(map(float, self.layout.convert(m.scales, layout))) for m in self.members]
        members = [m.model_copy(update={"scales": vector}) for m, vector in zip(self.members, vectors)]
        return Desk(layout, tuple(members), self.at)


def list_strips(layout: Layout) -> list[dict[str, str]]:
    """What the desk's script needs of each scale, in order of depth."""
    made = []
    for scale in parse_names(layout.names):
        tag = {"fused": "all", "block": "all"}.get(scale.layer, scale.layer)
        if scale.layer == "lora":  # the group says whose, the tag in which block
            tag = scale.name.removeprefix(f"{scale.group}.")
        made.append({**scale._asdict(), "tag": tag if scale.stream == "joint" else f"{scale.stream} {tag}"})
    return made
