"""The mixing desk of one visitor, as the page Scales keeps it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from studio.rendering.asks import Ask
from studio.rendering.places import DeskPlace
from studio.rendering.shots import Shot
from studio.scales.desk import Desk

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration, Member


class BasePicture(NamedTuple):
    """The base's picture beside the desk's, and what it was rendered for."""

    ask: Ask
    backbone: str
    shot: Shot


class Blend(NamedTuple):
    """The desk before a blend and after it, and the choice that it was blended with."""

    before: Desk
    after: Desk
    choice: str


class Notice(NamedTuple):
    """What is said of the desk's draft. `brought`: when the desk that was brought back was kept, in seconds
    since 1970; 0 once it was changed. `problem`: why it is not kept, or could not be read."""

    brought: float = 0.0
    problem: str = ""


NOTHING_TO_SAY = Notice()


class DeskState(NamedTuple):
    """What of a desk is kept in its draft. `names`: of its layout."""

    backbone: str
    names: tuple[str, ...]
    members: tuple[Member, ...]
    at: int


@dataclass
class ScalesPlace(DeskPlace):
    """`sent`: when, by the browser's clock in ms, the last move was made that is in `desk`. `beside`: what
    the desk is charted against and blended with. `draft`: what was composed last, which the desk may still
    be. `editing`: held from reading the desk to keeping it. `owner`: the visitor's id, under which the desk
    is kept on the disk; empty for nobody's. `backbone`, `layout`: whose scales the desk holds. `kept`: the
    desk as it was kept last.
    """

    desk: Desk | None = None
    sent: int = 0
    base: BasePicture | None = None
    beside: str = ""
    blend: Blend | None = None
    draft: Calibration | None = None
    editing: threading.RLock = field(default_factory=threading.RLock)
    owner: str = ""
    backbone: str = ""
    layout: str = ""  # a digest of its names
    kept: DeskState | None = None
    notice: Notice = NOTHING_TO_SAY

    def desk_calibration(self, backbone: str) -> Calibration | None:
        desk = self.desk
        return desk.calibration(backbone) if desk is not None else None
