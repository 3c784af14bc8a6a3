"""Before a study: how many votes it needs, and what they cost in time and in pictures to render.

What votes have in common and how long one takes come from the finished studies of this data folder where
there are enough of them, else from defaults; the answer always says which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibri.errors import StudyError, sentence
from calibri.preference import (
    Likeness,
    NoData,
    Vote,
    VotePlan,
    arms_of,
    between,
    estimate_likeness,
    plan_votes,
)
from calibri.words import count
from studio.studies.planning import MOST_GOLD
from studio.studies.protocol import PRESETS, QUICK
from studio.studies.storage.study_store import Study
from studio.studies.storage.vote_store import as_vote
from studio.studies.studies import Studies

SECONDS = 8.0  # a vote, where nothing is known
AWAY = 120_000  # ms: whoever takes longer did something else meanwhile
FEWEST = 100  # votes below which an estimate is not used
USUAL = (52.0, 55.0, 60.0)  # per cent


class Wish(BaseModel):
    """What is to be told apart, and how the study is to be. None: as known from earlier studies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: tuple[float, ...] = Field(USUAL, min_length=1, max_length=20)
    """Per cent, above 50 and below 100."""
    power: float = Field(80, gt=5, lt=100)
    """Per cent."""
    arms: int = Field(2, ge=2, le=8)
    prompts: int | None = Field(None, ge=1, le=5000)
    """None: as many as it takes, with `raters_a_pair`; else raters are added to these."""
    seeds: int = Field(1, ge=1, le=100)
    raters_a_pair: int = Field(5, ge=1, le=1000)
    cap: int = Field(35, ge=1, le=10_000)
    """Pairs that one rater sees at most, checks included."""
    gold_rate: float = Field(0.1, ge=0, le=0.5)
    repeat_rate: float = Field(0.1, ge=0, le=0.5)
    prompt_icc: float | None = Field(None, ge=0, lt=1)
    rater_icc: float | None = Field(None, ge=0, lt=1)
    seconds: float | None = Field(None, gt=0, le=3600)


@dataclass(frozen=True)
class Experience:
    """What the finished studies of a data folder tell. None: too few votes. `votes`: what it stands on."""

    likeness: Likeness | None = None
    seconds: float | None = None
    votes: int = 0
    studies: int = 0


def read_wish(values: Mapping[str, Any]) -> Wish:
    """What somebody typed or sent. Raises StudyError that names the field."""
    try:
        wish = Wish.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise StudyError(sentence(error, "plan")) from None
    for share in wish.share:
        if not 50 < share < 100:
            raise StudyError(f"share: expected a share above 50 % and below 100 %, got {share:g}")
    return wish


def gather_experience(studies: Studies) -> Experience:
    """What this data folder's finished studies tell of how alike votes are and how long they take."""
    if studies.db.path is not None and not studies.db.path.exists():
        return Experience()
    known = [s for s in studies.store.all("closed", "archived") if s.protocol.preset != QUICK.preset]
    return weigh_votes((study, studies.votes.rows(study.id)) for study in known)


def weigh_votes(finished: Iterable[tuple[Study, Sequence[Mapping[str, Any]]]]) -> Experience:
    """Means over studies, questions and pairs of arms, weighted by their votes."""
    found: list[tuple[Likeness, int]] = []
    times: list[float] = []
    used = 0
    for study, rows in finished:
        votes = [as_vote(dict(row)) for row in rows if row["valid"] and row["kind"] == "real"]
        first = study.protocol.questions[0].id
        times += [v.response_ms for v in votes if v.question == first and v.response_ms is not None]
        found += _estimate_each(votes)
        used += bool(votes)
    votes_used = sum(n for _, n in found)
    likeness = None
    if votes_used >= FEWEST:
        prompts = sum(each.prompts * n for each, n in found) / votes_used
        raters = sum(each.raters * n for each, n in found) / votes_used
        likeness = Likeness(prompts, raters)
    at_work = [ms for ms in times if ms < AWAY]
    seconds = sum(at_work) / len(at_work) / 1000 if len(at_work) >= FEWEST else None
    return Experience(likeness, seconds, votes_used, used)


def _estimate_each(votes: Sequence[Vote]) -> list[tuple[Likeness, int]]:
    made = []
    for question in sorted({v.question for v in votes}):
        asked = [v for v in votes if v.question == question]
        arms = arms_of(asked)
        for number, arm in enumerate(arms):
            for other in arms[number + 1 :]:
                estimate = estimate_likeness(between(asked, arm, other))
                if not isinstance(estimate, NoData):
                    made.append(estimate)
    return made


def plan_study(wish: Wish, known: Experience) -> dict[str, Any]:
    """One row for each share, what was taken for granted and from where, and remarks in words."""
    likeness, seconds, assumed = _assume(wish, known)
    return {
        "power": wish.power,
        "plans": [_plan_one(wish, share, likeness, seconds) for share in wish.share],
        "assumed": assumed,
        "remarks": _remark(wish, known),
    }


def _assume(wish: Wish, known: Experience) -> tuple[Likeness, float, dict[str, Any]]:
    usual, found = Likeness(), known.likeness
    finished = count(known.studies, "finished study", "finished studies")
    from_votes = f"{count(known.votes, 'vote')} of {finished}"

    def choose(given: float | None, estimated: float | None, default: float) -> dict[str, Any]:
        if given is not None:
            return {"value": given, "from": "given"}
        if estimated is not None:
            return {"value": round(estimated, 4), "from": from_votes}
        return {"value": default, "from": "default"}

    assumed = {
        "prompt_icc": choose(wish.prompt_icc, found.prompts if found else None, usual.prompts),
        "rater_icc": choose(wish.rater_icc, found.raters if found else None, usual.raters),
        "seconds_a_vote": choose(wish.seconds, known.seconds, SECONDS),
    }
    likeness = Likeness(assumed["prompt_icc"]["value"], assumed["rater_icc"]["value"])
    return likeness, assumed["seconds_a_vote"]["value"], assumed


def _plan_one(wish: Wish, share: float, likeness: Likeness, seconds: float) -> dict[str, Any]:
    real = _share_of_real(wish)
    plan = plan_votes(
        share / 100,
        likeness,
        power=wish.power / 100,
        raters_a_pair=wish.raters_a_pair,
        pairs_a_rater=max(1, math.floor(wish.cap * real)),
        contests=math.comb(wish.arms, 2),
        seeds=wish.seeds,
        prompts=wish.prompts,
    )
    if isinstance(plan, NoData):
        return {"share": share, "votes": None, "why": plan.reason}
    showings = math.ceil(plan.all_votes / real)
    return {
        "share": share,
        "votes": plan.all_votes,
        "votes_a_pair_of_arms": plan.votes,
        "prompts": plan.prompts,
        "raters_a_pair": plan.raters_a_pair,
        "raters": plan.raters,
        "pictures": count_pictures(wish, plan),
        "minutes_a_rater": round(showings / plan.raters * seconds / 60, 1),
        "hours_in_all": round(showings * seconds / 3600, 1),
        "power": round(100 * plan.power, 1),
    }


def _share_of_real(wish: Wish) -> float:
    """Of the pairs that raters see: the others are checks, at least one tenth being real ones."""
    return max(0.1, 1 - wish.gold_rate - wish.repeat_rate)


def count_pictures(wish: Wish, plan: VotePlan) -> int:
    """Pictures to render, with two for each gold pair: see planning.plan."""
    real = plan.prompts * wish.seeds * math.comb(wish.arms, 2)
    seen = min(wish.cap, math.ceil(real / _share_of_real(wish)))
    gold = min(MOST_GOLD, math.ceil(seen * wish.gold_rate) + 2) if wish.gold_rate > 0 else 0
    return plan.prompts * wish.seeds * wish.arms + 2 * gold


def _remark(wish: Wish, known: Experience) -> list[str]:
    said = [
        f"A study of this size finds the better arm in {wish.power:g} of 100 cases: its 95 % interval, over "
        "prompts and raters, then lies above 50 %. Ties are taken as rare; with many, fewer votes do."
    ]
    if known.likeness is None:
        said.append(
            "How alike votes on one prompt and votes of one rater are is a default: no finished study here "
            f"has {FEWEST} votes to estimate it from."
        )
    if wish.arms > 2:
        said.append(f"Votes are for all {math.comb(wish.arms, 2)} pairs of arms together.")
    return said


def wish_of_preset(name: str) -> dict[str, Any]:
    """The fields of a Wish that a preset of the protocol sets. Raises StudyError."""
    if name not in PRESETS:
        raise StudyError(f"Unknown preset {name!r}; known: {', '.join(PRESETS)}.")
    chosen = PRESETS[name]
    fields = {name: getattr(chosen, name) for name in ("cap", "gold_rate", "repeat_rate")}
    return {**fields, "raters_a_pair": chosen.votes_per_pair or Wish().raters_a_pair}
