"""All calibrations over all quick votes: one list for each backbone, from the votes of its quick studies.

Bradley–Terry as in studies. Only arms that votes connect are compared; groups that never met stand apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from calibri.preference import NoData, Strengths, Vote, bradley_terry, find_groups
from studio.studies.protocol import QUICK
from studio.studies.storage.study_store import StudyArm
from studio.studies.storage.vote_store import as_vote

if TYPE_CHECKING:
    from studio.calibrations import Entry
    from studio.studies.studies import Studies


@dataclass(frozen=True)
class Standing:
    """One arm of a group. `strength`: log odds with its interval, the mean of its group is 0. `kind`: decides
    its colour. `votes`: that count."""

    name: str
    kind: str
    strength: float
    low: float
    high: float
    votes: int
    wins: int
    ties: int


@dataclass(frozen=True)
class Group:
    """Arms that votes connect, the strongest first. `met`: pairs of them with a vote that counts."""

    standings: tuple[Standing, ...]
    votes: int
    met: int
    method: str

    @property
    def pairs(self) -> int:
        """Pairs of its arms, met or not."""
        return len(self.standings) * (len(self.standings) - 1) // 2


@dataclass(frozen=True)
class Board:
    """All that quick votes on one backbone say. `waiting`: saved calibrations without a vote that counts."""

    backbone: str
    groups: tuple[Group, ...]
    waiting: tuple[str, ...]
    votes: int


def list_backbones(studies: Studies) -> list[str]:
    """The backbones of all quick votes, by name."""
    quick = [study for study in studies.store.all() if study.protocol.preset == QUICK.preset]
    return sorted({arm.backbone for study in quick for arm in studies.store.arms(study.id)})


def make_board(studies: Studies, backbone: str, saved: Sequence[Entry] = ()) -> Board:
    """The board of one backbone. `saved`: calibrations of it, by whose titles arms are called."""
    arms, votes = _collect(studies, backbone)
    names = _name_arms(list(arms.values()), {e.calibration.hash: e.title for e in saved})
    called = [replace(v, arm_x=names[v.arm_x], arm_y=names[v.arm_y]) for v in votes]
    kinds: dict[str, str] = {names[key]: arm.kind for key, arm in arms.items()}
    counted = [v for v in called if v.score is not None]
    groups = [_fit(counted, group, kinds) for group in find_groups(counted)]
    there = {v for vote in votes if vote.score is not None for v in (vote.arm_x, vote.arm_y)}
    voted_on = {arms[key].calibration_hash for key in there}
    waiting = [entry.title for entry in saved if entry.calibration.hash not in voted_on]
    return Board(backbone, tuple(g for g in groups if g is not None), tuple(waiting), len(called))


def _collect(studies: Studies, backbone: str) -> tuple[dict[str, StudyArm], list[Vote]]:
    """Arms by what they render, and all valid votes on them, over all quick studies of this backbone."""
    arms: dict[str, StudyArm] = {}
    votes: list[Vote] = []
    for study in studies.store.all():
        if study.protocol.preset != QUICK.preset:
            continue
        mine = {arm.id: arm for arm in studies.store.arms(study.id) if arm.backbone == backbone}
        if not mine:
            continue
        known = {arm_id: arm_id.rpartition(":")[2] for arm_id in mine}
        arms |= {known[arm_id]: arm for arm_id, arm in mine.items()}
        pairs = {pair.id: pair for pair in studies.store.pairs(study.id)}
        for row in studies.votes.rows(study.id):
            pair = pairs.get(row["pair"])
            if row["valid"] and pair is not None and {pair.arm_x, pair.arm_y} <= set(known):
                called = {"arm_x": known[pair.arm_x], "arm_y": known[pair.arm_y]}
                votes.append(as_vote({**row, **called}))
    return arms, [v for v in votes if v.kind == "real"]


def _name_arms(arms: Sequence[StudyArm], titles: dict[str, str]) -> dict[str, str]:
    """What each arm is called: today's title of its calibration in the place of that of its first vote."""
    names: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for arm in arms:
        title = titles.get(arm.calibration_hash or "")
        mark = f"#{(arm.calibration_hash or '')[:4]}"
        head, _, rest = arm.label.partition(mark) if arm.calibration_hash else ("", "", arm.label)
        name = f"{title.partition(',')[0].strip()} {mark}{rest}" if title and head else arm.label
        taken[name] += 1
        key = arm.id.rpartition(":")[2]
        names[key] = name if taken[name] == 1 else f"{name} ({taken[name]})"
    return names


def _fit(votes: Sequence[Vote], group: Sequence[str], kinds: dict[str, str]) -> Group | None:
    """The strengths of one group; None where nobody met."""
    inside = set(group)
    mine = [v for v in votes if v.arm_x in inside]
    fit = bradley_terry(mine, group, met_only=True)
    if isinstance(fit, NoData):
        return None
    return Group(_stand(fit, mine, kinds), fit.votes, _count_met(mine), fit.method)


def _stand(fit: Strengths, votes: Sequence[Vote], kinds: dict[str, str]) -> tuple[Standing, ...]:
    score: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        for arm, won in ((vote.arm_x, vote.winner == "x"), (vote.arm_y, vote.winner == "y")):
            score[arm].update({"votes": 1, "wins": int(won), "ties": int(vote.winner == "tie")})
    return tuple(
        Standing(
            s.arm,
            kinds[s.arm],
            s.value,
            s.low,
            s.high,
            score[s.arm]["votes"],
            score[s.arm]["wins"],
            score[s.arm]["ties"],
        )
        for s in fit.arms
    )


def _count_met(votes: Sequence[Vote]) -> int:
    return len({frozenset((v.arm_x, v.arm_y)) for v in votes})


def say_groups(board: Board) -> list[str]:
    """What a reader must know of the groups, in sentences."""
    said = []
    if not board.votes:
        return [f"Nobody has voted on pictures of {board.backbone} in Quick vote yet."]
    if len(board.groups) > 1:
        said.append(
            f"These are {len(board.groups)} groups that never met each other, directly or through others: a "
            "strength says nothing across groups. Vote on arms of two groups to join them."
        )
    if any(group.met < group.pairs for group in board.groups):
        said.append("Arms of a group that did not meet are compared through those that both met.")
    return said
