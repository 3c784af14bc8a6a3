"""Quick votes: one person at the studio votes blind on pictures that they have just rendered.

They go into a study of their own for each backbone, which is always open, so a single user gets a win rate
with an interval in minutes. Its arms and pairs are made as they come.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from calibri.errors import StudyError
from calibri.words import slug
from studio.studies.protocol import QUICK
from studio.studies.results.analysis import Analysis
from studio.studies.storage.study_store import Study, StudyArm, StudyPair, now
from studio.studies.studies import Studies
from studio.studies.voting.identity import Who

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Contender:
    """One arm with its picture. All contenders of one vote share prompt, seed and size.

    `arm`: as it was asked for; `offer` gives it its id, study, backbone and place.
    """

    arm: StudyArm
    image: Image

    @classmethod
    def of(cls, image: Image, **arm: Any) -> Contender:
        """From the fields of a StudyArm that are known before the vote."""
        return cls(StudyArm(id="", study="", backbone="", **arm), image)


@dataclass(frozen=True)
class Offer:
    """Two pictures to choose from. Only the server knows which is which until the vote."""

    study: str
    token: str
    left: Image
    right: Image


@dataclass(frozen=True)
class Reveal:
    """After the vote: which arm was on which side."""

    left: str
    right: str
    winner: str


def open_quick_study(studies: Studies, backbone: str) -> Study:
    """The open study of quick votes on this backbone: made at first use and where the last one was archived,
    and opened again where it was closed.
    """
    found = _find_current(studies, backbone)
    if found is None:
        number = 1 + len(_find_all(studies, backbone))
        name = f"Quick votes on {backbone}" + (f" ({number})" if number > 1 else "")
        found = Study(
            f"quick-{slug(backbone, 'study')}-{number}", name, QUICK, secrets.randbelow(2**31), "draft", now()
        )
        studies.store.add(found, [], [])
    return found if found.status == "open" else studies.set_status(found.id, "open")


def _find_all(studies: Studies, backbone: str) -> list[Study]:
    # Ids of earlier versions may have several hyphens before the number.
    ours = re.compile(rf"quick-{re.escape(slug(backbone, 'study'))}-+\d+")
    return [s for s in studies.store.all() if ours.fullmatch(s.id)]


def _find_current(studies: Studies, backbone: str) -> Study | None:
    return next((s for s in _find_all(studies, backbone) if s.status != "archived"), None)


def offer(
    studies: Studies, visitor: str, backbone: str, prompt: str, seed: int, contenders: Sequence[Contender]
) -> Offer:
    """Choose two of the contenders (those that met least often), toss their sides and issue the showing.

    Raises StudyError for fewer than two contenders, for one arm twice and for pictures of different sizes.
    """
    if len({c.image.size for c in contenders}) > 1:
        raise StudyError("The pictures have different sizes, which would tell them apart.")
    first, second = choose_two(studies, backbone, [c.arm for c in contenders])
    study = open_quick_study(studies, backbone)
    arms = [name_arm(study.id, backbone, c.arm) for c in contenders]
    x, y = arms[first], arms[second]
    pair = StudyPair(
        id=f"{study.id}:{secrets.token_hex(8)}",
        study=study.id,
        prompt=prompt,
        seed=seed,
        arm_x=x.id,
        arm_y=y.id,
        image_x=studies.images.put(contenders[arms.index(x)].image),
        image_y=studies.images.put(contenders[arms.index(y)].image),
    )
    studies.store.add_arms([x, y])
    who = Who("local", visitor)
    studies.voting.consent(study.id, who)
    token = studies.voting.show(study.id, who, pair)
    [(left_is_x,)] = studies.db.read("SELECT left_is_x FROM assignments WHERE token = ?", [token])
    left, right = (x, y) if left_is_x else (y, x)
    pictures = {arm.id: c.image for arm, c in zip(arms, contenders)}
    return Offer(study.id, token, pictures[left.id], pictures[right.id])


def vote(studies: Studies, visitor: str, study: str, token: str, side: str) -> Reveal:
    """Cast the vote and reveal the arms. Raises Refused as `Voting.cast` does."""
    studies.voting.cast(study, Who("local", visitor), token, {QUICK.questions[0].id: side})
    [(x, y, left_is_x, winner)] = studies.db.read(
        "SELECT x.label, y.label, a.left_is_x, v.winner FROM votes v JOIN assignments a USING (token) "
        "JOIN pairs p ON p.id = v.pair JOIN arms x ON x.id = p.arm_x JOIN arms y ON y.id = p.arm_y "
        "WHERE v.token = ?",
        [token],
    )
    left, right = (x, y) if left_is_x else (y, x)
    return Reveal(left, right, x if winner == "x" else y if winner == "y" else winner)


def analyse_votes(studies: Studies, backbone: str) -> Analysis | None:
    """The results of all quick votes on this backbone; None before the first."""
    found = _find_current(studies, backbone)
    return studies.analysis(found.id) if found is not None else None


def _label(arm: StudyArm) -> str:
    """A readable label that differs for different calibrations with one title, and for different settings.
    Searches write their rewards behind the first comma of a title: they are left out.
    """
    name = arm.label.partition(",")[0][:40].strip() or arm.kind
    mark = f" #{arm.calibration_hash[:4]}" if arm.calibration_hash else ""
    said = [f"{arm.steps} steps"]
    said += [f"guidance {arm.guidance:g}"] if arm.guidance != 1 else []
    said += [f"embedded guidance {arm.embedded:g}"] if arm.embedded is not None else []
    said += [f"LoRA {arm.loras}"] if arm.loras else []
    said += [f"against “{arm.negative}”"] if arm.negative else []
    return ", ".join([f"{name}{mark}", *said])


def name_arm(study: str, backbone: str, arm: StudyArm) -> StudyArm:
    """The arm as this study of quick votes knows it: by what it renders. The same calibration with other
    steps is another arm."""
    place = ("base", "calibrated", "ensemble").index(arm.kind)
    known = hashlib.sha256(f"{arm.kind}:{arm.calibration_hash}:{arm.settings}".encode()).hexdigest()[:16]
    return replace(arm, id=f"{study}:{known}", study=study, backbone=backbone, place=place, label=_label(arm))


def choose_two(
    studies: Studies, backbone: str, arms: Sequence[StudyArm], on_screen: Sequence[int] = ()
) -> tuple[int, int]:
    """The places of the two arms that met least often, by chance where several did. `on_screen`: the places
    of two that meet just now.

    Raises StudyError for fewer than two arms and for one arm twice.
    """
    if len(arms) < 2:
        raise StudyError("A vote needs two pictures. Choose a second arm that can be rendered.")
    study = open_quick_study(studies, backbone)
    ids = [name_arm(study.id, backbone, arm).id for arm in arms]
    if len(set(ids)) < len(ids):
        raise StudyError("Two of the arms are the same. Choose different ones.")
    rows = studies.db.read(
        "SELECT p.arm_x, p.arm_y, count(*) FROM votes v JOIN pairs p ON p.id = v.pair "
        "WHERE p.study = ? GROUP BY 1, 2",
        [study.id],
    )
    met: Counter[frozenset[str]] = Counter()
    for x, y, votes in rows:
        met[frozenset((x, y))] += votes
    if on_screen:
        met[frozenset(ids[place] for place in on_screen)] += 1
    pairs = list(combinations(range(len(arms)), 2))
    least = min(met[frozenset((ids[i], ids[j]))] for i, j in pairs)
    return secrets.choice([(i, j) for i, j in pairs if met[frozenset((ids[i], ids[j]))] == least])
