"""What an organiser can have done without a page: one table of commands for the terminal and for a running
studio.

Each takes the studies and plain values, and returns what JSON can hold, or the path of a file it wrote.


"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calibri.errors import StudyError, sentence
from studio.studies.planning import NewStudy
from studio.studies.results.analysis import Filter
from studio.studies.studies import Studies

Answer = dict[str, Any] | Path


def secret(studies_key: bytes) -> str:
    """What proves an organiser to the running studio: whoever can read the data folder's key can make it."""
    return hmac.new(studies_key, b"organiser", hashlib.sha256).hexdigest()


def about(studies: Studies, study: str) -> dict[str, Any]:
    known = studies.store.get(study)
    progress = studies.store.progress(known)
    rendering = studies.renders.progress(known.id)
    return {
        "id": known.id,
        "name": known.name,
        "status": known.status,
        "protocol": known.protocol.preset,
        "protocol_sha256": known.protocol.hash,
        "seed": known.seed,
        "arms": [a.label for a in studies.store.arms(known.id) if a.kind != "gold"],
        "pairs": progress.pairs,
        "rendered": progress.rendered,
        "raters": progress.raters,
        "showings": progress.showings,
        "wanted": progress.wanted,
        "rendering": vars(rendering) if rendering else None,
    }


def _list(studies: Studies) -> dict[str, Any]:
    return {"studies": [about(studies, s.id) for s in studies.store.all()]}


def _create(studies: Studies, spec: dict[str, Any]) -> dict[str, Any]:
    try:
        new = NewStudy.model_validate(spec)
    except ValidationError as error:
        raise StudyError(sentence(error, "study")) from None
    return about(studies, studies.create(new).id)


def _render(studies: Studies, study: str, wait: bool = False) -> dict[str, Any]:
    known = studies.store.get(study)
    studies.renders.start(known.id)
    if wait:
        done = studies.renders.wait(known.id)
        if done is None or done.phase != "done":
            raise StudyError(f"The pictures are not all rendered: {done.error if done else 'stopped'}")
    return about(studies, known.id)


def _status(status: Any) -> Callable[..., dict[str, Any]]:
    def change(studies: Studies, study: str) -> dict[str, Any]:
        studies.set_status(study, status)
        return about(studies, study)

    return change


def _invite(
    studies: Studies, study: str, count: int = 1, first: int = 1, page: str = "ballot"
) -> dict[str, Any]:
    known = studies.store.get(study)
    if not (isinstance(count, int) and 1 <= count <= 10_000 and isinstance(first, int) and first >= 0):
        raise StudyError("Invites are made for 1 to 10,000 raters at a time.")
    codes = [studies.voting.identities.make_invite(known.id, n) for n in range(first, first + count)]
    return {"study": known.id, "links": [link(known.id, code, page) for code in codes]}


def preview(studies: Studies, study: str) -> str:
    """The address at which an organiser sees exactly what a rater will see. Nothing is stored."""
    known = studies.store.get(study)
    return f"/ballot?study={known.id}&preview={studies.previews.code(known.id)}"


def link(study: str, invite: str = "", page: str = "vote") -> str:
    """The address of the rater's page, without the studio's own."""
    return f"/{page}?study={study}" + (f"&invite={invite}" if invite else "")


def _report(
    studies: Studies,
    study: str,
    format: str = "html",
    category: str = "",
    without_flagged: bool = False,
    consensus: int | None = None,
) -> Path:
    if format not in ("html", "md"):
        raise StudyError(f"A report is html or md, not {format!r}.")
    if consensus is not None and consensus < 2:
        raise StudyError(f"Consensus is among 2 raters or more, not {consensus}.")
    known = studies.analysis(study).categories
    if category and category not in known:
        raise StudyError(f"No votes on category {category!r}; there are: {', '.join(known) or 'none'}.")
    studies.unblind(study, "report")
    return studies.export(study, format, Filter("", category, without_flagged, consensus))


def _export(studies: Studies, study: str, format: str = "csv") -> Path:
    studies.unblind(study, f"export {format}")
    return studies.export(study, format)


def _snapshot(studies: Studies) -> dict[str, Any]:
    return {"snapshot": studies.snapshots.take("asked").name}


def _backup(studies: Studies, path: str) -> dict[str, Any]:
    return {"backup": str(studies.backup(Path(path)))}


def _restore(studies: Studies, folder: str) -> dict[str, Any]:
    return {"new": studies.restore(Path(folder))}


COMMANDS: dict[str, Callable[..., Answer]] = {
    "list": _list,
    "show": about,
    "create": _create,
    "render": _render,
    "open": _status("open"),
    "close": _status("closed"),
    "archive": _status("archived"),
    "invite": _invite,
    "report": _report,
    "export": _export,
    "snapshot": _snapshot,
    "backup": _backup,
    "restore": _restore,
}


def run(studies: Studies, command: str, values: dict[str, Any]) -> Answer:
    """Do one command. Raises StudyError for an unknown one or values that it does not take."""
    if command not in COMMANDS:
        raise StudyError(f"Unknown command {command!r}; known: {', '.join(COMMANDS)}.")
    try:
        return COMMANDS[command](studies, **values)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise StudyError(f"{command}: {error}") from None
