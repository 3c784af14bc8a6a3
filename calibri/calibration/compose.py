"""Several calibrations as one. No torch.

With scales s_i of n calibrations and weights w_i, each scale of the result is

    blend    Σ w_i · s_i / Σ w_i          weights 1 give the mean
    product  Π |s_i|^w_i, with the sign of Π s_i   one after the other; a mean of logarithms when Σ w_i = 1

A product with all weights 1 is what one gets by folding one calibration after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import ArtifactError
from calibri.words import count

Way = Literal["blend", "product"]
WAYS: tuple[Way, ...] = get_args(Way)
MOST_PARTS = 32


def compose(
    parts: Sequence[Calibration],
    weights: Sequence[float] | None = None,
    way: Way = "blend",
    *,
    layout: Layout | None = None,
) -> Calibration:
    """One calibration of several of one backbone. `weights`: one for each, 1 where none are given.

    `layout`: of the granularity that the result gets, which parts of other granularities are brought to; it
    may be left out where all have the same one. Ensembles need the same number of members with the same
    conditions; their output weights are blended, or, in a product, those of the first.

    Raises ArtifactError for fewer than two parts, other numbers of weights, weights that are not finite or
    whose sum is 0 in a blend, and parts that do not fit together; LayoutError for names of another backbone.
    """
    if way not in WAYS:
        raise ArtifactError(f"expected {' or '.join(WAYS)}, got {way!r}")
    if not 2 <= len(parts) <= MOST_PARTS:
        raise ArtifactError(f"expected 2 to {MOST_PARTS} calibrations, got {len(parts)}")
    shares = _check_weights(parts, weights, way)
    if layout is not None:
        parts = [part.on_layout(layout) for part in parts]
    first = parts[0]
    for part in parts[1:]:
        _check_alike(first, part)
    order = [[part.names.index(name) for name in first.names] for part in parts]
    members = []
    for number, member in enumerate(first.members):
        own = [part.members[number] for part in parts]
        stack = np.array([[m.scales[i] for i in places] for m, places in zip(own, order, strict=True)])
        heavy = [m.weight for m in own]
        members.append(
            Member(
                **{
                    **dict(member),
                    "scales": tuple(_mix(stack, shares, way).tolist()),
                    "weight": float(np.dot(shares, heavy) / shares.sum())
                    if way == "blend"
                    else member.weight,
                }
            )
        )
    titles = [part.title or "untitled" for part in parts]
    return Calibration(
        title=f"{' + ' if way == 'blend' else ' × '}".join(titles)[:300],
        backbone=first.backbone,
        granularity=first.granularity,
        names=first.names,
        members=tuple(members),
        found={
            "how": way,
            "of": [
                {"title": title, "hash": part.hash, "weight": float(share)}
                for title, part, share in zip(titles, parts, shares, strict=True)
            ],
        },
    )


def _mix(stack: np.ndarray, shares: np.ndarray, way: Way) -> np.ndarray:
    """(n_parts, n_scales) → (n_scales,)."""
    if way == "blend":
        return shares @ stack / shares.sum()
    with np.errstate(over="raise", divide="raise"):
        try:
            mixed = np.prod(np.abs(stack) ** shares[:, None], axis=0) * np.prod(np.sign(stack), axis=0)
        except FloatingPointError:
            raise ArtifactError("a scale of 0 has no power below 0, and a product must stay finite") from None
    return mixed


def _check_weights(parts: Sequence[Calibration], weights: Sequence[float] | None, way: Way) -> np.ndarray:
    given = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(parts):
        raise ArtifactError(f"expected {count(len(parts), 'weight')}, one for each, got {len(given)}")
    if not all(map(math.isfinite, given)):
        raise ArtifactError("weights: expected finite numbers")
    if way == "blend" and abs(sum(given)) < 1e-9:
        raise ArtifactError("weights: expected a sum other than 0, which a blend is divided by")
    return np.array(given)


def _check_alike(first: Calibration, part: Calibration) -> None:
    """Raises ArtifactError for what does not fit together."""
    name, other = first.title or "the first", part.title or "another"
    if first.backbone and part.backbone and first.backbone != part.backbone:
        raise ArtifactError(f"“{name}” is for {first.backbone}, “{other}” for {part.backbone}")
    if first.granularity != part.granularity:
        raise ArtifactError(
            f"“{name}” is at {first.granularity} granularity, “{other}” at {part.granularity}: name the "
            "granularity that both are brought to"
        )
    if set(first.names) != set(part.names):
        raise ArtifactError(f"“{name}” and “{other}” have scales of different names")
    phases = [[(m.start, m.stop, m.balanced) for m in each.members] for each in (first, part)]
    conditions = [[member.condition for member in each.members] for each in (first, part)]
    if conditions[0] == conditions[1] and phases[0] != phases[1]:
        raise ArtifactError(
            f"expected members that count in the same part of the steps, got others in “{name}” than in "
            f"“{other}”"
        )
    if conditions[0] != conditions[1]:
        raise ArtifactError(
            f"expected the same members in both: “{name}” has {', '.join(conditions[0])}, “{other}” has "
            f"{', '.join(conditions[1])}"
        )
