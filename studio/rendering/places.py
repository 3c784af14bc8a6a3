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
MOST_PIXEL_BYTES = 192 * 2**20  # of its pictures: the oldest comparisons are forgotten, the newest stays
MOST_BORROWED_BYTES = 8 * 2**20
MOST_BORROWED = 12  # calibrations from PNG files


def _measure(calibration: Calibration) -> int:
    """Bytes of a calibration in memory, about: its file times four."""
    return 4 * len(calibration.to_json())


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
    """An arm of a study to be. `calibration`: its JSON; None for the base. The rest as an Ask has it."""

    label: str
    kind: ArmKind
    calibration: str | None
    steps: int
    guidance: float
    width: int | None = None
    height: int | None = None
    loras: str = ""
    negative: str = ""
    embedded: float | None = None


@dataclass(frozen=True)
class StudyDraft:
    """What Compare sends to the page Studies. `prompts`: one a line. `seeds`: pictures a prompt."""

    arms: tuple[ArmDraft, ...]
    prompts: str
    seeds: int


@dataclass
class SharedPlace:
    """`history`: the newest comparison first. `borrowed`: choice → a calibration that came inside a PNG,
    or from a search.
    `ask`: that of a picture sent to the page Scales; `draft`: what was sent to the page Studies. Both stay
    until that page takes them.
    """

    history: deque[Comparison] = field(default_factory=lambda: deque(maxlen=MOST_COMPARISONS))
    borrowed: dict[str, Calibration] = field(default_factory=dict)
    ask: Ask | None = None
    draft: StudyDraft | None = None
    _sizes: dict[str, int] = field(default_factory=dict)  # bytes of what is borrowed
    whence: dict[str, str] = field(default_factory=dict)  # choice → where what is borrowed came from

    @property
    def size(self) -> int:
        """Bytes that this visitor's pictures and calibrations take, about."""
        pictures = sum(each.size for each in self.history)
        return pictures + sum(self._sizes.get(choice, 0) for choice in self.borrowed)

    def remember(self, comparison: Comparison) -> None:
        """Put it first in the history; older ones go where they are too many or too large together."""
        self.history.appendleft(comparison)
        while len(self.history) > 1 and sum(each.size for each in self.history) > MOST_PIXEL_BYTES:
            self.history.pop()

    def borrow(self, calibration: Calibration, whence: str = "a PNG") -> str:
        """Keep it, the oldest forgotten first. Returns the choice that means it. `whence`: where it came
        from, in words."""
        choice = f"png/{calibration.hash[:16]}"
        self.borrowed[choice] = calibration
        self.whence[choice] = whence
        self._sizes[choice] = _measure(calibration)
        while len(self.borrowed) > 1 and (
            len(self.borrowed) > MOST_BORROWED
            or sum(self._sizes.get(each, 0) for each in self.borrowed) > MOST_BORROWED_BYTES
        ):
            self.borrowed.pop(oldest := next(iter(self.borrowed)))
            self._sizes.pop(oldest, None)
            self.whence.pop(oldest, None)
        return choice

    def take_ask(self) -> Ask | None:
        """What was sent to the page Scales, once."""
        ask, self.ask = self.ask, None
        return ask

    def take_draft(self) -> StudyDraft | None:
        """What was sent to the page Studies, once."""
        draft, self.draft = self.draft, None
        return draft
