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
    from calibri.calibration.artifact import Calibration


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


@dataclass
class ScalesPlace(DeskPlace):
    """`sent`: when, by the browser's clock in ms, the last move was made that is in `desk`. `beside`: what
    the desk is charted against and blended with. `draft`: what was composed last, which the desk may still
    be. `editing`: held from reading the desk to keeping it.
    """

    desk: Desk | None = None
    sent: int = 0
    base: BasePicture | None = None
    beside: str = ""
    blend: Blend | None = None
    draft: Calibration | None = None
    editing: threading.RLock = field(default_factory=threading.RLock)

    def desk_calibration(self, backbone: str) -> Calibration | None:
        desk = self.desk
        return desk.calibration(backbone) if desk is not None else None
