"""Which members of an ensemble count at which step, and with what weight. No torch.

Step i of N, from 0, lies at the share i / N of the trajectory. A member counts where start ≤ i / N < stop.
(Diffusers' own guiders leave out a step that lies exactly at `start`.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from calibri.errors import RenderError

if TYPE_CHECKING:
    from calibri.calibration.artifact import Member


def counts_at(member: Member, step: int, steps: int) -> bool:
    """Whether a member counts at a step, from 0, of so many."""
    # 0.07 · 100 is a little above 7, and step 7 is to count.
    first, end = (math.ceil(share * steps - 1e-9) for share in (member.start, member.stop))
    return first <= step < end


def weights_at(members: Sequence[Member], step: int, steps: int) -> list[float]:
    """The weight of each member at a step, from 0, of so many; 0 where it does not count.

    What balanced members weigh is taken from the first positive member that is not balanced.
    """
    weights = [member.weight if counts_at(member, step, steps) else 0.0 for member in members]
    taken = sum(weight for member, weight in zip(members, weights, strict=True) if member.balanced)
    if taken:
        weights[find_payer(members)] -= taken
    return weights


def weights_by_step(members: Sequence[Member], steps: int) -> np.ndarray:
    """(K, steps) float64. Raises RenderError where at some step no member counts."""
    table = np.array([weights_at(members, step, steps) for step in range(steps)], dtype=np.float64).T
    empty = np.flatnonzero(~table.any(axis=0))
    if len(empty) == steps:
        raise RenderError("all members have weight 0: there is nothing to render")
    if len(empty):
        raise RenderError(
            f"at step {empty[0] + 1} of {steps} no member counts: expected one with a weight other than 0 in "
            "every part of the trajectory"
        )
    return table


def find_payer(members: Sequence[Member]) -> int:
    """The place of the first positive member that is not balanced; -1 for none."""
    places = (i for i, m in enumerate(members) if m.condition == "positive" and not m.balanced)
    return next(places, -1)


def vary(members: Sequence[Member]) -> bool:
    """Whether weights depend on the step: some member is balanced or counts in a part of the steps."""
    return any(member.has_phase or member.balanced for member in members)


def counting_at(members: Sequence[Member], step: int, steps: int) -> list[tuple[int, float]]:
    """(place, weight) of each member that counts at a step, from 0. Raises RenderError for none."""
    found = [(i, weight) for i, weight in enumerate(weights_at(members, step, steps)) if weight != 0]
    if not found:
        raise RenderError(f"at step {step + 1} of {steps} no member of this calibration counts")
    return found


def count_evaluations(members: Sequence[Member], steps: int) -> int:
    """NFE: how often the transformer is evaluated for one picture."""
    if not vary(members):
        return steps * sum(member.weight != 0 for member in members)
    return int(np.count_nonzero(weights_by_step(members, steps)))


def describe_phase(member: Member) -> str:
    """`1–20 % of the steps`, `balanced`; empty for a member that always counts with its own weight."""
    words = []
    if member.has_phase:
        words.append(f"{100 * member.start:g}–{100 * member.stop:g} % of the steps")
    if member.balanced:
        words.append("balanced")
    return ", ".join(words)
