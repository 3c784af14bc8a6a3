"""The searched vector ↔ members: which number is which, its bounds, and where a search starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibri.calibration.artifact import Calibration, Condition, Member
from calibri.calibration.phases import vary
from calibri.errors import SearchError

if TYPE_CHECKING:
    from calibri.backbones.layouts import Layout
    from calibri.search.config import MemberRole, SearchConfig
    from calibri.search.strategy import StrategySettings


@dataclass(frozen=True)
class SearchSpace:
    """`[scales of the searched members, weights of all K if searched]` for one layout.

    `names`: of the layout's scales, in order. `conditions`: of the K members. `weights`: at the start, kept
    where `search_weights` is false. `roles`: of the K members, or none where all are searched. `held`: scales
    of the members at the start, where some are held.
    """

    names: tuple[str, ...]
    conditions: tuple[Condition, ...]
    weights: tuple[float, ...]
    search_weights: bool
    roles: tuple[MemberRole, ...] = ()
    held: tuple[tuple[float, ...], ...] | None = None

    @classmethod
    def of(cls, config: SearchConfig, layout: Layout) -> SearchSpace:
        return cls.named(config, tuple(layout.names))

    @classmethod
    def named(cls, config: SearchConfig, names: tuple[str, ...]) -> SearchSpace:
        """Of scales with these names."""
        return cls(
            names, config.conditions, config.weights, config.search_weights, config.roles, config.start
        )

    @property
    def searched(self) -> tuple[int, ...]:
        """The places of the members whose scales are searched."""
        kinds = [role.scales for role in self.roles] or ["searched"] * len(self.conditions)
        return tuple(k for k, kind in enumerate(kinds) if kind == "searched")

    @property
    def n_scales(self) -> int:
        """Searched scales of all members together."""
        return len(self.names) * len(self.searched)

    @property
    def size(self) -> int:
        """Searched numbers."""
        return self.n_scales + (len(self.conditions) if self.search_weights else 0)

    @property
    def labels(self) -> list[str]:
        """A name for each searched number: the scale's, with the member's number in front if there are
        several.
        """
        if len(self.conditions) == 1:
            labels = list(self.names)
        else:
            labels = [f"{k + 1}: {name}" for k in self.searched for name in self.names]
        if self.search_weights:
            labels += [f"{k + 1}: weight" for k in range(len(self.conditions))]
        return labels

    def encode(self, members: Sequence[Member]) -> np.ndarray:
        """Members → (size,) float64. Raises SearchError if they do not have this shape."""
        found = tuple(member.condition for member in members)
        if found != self.conditions:
            raise SearchError(
                f"expected members {', '.join(self.conditions)}, got {', '.join(found) or 'none'}"
            )
        for k, member in enumerate(members):
            if len(member.scales) != len(self.names):
                raise SearchError(
                    f"member {k + 1} has {len(member.scales)} scales, expected {len(self.names)}"
                )
        flat = [scale for k in self.searched for scale in members[k].scales]
        if self.search_weights:
            flat += [member.weight for member in members]
        return np.array(flat, dtype=np.float64)

    def decode(self, vector: np.ndarray) -> tuple[Member, ...]:
        """(size,) → members. Raises SearchError for another length or a number that is not finite."""
        values = np.asarray(vector, dtype=np.float64)
        if values.shape != (self.size,):
            raise SearchError(f"expected {self.size} numbers, got shape {values.shape}")
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise SearchError(f"{self.labels[where]} is {values[where]}, expected a finite number")
        rows = values[: self.n_scales].reshape(len(self.searched), len(self.names)).tolist()
        weights = values[self.n_scales :].tolist() if self.search_weights else self.weights
        scales = dict(zip(self.searched, map(tuple, rows), strict=True))
        return tuple(
            Member(
                scales=scales[k] if k in scales else self._given(k, scales[0]),
                weight=float(weight),
                condition=condition,
                **(self.roles[k].placed if self.roles else {}),
            )
            for k, (weight, condition) in enumerate(zip(weights, self.conditions, strict=True))
        )

    def _given(self, k: int, first: tuple[float, ...]) -> tuple[float, ...]:
        """The scales of a member that is not searched."""
        role = self.roles[k]
        if role.scales == "first":
            skipped = set(role.without)
            return tuple(0.0 if name in skipped else s for name, s in zip(self.names, first, strict=True))
        return self.held[k] if self.held is not None else (1.0,) * len(self.names)

    def settings(self, config: SearchConfig) -> StrategySettings:
        """What the optimiser needs. Raises SearchError where start and bounds do not fit."""
        from calibri.search.strategy import StrategySettings

        k, per = len(self.conditions), len(self.names)
        start = np.ones((k, per)) if config.start is None else np.array(config.start, dtype=np.float64)
        if start.shape != (k, per):
            raise SearchError(f"the start has shape {start.shape}, expected {(k, per)}: members × scales")
        extra = k if self.search_weights else 0
        start = start[list(self.searched)]
        scales = start.size
        return StrategySettings(
            start=np.concatenate([start.reshape(-1), np.array(self.weights[:extra])]),
            lower=np.concatenate(
                [np.full(scales, config.bounds[0]), np.full(extra, config.weight_bounds[0])]
            ),
            upper=np.concatenate(
                [np.full(scales, config.bounds[1]), np.full(extra, config.weight_bounds[1])]
            ),
            steps=np.concatenate([np.full(scales, config.sigma0), np.full(extra, config.weight_sigma)]),
            seed=config.seed,
            popsize=config.popsize,
            mirrors=config.mirrors,
            mean_rate=config.mean_rate,
            step_limit=config.step_limit,
        )


@dataclass(frozen=True)
class Start:
    """Where a search begins, as the fields of SearchConfig want it."""

    conditions: tuple[Condition, ...]
    weights: tuple[float, ...]
    scales: tuple[tuple[float, ...], ...] | None
    words: str
    roles: tuple[MemberRole, ...] = ()


def plain_start(members: int = 1, negatives: int = 0) -> Start:
    """All scales one, weights (1, 0, …): the base itself. The last `negatives` members see the negative
    prompt.
    """
    if not 1 <= members <= 3:
        raise SearchError(f"a search joins 1 to 3 members, got {members}")
    if not 0 <= negatives < members:
        raise SearchError(f"{members} members can hold 0 to {members - 1} negative ones, got {negatives}")
    positive: Condition = "positive"
    negative: Condition = "negative"
    conditions = (positive,) * (members - negatives) + (negative,) * negatives
    return Start(conditions, (1.0,) + (0.0,) * (members - 1), None, "base")


def guidance_start(strength: float) -> Start:
    """Classifier-free guidance: a positive member with weight g and a negative one with 1 − g, all scales
    one.
    """
    return Start(
        ("positive", "negative"), (float(strength), 1.0 - float(strength)), None, f"guidance {strength:g}"
    )


def calibration_start(
    calibration: Calibration, layout: Layout, bounds: tuple[float, float], words: str
) -> Start:
    """From a saved calibration, at another granularity too; scales outside `bounds` move to the nearest one
    inside.

    Raises LayoutError if the calibration's scales do not fit the backbone.
    """
    members = calibration.on_layout(layout).members
    roles = _roles_of(members, layout.names)
    searched = [role.scales == "searched" for role in roles] or [True] * len(members)
    scales = tuple(
        tuple(float(np.clip(s, *bounds)) for s in member.scales) if inside else member.scales
        for member, inside in zip(members, searched, strict=True)
    )
    return Start(
        tuple(member.condition for member in members),
        tuple(member.weight for member in members),
        scales,
        words,
        roles,
    )


def _roles_of(members: Sequence[Member], names: Sequence[str]) -> tuple[MemberRole, ...]:
    """What members do that guide, or count in a part of the steps; none where there are no such.

    A balanced member guides: it follows the first one where it differs by blocks left out alone, and else
    keeps its scales. Raises SearchError where the first member itself is one of these.
    """
    from calibri.search.config import MemberRole

    if not vary(members):
        return ()
    first = members[0]
    if first.balanced:
        raise SearchError("the first member of a search must have a weight of its own: put it first")
    roles = []
    for member in members:
        pairs = list(zip(names, member.scales, first.scales, strict=True))
        without = tuple(name for name, own, firsts in pairs if own == 0 != firsts)
        follows = all(own == firsts for name, own, firsts in pairs if name not in without)
        role = MemberRole(start=member.start, stop=member.stop, balanced=member.balanced)
        if member.balanced and follows:
            role = role.model_copy(update={"scales": "first", "without": without})
        elif member.balanced:
            role = role.model_copy(update={"scales": "held"})
        roles.append(role)
    return tuple(roles)


def grown_start(start: Start, condition: Condition = "positive") -> Start:
    """One more member of weight 0 beside those of `start`, with the first member's scales: the same
    pictures.
    """
    if len(start.conditions) >= 3:
        raise SearchError("a search joins at most 3 members")
    scales = None if start.scales is None else (*start.scales, start.scales[0])
    roles = start.roles
    if roles:
        from calibri.search.config import MemberRole

        roles = (*roles, MemberRole())
    return Start((*start.conditions, condition), (*start.weights, 0.0), scales, start.words, roles)


def phase_start(start: Start, switches: Sequence[float]) -> Start:
    """`start` with its first member once for each phase of the trajectory, which `switches` part, as rising
    shares in (0, 1): the same pictures. Each step evaluates as many members as before.

    Raises SearchError for other shares, for more than 3 phases, and where members have phases already.
    """
    from calibri.search.config import MemberRole

    ends = [0.0, *map(float, switches), 1.0]
    if not 1 <= len(switches) <= 2 or any(not a < b for a, b in itertools.pairwise(ends)):
        raise SearchError(
            "phases: expected one or two rising shares of the trajectory between 0 and 1, such as 0.5, got "
            + (", ".join(f"{share:g}" for share in switches) or "none")
        )
    if start.roles:
        raise SearchError("phases: expected a start whose members count at every step, got one with phases")
    count = len(switches)
    spans = [MemberRole(start=a, stop=b) for a, b in itertools.pairwise(ends)]
    scales = None if start.scales is None else (start.scales[0],) * count + start.scales
    return Start(
        (start.conditions[0],) * count + start.conditions,
        (start.weights[0],) * count + start.weights,
        scales,
        f"{start.words}, in {count + 1} phases",
        (*spans, *(MemberRole() for _ in start.conditions[1:])),
    )


def ensemble_start(start: Start, conditions: tuple[str, ...]) -> Start:
    """`start` with members of weight 0 added until they have these conditions: the same pictures as `start`.

    Raises SearchError for 1 or more than 3 members, or if `start`'s own members are not among them in order.
    """
    if not 2 <= len(conditions) <= 3:
        raise SearchError(f"an ensemble has 2 or 3 members, got {len(conditions)}")
    known: dict[str, Condition] = {"positive": "positive", "negative": "negative"}
    unknown = [c for c in conditions if c not in known]
    if unknown:
        raise SearchError(f"a member's condition is positive or negative, got {unknown[0]!r}")
    have = len(start.conditions)
    if start.conditions != conditions[:have]:
        raise SearchError(
            f"the start's members are {', '.join(start.conditions)}; "
            f"they must come first in {', '.join(conditions)}"
        )
    for condition in conditions[have:]:
        start = grown_start(start, known[condition])
    return start
