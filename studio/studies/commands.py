"""What an organiser can do without a page: one table of commands for the terminal and for a running studio.

Each takes the studies and plain values, and returns what JSON can hold or the path of a file that it wrote.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, validate_call

from calibri.assets import ASSETS
from calibri.errors import StudyError, sentence
from studio.calibrations import CalibrationStore
from studio.studies.planning import read_study
from studio.studies.results.analysis import Filter, read_votes
from studio.studies.results.board import list_backbones, make_board, say_groups
from studio.studies.results.scores import hung_pairs
from studio.studies.storage.invite_store import FIRST_NAMED, Invite, read_names
from studio.studies.storage.study_store import Status
from studio.studies.studies import Studies
from studio.studies.votes_needed import gather_experience, plan_study, read_wish, wish_of_preset
from studio.studies.voting.guests import State, name_state
from studio.studies.voting.identity import Who

Answer = dict[str, Any] | Path


def secret(studies_key: bytes) -> str:
    """The password of the running studio's organiser: whoever reads the data folder's key can make it."""
    return hmac.new(studies_key, b"organiser", hashlib.sha256).hexdigest()


def about(studies: Studies, study: str) -> dict[str, Any]:
    """One study and how far it is."""
    known = studies.store.get(study)
    rendering = studies.renders.progress(known.id)
    return {
        "id": known.id,
        "name": known.name,
        "status": known.status,
        "protocol": known.protocol.preset,
        "protocol_sha256": known.protocol.hash,
        "seed": known.seed,
        "arms": [a.label for a in studies.store.arms(known.id) if a.kind != "gold"],
        **vars(studies.store.progress(known)),
        "rendering": vars(rendering) if rendering else None,
    }


def _list(studies: Studies) -> dict[str, Any]:
    listed = {"studies": [about(studies, s.id) for s in studies.store.all()]}
    unreadable = [{"name": name, "why": why} for name, why in studies.store.unreadable()]
    return listed | ({"unreadable": unreadable} if unreadable else {})


def _create(studies: Studies, spec: dict[str, Any]) -> dict[str, Any]:
    return about(studies, studies.create(read_study(spec)).id)


def _plan(
    studies: Studies, preset: str = "side-by-side", wish: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a study with this preset, and what `wish` (votes_needed.Wish) says otherwise, needs."""
    asked = read_wish({**wish_of_preset(preset), **{k: v for k, v in (wish or {}).items() if v is not None}})
    return plan_study(asked, gather_experience(studies))


def _render(studies: Studies, study: str, wait: bool = False) -> dict[str, Any]:
    known = studies.store.get(study)
    studies.renders.start(known.id)
    if wait:
        done = studies.renders.wait(known.id)
        if done is None or done.phase != "done":
            raise StudyError(f"The pictures are not all rendered: {done.error if done else 'stopped'}")
    return about(studies, known.id)


def _set_status(status: Status, studies: Studies, study: str) -> dict[str, Any]:
    studies.set_status(study, status)
    return about(studies, study)


def _invite(
    studies: Studies,
    study: str,
    count: Annotated[int, Field(ge=1, le=10_000)] = 1,
    first: Annotated[int, Field(ge=0, lt=FIRST_NAMED - 10_000)] = 1,
    page: str = "ballot",
    names: str = "",
) -> dict[str, Any]:
    known = studies.store.get(study)
    if names:
        made = studies.voting.guests.invites.add(known.id, read_names(names))
        return {"study": known.id, "links": [invite_link(studies, invite, page) for invite in made]}
    make = studies.voting.identities.make_invite
    links = [link(known.id, make(known.id, number), page) for number in range(first, first + count)]
    studies.invites.note(known.id, first + count - 1)
    return {"study": known.id, "links": links}


def invite_link(studies: Studies, invite: Invite, page: str = "ballot") -> str:
    """The link of a named invite, without the studio's address."""
    return link(invite.study, studies.voting.identities.make_invite(invite.study, invite.number), page)


def list_invited(studies: Studies, study: str) -> list[tuple[Invite, State, int]]:
    """Each named invite of a study, how far the person came, and the pairs that they voted on."""
    votes = {row["id"]: int(row["done"]) for row in studies.store.count_by_rater(study)}
    found = []
    for invite in studies.voting.guests.invites.all(study):
        rater = studies.voting.identities.hash_rater(study, Who("invite", str(invite.rater)))
        done = votes.get(rater, 0)
        found.append((invite, name_state(invite, done), done))
    return found


def _invited(studies: Studies, study: str, page: str = "ballot") -> dict[str, Any]:
    known = studies.store.get(study)
    rows = [
        {
            "name": invite.name,
            "number": invite.number,
            "state": state,
            "pairs_voted_on": done,
            "link": None if invite.taken_back else invite_link(studies, invite, page),
        }
        for invite, state, done in list_invited(studies, known.id)
    ]
    return {"study": known.id, "invited": rows}


def _take_back(studies: Studies, study: str, number: int, again: bool = False) -> dict[str, Any]:
    known, invites = studies.store.get(study), studies.voting.guests.invites
    if again:
        invites.make_again(known.id, number)
    else:
        invites.take_back(known.id, number)
    return _invited(studies, known.id)


def _invalidate(studies: Studies, vote: str, reason: str) -> dict[str, Any]:
    studies.votes.invalidate(vote, reason)
    return {"invalidated": vote}


def preview(studies: Studies, study: str) -> str:
    """The address at which an organiser sees what raters will see. Nothing is stored."""
    known = studies.store.get(study)
    return f"/ballot?study={known.id}&preview={studies.previews.code(known.id)}"


def link(study: str, invite: str = "", page: str = "vote") -> str:
    """The address of the rater's page, without that of the studio."""
    return f"/{page}?study={study}" + (f"&invite={invite}" if invite else "")


def _report(
    studies: Studies,
    study: str,
    format: Literal["html", "md"] = "html",
    category: str = "",
    without_flagged: bool = False,
    consensus: Annotated[int | None, Field(ge=2)] = None,
) -> Path:
    known = studies.analysis(study).categories
    if category and category not in known:
        raise StudyError(f"No votes on category {category!r}; known: {', '.join(known) or 'none'}.")
    studies.unblind(study, "report")
    return studies.export(study, format, Filter("", category, without_flagged, consensus))


def _export(studies: Studies, study: str, format: str = "csv") -> Path:
    studies.unblind(study, f"export {format}")
    return studies.export(study, format)


def _participants(studies: Studies, study: str) -> Path:
    return studies.write_participants(study)


def _choices(studies: Studies, study: str) -> dict[str, Any]:
    """What rewards can be held against: pictures and, unless the results are hidden, valid votes on them."""
    known = studies.store.get(study)
    votes = [] if known.hides_results else read_votes(known, studies.votes.rows(known.id))
    return {
        "study": known.id,
        "name": known.name,
        "hidden": known.hides_results,
        "questions": [question.id for question in known.protocol.questions],
        "pairs": hung_pairs(studies.store.pairs(known.id)),
        "votes": [asdict(vote) for vote in votes if vote.kind == "real"],
    }


def _board(studies: Studies, backbone: str = "") -> dict[str, Any]:
    """All saved calibrations over all quick votes, for each backbone that was voted on, or for one."""
    saved = CalibrationStore(ASSETS / "calibrations", studies.data / "calibrations")
    known = list_backbones(studies)
    if backbone and backbone not in known:
        raise StudyError(f"No quick votes on {backbone!r}; known: {', '.join(known) or 'none'}.")
    boards = [make_board(studies, each, saved.entries(each)) for each in known if backbone in ("", each)]
    return {"boards": [{**asdict(board), "said": say_groups(board)} for board in boards]}


def _snapshot(studies: Studies) -> dict[str, Any]:
    return {"snapshot": studies.snapshots.take("asked").name}


def _backup(studies: Studies, path: Path) -> dict[str, Any]:
    return {"backup": str(studies.backup(path))}


def _restore(studies: Studies, folder: Path) -> dict[str, Any]:
    known = folder if folder.is_dir() else studies.snapshots.folder / folder.name  # its name is enough
    return {"new": studies.restore(known)}


def _repair(studies: Studies) -> dict[str, Any]:
    return studies.repair()


COMMANDS: dict[str, Callable[..., Answer]] = {
    "list": _list,
    "show": about,
    "plan": _plan,
    "create": _create,
    "render": _render,
    "open": partial(_set_status, "open"),
    "close": partial(_set_status, "closed"),
    "archive": partial(_set_status, "archived"),
    "invite": _invite,
    "invited": _invited,
    "take-back": _take_back,
    "invalidate": _invalidate,
    "report": _report,
    "export": _export,
    "participants": _participants,
    "choices": _choices,
    "board": _board,
    "snapshot": _snapshot,
    "backup": _backup,
    "restore": _restore,
    "repair": _repair,
}


def run(studies: Studies, command: str, values: dict[str, Any]) -> Answer:
    """Do one command. Raises StudyError for an unknown one or values that it does not take."""
    if command not in COMMANDS:
        raise StudyError(f"Unknown command {command!r}; known: {', '.join(COMMANDS)}.")
    try:
        do = validate_call(partial(COMMANDS[command], studies))
        return do(**values)
    except ValidationError as error:
        raise StudyError(f"{command}: {sentence(error)}") from None
