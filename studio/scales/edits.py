"""What the page Scales does, without the page: a visitor's desk, edits, pictures, files. No Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from calibri.backbones.layouts import Granularity
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.guidance import PRESETS, WORDS, Guide, guide
from calibri.calibration.phases import counts_at
from calibri.calibration.vector_text import parse_vector
from calibri.errors import ArtifactError, LayoutError
from calibri.words import slug
from studio.core import Core
from studio.rendering.arms import Arm
from studio.rendering.asks import Ask
from studio.rendering.shots import Calls, Shot, shoot
from studio.scales.desk import NEUTRAL, Desk, Vector, check_scales, is_number, list_strips
from studio.scales.keeping import begin, bring_back, put_down
from studio.scales.place import BasePicture, Blend, ScalesPlace
from studio.visitors import Visitors

RANGE = (0.0, 2.0)
BASE = "base"  # the choice that means: all scales 1


def get_place(core: Core, visitor: object) -> ScalesPlace:
    """What this page keeps of the visitor with this id."""
    place = core.visitors.place(visitor, ScalesPlace)
    place.owner = str(visitor) if Visitors.is_id(visitor) else ""
    return place


def get_desk(core: Core, place: ScalesPlace, granularity: Granularity | None = None) -> Desk:
    """The visitor's desk on the loaded backbone: the one at hand, else their draft of it, else a neutral
    one; converted to this granularity."""
    backbone = core.host.wait_ready()
    with place.editing:
        last = desk = place.desk
        if desk is not None and desk.layout.names != backbone.layout(desk.layout.granularity).names:
            desk = None
        if desk is None or place.backbone != backbone.spec.name:  # other weights may have the same scales
            desk = bring_back(core, place, backbone) or desk
        if desk is None:
            level = last.layout.granularity if last is not None else "layer"
            desk = begin(place, Desk.neutral(backbone.layout(granularity or level)))
        place.desk = desk.convert(backbone.layout(granularity or desk.layout.granularity))
        return place.desk


def find_desk(core: Core, visitor: object) -> Desk | None:
    """The visitor's desk, or their draft where they were not at the desk since the studio began; None where
    there is neither."""
    place, backbone = get_place(core, visitor), core.host.backbone
    if place.desk is not None or backbone is None or place.backbone == backbone.spec.name:
        return place.desk
    with place.editing:
        place.desk = place.desk or bring_back(core, place, backbone)
        return place.desk


def change(core: Core, visitor: object, edit: Callable[[Desk], Desk]) -> Desk:
    """Apply one edit to the visitor's desk. An error of the edit leaves the desk as it was."""
    place = get_place(core, visitor)
    core.host.wait_ready()
    with place.editing:
        return put_down(core, place, edit(get_desk(core, place)))


def discard_draft(core: Core, visitor: object) -> tuple[Desk, str]:
    """One plain vector of ones in place of what was brought back. Returns a remark too."""
    made = change(core, visitor, lambda desk: desk.hold(Desk.neutral(desk.layout).members))
    return made, "draft discarded; Undo brings it back"


def set_text(core: Core, visitor: object, text: str) -> Desk:
    """Set the vector that a visitor typed. Raises LayoutError with the line that does not fit."""
    return change(core, visitor, lambda desk: desk.set(parse_vector(text, desk.layout)))


def set_granularity(core: Core, visitor: object, granularity: Granularity) -> Desk:
    """Convert the desk to another granularity."""
    place = get_place(core, visitor)
    with place.editing:
        return put_down(core, place, get_desk(core, place, granularity))


def open_calibration(core: Core, visitor: object, calibration: Calibration) -> tuple[Desk, str]:
    """Put a calibration with all its members on the desk. Returns the desk and a remark."""
    place = get_place(core, visitor)
    backbone = core.host.wait_ready()
    fitting = calibration.on_layout(backbone.layout(calibration.granularity))
    with place.editing:
        desk = put_down(core, place, get_desk(core, place, calibration.granularity).hold(fitting.members))
    title = calibration.title or "a calibration"
    members = f", {len(calibration.members)} members" if calibration.is_ensemble else ""
    return desk, f"opened “{title}”{members}"


def open_saved(core: Core, visitor: object, entry_id: str | None) -> tuple[Desk, str]:
    """A saved calibration with all its members in place of the desk's."""
    return open_calibration(core, visitor, _find_saved(core, entry_id))


def add_saved(core: Core, visitor: object, entry_id: str | None) -> tuple[Desk, str]:
    """The members of a saved calibration beside those of the desk."""
    found = _find_saved(core, entry_id)
    made = change(core, visitor, lambda desk: desk.add(found.on_layout(desk.layout).members))
    return made, f"added “{found.title}”"


def _find_saved(core: Core, entry_id: str | None) -> Calibration:
    if not entry_id:
        raise ArtifactError("Choose a saved calibration first.")
    return core.calibrations.get(entry_id).calibration


def add_member(core: Core, visitor: object) -> Desk:
    """One more member, which starts as the member in hand."""
    return change(core, visitor, lambda desk: desk.add((desk.member,)))


def add_guide(
    core: Core,
    visitor: object,
    preset: object,
    of: object,
    strength: object,
    start: object,
    stop: object,
    steps: object,
) -> tuple[Desk, str]:
    """One more member that guides those on the desk, by a preset of calibri.calibration.guidance.

    `of`: blocks to skip, or what is weaker: base, a factor, or the title of a saved calibration. Returns a
    remark too."""
    if preset not in PRESETS:
        raise LayoutError(f"Choose a preset first: {', '.join(WORDS.values())}.")
    numbers = [value for value in (strength, start, stop) if is_number(value)]
    if len(numbers) != 3:
        raise LayoutError("Expected numbers as strength, start and stop.")
    asked = Guide(preset, "" if preset == "cfg" else str(of or "").strip(), *map(float, numbers))
    backbone = core.host.wait_ready()

    def open_weak(title: str) -> Calibration:
        known = {entry.title: entry.calibration for entry in core.fitting_calibrations()}
        if title not in known:
            raise ArtifactError(f"Expected base, a factor such as 0.9, or a saved title, got {title[:60]!r}.")
        return known[title]

    def edit(desk: Desk) -> Desk:
        held = desk.calibration(backbone.spec.name)
        return desk.guide(guide(backbone, [asked], held, open_weak=open_weak).members)

    made = change(core, visitor, edit)
    remark = f"added {WORDS[asked.preset].lower()}"
    if made.member.has_phase and is_number(steps) and steps >= 1:
        counting = sum(counts_at(made.member, step, int(steps)) for step in range(int(steps)))
        remark += f", which counts at {counting} of {steps:g} steps"
    return made, remark


def choose_member(core: Core, visitor: object, at: int) -> Desk:
    """Take the member at this place in hand."""
    return change(core, visitor, lambda desk: desk.choose(at))


def change_member(core: Core, visitor: object, at: object, edit: Callable[[Desk], Desk]) -> Desk:
    """One edit of the member at this place, whichever is in hand by now."""
    if isinstance(at, bool) or not isinstance(at, int):
        raise LayoutError("Choose a member first.")
    place = at

    def edit_there(desk: Desk) -> Desk:
        changed = edit(desk.choose(place))
        return changed.choose(desk.at) if desk.at < len(changed.members) else changed

    return change(core, visitor, edit_there)


def find_other(core: Core, desk: Desk, choice: str | None) -> tuple[str, Vector] | None:
    """(title, vector on the desk's layout) of what the desk is compared or blended with.

    `choice`: a saved calibration's id, BASE, or empty for nothing. Of an ensemble it is the member at the
    same place as the one in hand, or the first positive one.
    """
    if not choice:
        return None
    if choice == BASE:
        return "base", (NEUTRAL,) * len(desk.layout.names)
    entry = core.calibrations.get(choice)
    members = entry.calibration.on_layout(desk.layout).members
    if len(members) == 1:
        return entry.title, members[0].scales
    positive = next((i for i, m in enumerate(members) if m.condition == "positive"), 0)
    at = desk.at if desk.is_ensemble and desk.at < len(members) else positive
    return f"{entry.title}, member {at + 1}", members[at].scales


def blend(core: Core, visitor: object, choice: str | None, share: object) -> tuple[Desk, str]:
    """Blend `share` (0 to 1) of another calibration into the vector in hand.

    When the share moves again, it counts from the vector before the first move: all moves together are one
    step to undo.
    """
    if not is_number(share) or not 0 <= share <= 1:
        raise LayoutError(f"Expected a share from 0 to 1, got {share!r}.")
    place = get_place(core, visitor)
    with place.editing:
        start, last = get_desk(core, place), place.blend
        if last is not None and last.after is start and last.choice == choice:
            start = last.before
        other = find_other(core, start, choice)
        if other is None:
            raise LayoutError("Choose the calibration to blend with first.")
        title, vector = other
        desk = put_down(core, place, start.blend(vector, float(share)))
        place.blend = Blend(start, desk, str(choice))
        return desk, f"{100 * share:.0f} % of “{title}”"


def preview(
    core: Core, visitor: object, prompt: object, seed: object, steps: object, **calls: Unpack[Calls]
) -> tuple[Shot, Shot]:
    """Render the base, unless its picture is still the same, and the desk.

    An older preview of the same visitor is called off.
    """
    ask = Ask.read(prompt, seed, steps)
    found = core.visitors.of(visitor)
    place, calls["cancel"] = found.place(ScalesPlace), found.begin("preview")
    desk = get_desk(core, place)
    name = core.backbone_name
    mine = Arm("ensemble" if desk.is_ensemble else "calibrated", "Your scales", desk.calibration(name))
    known = place.base
    if known is not None and (known.ask, known.backbone) != (ask, name):
        known = None
    arms = [Arm("base", "Base"), mine] if known is None else [mine]
    shots = shoot(core, arms, ask, **calls)
    base = shots[0] if known is None else known.shot
    place.base = BasePicture(ask, name, base)
    return base, shots[-1]


def take_move(core: Core, visitor: object, payload: object) -> Desk:
    """Apply what the desk's script sent after a move; a browser can send anything.

    `sent`, its time by the browser's clock, goes back with every answer, so that the script can tell an
    answer to an earlier move from one to this. `member`: whose values these are.
    """
    move: dict[str, Any] = payload if isinstance(payload, dict) else {}
    place, sent, values, member = (
        get_place(core, visitor),
        move.get("sent"),
        move.get("values"),
        move.get("member"),
    )
    if isinstance(sent, int) and 0 <= sent < 2**53:
        place.sent = max(place.sent, sent)
    if not isinstance(values, list):
        raise LayoutError("Expected the values of the sliders, got none. Reload the page.")

    def edit(desk: Desk) -> Desk:
        if isinstance(member, int) and 0 <= member < len(desk.members):
            desk = desk.choose(member)
        return desk.set(check_scales(values, desk.layout))

    return change(core, visitor, edit)


def describe_desk(desk: Desk, sent: int = 0) -> dict[str, Any]:
    """What the desk's script is given. `sent`: the time of the last move that is in it; `member`: whose
    values these are."""
    low = min(RANGE[0], *desk.values)
    high = max(RANGE[1], *desk.values)
    reach = max(1.0 - low, high - 1.0)  # 1.00 stays the middle
    layout = {
        "id": f"{desk.layout.granularity}:{len(desk.layout.names)}:{desk.layout.names[0]}:{reach:.2f}",
        "low": round(1.0 - reach, 2),
        "high": round(1.0 + reach, 2),
        "strips": list_strips(desk.layout),
    }
    return {"layout": layout, "values": list(desk.values), "sent": sent, "member": desk.at}


def make_calibration(core: Core, visitor: object, title: str, alone: bool = False) -> Calibration:
    """The desk as a calibration of this title: all members, or the one in hand alone with weight 1.

    What was composed and is as it was keeps of what it was made, and its title where none was typed. Raises
    ArtifactError without a title.
    """
    place = get_place(core, visitor)
    desk, draft = get_desk(core, place), place.draft
    held = (core.backbone_name, desk.layout.names, desk.members)
    if draft is not None and (alone or (draft.backbone, draft.names, draft.members) != held):
        draft = None
    if not title and draft is not None:
        title = draft.title
    if not isinstance(title, str) or not title.strip():
        raise ArtifactError("Expected a title, got none. Type one first.")
    if draft is not None:
        return draft.model_copy(update={"title": title.strip()})
    if alone:
        desk = Desk(desk.layout, (Member(scales=desk.member.scales),))
    return desk.calibration(core.backbone_name, title.strip())


def write_file(desk: Desk, backbone: str, title: str) -> tuple[str, str]:
    """The desk with all its members as a calibration file: its name and its text."""
    calibration = desk.calibration(backbone, str(title or "").strip() or "From the mixing desk")
    return f"{slug(calibration.title, 'calibration', 60)}.json", calibration.to_json()
