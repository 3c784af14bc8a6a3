"""What is compared: base, calibrated, ensemble. From a choice on a page to an arm. No Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from calibri.backbones.lora import NONE, write_uses
from studio.core import Core
from studio.rendering.asks import Guidance, LoraText, Steps
from studio.rendering.places import SharedPlace, desk_calibration
from studio.visitors import Visitor

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

ArmKind = Literal["base", "calibrated", "ensemble"]
KINDS: tuple[ArmKind, ...] = ("base", "calibrated", "ensemble")
WORDS: dict[ArmKind, str] = {"base": "Base", "calibrated": "Calibrated", "ensemble": "Ensemble"}
DESK = "desk"  # the choice that means: the scales on this visitor's desk
NOTHING = ""  # the choice that means: no such arm
NO_ARM = "Nothing"  # the title of an arm that nobody chose
EMPTY_DESK = "Your desk is empty. Move a slider on the page Scales first."


@dataclass(frozen=True)
class Choice:
    """An arm as a visitor chose it.

    `what`: a kind (then the studio's first of that kind), DESK, NOTHING, or the id of a calibration. `steps`
    and `guidance` of its own; None: as for all arms. `loras`: which are on in this arm, as
    `calibri.backbones.lora.read_uses` reads it; "" are all as they were loaded. `granularity`: of the
    studio's first; None: by layer where there is one.
    """

    what: str
    steps: Steps | None = None
    guidance: Guidance | None = None
    granularity: str | None = None
    loras: LoraText = ""


@dataclass(frozen=True)
class Arm:
    """One thing to compare. Without a calibration it is the base; `missing` says in words why there is
    nothing to render. `name`: its title with the first part of the calibration's: `Calibrated: Bent`."""

    kind: ArmKind
    title: str
    calibration: Calibration | None = None
    missing: str = ""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        short = short_title(self.calibration) if self.calibration is not None else ""
        named = f"{WORDS[self.kind]}: {short}" if short and short != WORDS[self.kind] else ""
        title = WORDS[self.kind] if self.title != NO_ARM else NO_ARM
        object.__setattr__(self, "name", named or title)


def short_title(calibration: Calibration) -> str:
    """The first part of a title: a search writes its rewards behind a comma."""
    return calibration.title.partition(",")[0].strip()[:48]


def kind_of(calibration: Calibration) -> ArmKind:
    """What an arm with this calibration is."""
    return "ensemble" if calibration.is_ensemble else "calibrated"


def list_saved(core: Core, kind: ArmKind, granularity: str | None = None) -> list[tuple[str, str]]:
    """(title, id) of the calibrations that can stand for this kind of arm, the studio's own first."""
    return [
        (entry.title, entry.id)
        for entry in core.fitting_calibrations()
        if kind_of(entry.calibration) == kind and granularity in (None, entry.calibration.granularity)
    ]


def list_choices(core: Core, visitor: Visitor) -> list[tuple[str, str]]:
    """(words, choice) of all that can be an arm: kinds, desk, saved calibrations, those that came along."""
    backbone = core.backbone_name
    saved = [
        (f"{entry.title} ({_sort(entry.calibration)})", entry.id) for entry in core.fitting_calibrations()
    ]
    place = visitor.place(SharedPlace)
    came = [
        (f"{known.title or 'Calibration'} (from {place.whence.get(name, 'a PNG')})", name)
        for name, known in place.borrowed.items()
        if known.backbone == backbone
    ]
    kinds = [(WORDS[kind], kind) for kind in KINDS]
    return [*kinds, ("Your desk", DESK), *saved, *came, (NO_ARM, NOTHING)]


def list_lora_choices(core: Core) -> list[tuple[str, str]]:
    """(words, text) of what an arm can say of LoRAs: all as loaded, none, and each of several alone."""
    backbone = core.host.backbone
    loaded = backbone.loras.loaded if backbone is not None else ()
    if not loaded:
        return [("As loaded", "")]
    alone = [(f"{each.name} alone", write_uses([(each.name, each.strength)])) for each in loaded]
    return [("As loaded", ""), ("Without", NONE), *(alone if len(loaded) > 1 else [])]


def _sort(calibration: Calibration) -> str:
    members = f"{len(calibration.members)} members, " if calibration.is_ensemble else ""
    return f"{members}{calibration.granularity}"


def resolve_arms(core: Core, choices: Sequence[Choice], visitor: Visitor | None = None) -> list[Arm]:
    """The arm for each choice; one with `missing` where there is nothing to render. Without a visitor there
    is no desk. Raises ArtifactError for the id of no calibration."""
    backbone = core.backbone_name
    saved = [entry.calibration for entry in core.fitting_calibrations()]
    borrowed = visitor.place(SharedPlace).borrowed if visitor is not None else {}

    def resolve(choice: Choice) -> Arm:
        for kind in KINDS:
            if choice.what == kind:
                return _take_first(saved, kind, choice.granularity) if kind != "base" else Arm(kind, "Base")
        if choice.what == NOTHING:
            return Arm("base", NO_ARM, missing="Nothing is chosen here.")
        if choice.what == DESK:
            found = desk_calibration(visitor, backbone) if visitor is not None else None
            if found is None:
                return Arm("calibrated", WORDS["calibrated"], missing=EMPTY_DESK)
        else:
            found = borrowed.get(choice.what) or core.calibrations.get(choice.what).calibration
        return Arm(kind_of(found), WORDS[kind_of(found)], found)

    return [resolve(choice) for choice in choices]


def _take_first(saved: Sequence[Calibration], kind: ArmKind, granularity: str | None) -> Arm:
    """The studio's first calibration of this kind."""
    fitting = [known for known in saved if kind_of(known) == kind]
    if granularity is None:  # by layer if there is one: what the first visit shows
        fitting.sort(key=lambda known: known.granularity != "layer")
    else:
        fitting = [known for known in fitting if known.granularity == granularity]
    if fitting:
        return Arm(kind, WORDS[kind], fitting[0])
    what = "ensemble" if kind == "ensemble" else "calibration"
    where = f" at {granularity} granularity" if granularity else ""
    words = f"No {what} of this backbone is saved{where} yet. Run a search, or save one on the page Scales."
    return Arm(kind, WORDS[kind], missing=words)
