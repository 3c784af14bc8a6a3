"""What several pages keep of one visitor: what was compared, and what one page sent to another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from studio.rendering.asks import Ask
from studio.visitors import Visitor

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration
    from studio.rendering.arms import ArmKind
    from studio.rendering.shots import Comparison

MOST_COMPARISONS = 24  # in one visitor's history
MOST_BORROWED = 12  # calibrations from PNG files


class DeskPlace:
    """A visitor's mixing desk, as far as rooms below `scales` know it: ScalesPlace derives from this."""

    def desk_calibration(self, backbone: str) -> Calibration | None:
        """The scales on the desk with all their members; None while there are none."""
        return None


def desk_calibration(visitor: Visitor, backbone: str) -> Calibration | None:
    """The scales on the visitor's desk; None before anything was moved."""
    place = visitor.find_place(DeskPlace)
    return place.desk_calibration(backbone) if place is not None else None


@dataclass(frozen=True)
class ArmDraft:
    """An arm of a study to be. `calibration`: its JSON; None for the base."""

    label: str
    kind: ArmKind
    calibration: str | None
    steps: int
    guidance: float


@dataclass(frozen=True)
class StudyDraft:
    """What Compare sends to the page Studies. `prompts`: one a line. `seeds`: pictures a prompt."""

    arms: tuple[ArmDraft, ...]
    prompts: str
    seeds: int


@dataclass
class SharedPlace:
    """`history`: the newest comparison first. `borrowed`: choice → a calibration that came inside a PNG.
    `ask`: that of a picture sent to the page Scales; `draft`: what was sent to the page Studies. Both stay
    until that page takes them.
    """

    history: deque[Comparison] = field(default_factory=lambda: deque(maxlen=MOST_COMPARISONS))
    borrowed: dict[str, Calibration] = field(default_factory=dict)
    ask: Ask | None = None
    draft: StudyDraft | None = None

    def borrow(self, calibration: Calibration) -> str:
        """Keep it, the oldest forgotten first. Returns the choice that means it."""
        choice = f"png/{calibration.hash[:16]}"
        self.borrowed[choice] = calibration
        while len(self.borrowed) > MOST_BORROWED:
            self.borrowed.pop(next(iter(self.borrowed)))
        return choice

    def take_ask(self) -> Ask | None:
        """What was sent to the page Scales, once."""
        ask, self.ask = self.ask, None
        return ask

    def take_draft(self) -> StudyDraft | None:
        """What was sent to the page Studies, once."""
        draft, self.draft = self.draft, None
        return draft
