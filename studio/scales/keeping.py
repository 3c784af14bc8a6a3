"""A visitor's desk between visits: kept on the disk after every edit, brought back from it. No Gradio."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from studio.core import Core
from studio.scales.desk import Desk, check_scales
from studio.scales.place import DeskState, Notice, ScalesPlace
from studio.scales.store import FOLDER, OWN, PUBLIC, Bounds, DeskDraft, DraftError, DraftStore, digest_layout

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

log = logging.getLogger(__name__)


def find_bounds(demo: bool) -> Bounds:
    """How much is kept, on a public studio or another one."""
    return PUBLIC if demo else OWN


def open_drafts(core: Core) -> DraftStore:
    return DraftStore(core.settings.data / FOLDER, find_bounds(core.settings.demo))


def bring_back(core: Core, place: ScalesPlace, backbone: Backbone) -> Desk | None:
    """The visitor's draft on this backbone as a desk; None where there is none. The lock is held. From now on
    the visitor's place is that of this backbone.

    What cannot be read is told on the page, and is no error.
    """
    place.backbone, place.layout = backbone.spec.name, digest_layout(backbone.layout("gate").names)
    if not place.owner:
        return None
    try:
        draft = open_drafts(core).find(place.owner, place.backbone, place.layout)
        if draft is None:
            return None
        layout = backbone.layout(draft.granularity)
        for member in draft.members:
            check_scales(member.scales, layout)
    except CalibriError as error:
        place.notice = Notice(problem=str(error))
        return None
    desk = Desk(layout, draft.members, min(draft.at, len(draft.members) - 1))
    place.kept = _describe(desk, place)
    place.notice = Notice(brought=draft.saved)
    return desk


def begin(place: ScalesPlace, desk: Desk) -> Desk:
    """A desk that was never touched, in the visitor's place: it needs no draft. The lock is held."""
    place.kept = _describe(desk, place)
    return desk


def put_down(core: Core, place: ScalesPlace, desk: Desk) -> Desk:
    """This desk in the visitor's place, and on the disk where it is another one than before. The lock is
    held. A desk as it was at first needs no draft."""
    place.desk, state = desk, _describe(desk, place)
    if state == place.kept or not place.owner:
        return desk
    place.notice, store = Notice(), open_drafts(core)
    try:
        if desk.members == Desk.neutral(desk.layout).members:
            store.forget(place.owner, place.backbone, place.layout)
        else:
            draft = DeskDraft(
                backbone=place.backbone,
                layout=place.layout,
                granularity=desk.layout.granularity,
                saved=store.clock(),
                members=desk.members,
                at=desk.at,
            )
            store.keep(place.owner, draft, partial(_admit, core))
    except (CalibriError, OSError) as error:
        why = str(error) if isinstance(error, CalibriError) else f"{error.strerror or 'the disk refused'}."
        log.info("a desk is not kept: %s", why)
        place.notice = Notice(problem=f"A restart will lose this desk. {why}")
    else:
        place.kept = state
    return desk


def _admit(core: Core, new: bool, size: int) -> None:
    """Raises where a visitor of a public studio has kept enough for now; who has no cookie keeps nothing."""
    caller = core.find_caller()
    if caller is None or caller.organiser:
        return
    if not core.find_limited():  # the key of its cookie
        raise DraftError("This browser sends no cookie, so nothing is kept for it.")
    core.traffic.take_draft(caller, new, size)


def _describe(desk: Desk, place: ScalesPlace) -> DeskState:
    return DeskState(place.backbone, desk.layout.names, desk.members, desk.at)
