"""What is compared: base, calibrated, ensemble. From a choice on a page to an arm. No Gradio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from studio.core import Core
from studio.rendering.places import SharedPlace, desk_calibration
from studio.visitors import Visitor

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

ArmKind = Literal["base", "calibrated", "ensemble"]
KINDS: tuple[ArmKind, ...] = ("base", "calibrated", "ensemble")
WORDS = {"base": "Base", "calibrated": "Calibrated", "ensemble": "Ensemble"}
DESK = "desk"  # the choice that means: the scales on this visitor's desk
NOTHING = ""  # the choice that means: no such arm
EMPTY_DESK = "Your desk is empty. Move a slider on the page Scales first."


@dataclass(frozen=True)
class Choice:
    """An arm as a visitor chose it. `what`: a kind (then the studio's first of that kind), DESK, NOTHING, or
    the id of a calibration. `steps` and `guidance` of its own; None: as for all arms."""

    what: str
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Arm:
    """One thing to compare. Without a calibration it is the base; `missing` says in words why there is
    nothing to render."""

    kind: ArmKind
    title: str
    calibration: Calibration | None = None
    missing: str = ""


def choices(core: Core, kind: ArmKind, granularity: str) -> list[tuple[str, str]]:
    """(title, id) of the saved calibrations that can stand for this arm, the studio's own first."""
    backbone = core.backbone_name
    return [
        (entry.title, entry.id)
        for entry in core.calibrations.entries()
        if entry.calibration.granularity == granularity
        and entry.calibration.is_ensemble == (kind == "ensemble")
        and entry.calibration.backbone == backbone
    ]


def arm(
    core: Core, kind: ArmKind, granularity: str, choice: str | None = None, visitor: Visitor | None = None
) -> Arm:
    """The arm for a choice: an id of `choices`, DESK (the visitor's), or None for the first that there is."""
    if kind == "base":
        return Arm("base", WORDS["base"])
    if choice == DESK:
        desk = desk_calibration(visitor, core.backbone_name) if visitor is not None else None
        if desk is None:
            return Arm(kind, WORDS[kind], missing=EMPTY_DESK)
        return Arm(kind, "Your desk", desk)
    offered = choices(core, kind, granularity)
    if choice is None or choice not in [entry_id for _, entry_id in offered]:
        if not offered:
            what = "ensemble" if kind == "ensemble" else "calibration"
            return Arm(
                kind,
                WORDS[kind],
                missing=f"No {what} of this backbone is saved at {granularity} granularity yet. "
                "A search makes one; another granularity may have one.",
            )
        choice = offered[0][1]
    entry = core.calibrations.get(choice)
    return Arm(kind, WORDS[kind], entry.calibration)


def short_title(calibration: Calibration) -> str:
    """The first part of a title: a search writes its rewards behind a comma."""
    return calibration.title.partition(",")[0].strip()[:48]


def offered(core: Core, visitor: Visitor) -> list[tuple[str, str]]:
    """(words, choice) of everything that can be an arm: the kinds, the visitor's desk, every saved
    calibration of the loaded backbone, and those that came inside a PNG."""
    backbone = core.backbone_name
    saved = [
        (f"{entry.title} ({_sort(entry.calibration)})", entry.id)
        for entry in core.calibrations.entries(backbone or None)
    ]
    came = [
        (f"{known.title or 'Calibration'} (from a PNG)", name)
        for name, known in visitor.place(SharedPlace).borrowed.items()
        if known.backbone == backbone
    ]
    kinds = [(WORDS[kind], kind) for kind in ("base", "calibrated", "ensemble")]
    return [*kinds, ("Your desk", DESK), *saved, *came, ("Nothing", NOTHING)]


def _sort(calibration: Calibration) -> str:
    members = f"{len(calibration.members)} members, " if calibration.is_ensemble else ""
    return f"{members}{calibration.granularity}"


def arm_of(core: Core, visitor: Visitor, choice: Choice) -> Arm:
    """The arm for a choice; one with `missing` where there is nothing to render."""
    what, backbone = choice.what, core.backbone_name
    if what == NOTHING:
        return Arm("base", "Nothing", missing="Nothing is chosen here.")
    if what == "base":
        return Arm("base", WORDS["base"])
    if what == DESK:
        desk = desk_calibration(visitor, backbone)
        if desk is None:
            return Arm("calibrated", WORDS["calibrated"], missing=EMPTY_DESK)
        return _found(desk)
    if what in ("calibrated", "ensemble"):
        several, kind = what == "ensemble", what
        every = [entry.calibration for entry in core.calibrations.entries(backbone)]
        fitting = [known for known in every if known.is_ensemble == several]
        if fitting:  # by layer if there is one: what the first visit shows
            return _found(next((known for known in fitting if known.granularity == "layer"), fitting[0]))
        name = "ensemble" if several else "calibration"
        words = f"No {name} of this backbone is saved yet. Run a search, or save one on the page Scales."
        return Arm(kind, WORDS[kind], missing=words)  # type: ignore[arg-type]
    borrowed = visitor.place(SharedPlace).borrowed.get(what)
    return _found(borrowed or core.calibrations.get(what).calibration)


def _found(calibration: Calibration) -> Arm:
    kind: ArmKind = "ensemble" if calibration.is_ensemble else "calibrated"
    return Arm(kind, WORDS[kind], calibration)
