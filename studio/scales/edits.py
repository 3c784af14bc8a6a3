"""What the page Scales does, without the page: a visitor's desk, its edits, its pictures and its files. No
Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Calibration
from calibri.calibration.vector_text import parse_vector
from calibri.errors import ArtifactError, LayoutError
from studio.core import Core
from studio.rendering.arms import Arm, ArmKind
from studio.rendering.asks import Ask
from studio.rendering.shots import Shot, shoot
from studio.scales.desk import Desk, checked, strips
from studio.scales.place import BasePicture, Blend, ScalesPlace

RANGE = (0.0, 2.0)


def place_of(core: Core, visitor: object) -> ScalesPlace:
    """What this page keeps of the visitor with this id."""
    return core.visitors.of(visitor).place(ScalesPlace)


def desk_of(core: Core, place: ScalesPlace, granularity: str | None = None) -> Desk:
    """The visitor's desk for the loaded backbone, at this granularity (values are carried over), made when
    there is none."""
    backbone = core.host.wait_ready()
    with place.editing:
        desk = place.desk
        level = granularity or (desk.layout.granularity if desk else "layer")
        layout = backbone.layout(level)
        if desk is None or not _same_backbone(desk, backbone.layout(desk.layout.granularity)):
            desk = Desk.neutral(layout)
        place.desk = desk.carried_to(layout)
        return place.desk


def _same_backbone(desk: Desk, layout: Layout) -> bool:
    return desk.layout.names == layout.names


def change(core: Core, visitor: object, edit: Callable[[Desk], Desk]) -> Desk:
    """Apply one edit to the visitor's desk and keep the result. An error of the edit leaves it as it was."""
    place = place_of(core, visitor)
    core.host.wait_ready()
    with place.editing:
        place.desk = edit(desk_of(core, place))
        return place.desk


def from_text(core: Core, visitor: object, text: str) -> Desk:
    """The vector as a visitor typed it. Raises LayoutError with the line that does not fit."""
    return change(core, visitor, lambda desk: desk.set(parse_vector(text, desk.layout)))


def opened(core: Core, visitor: object, calibration: Calibration) -> tuple[Desk, str]:
    """Put a calibration with all its members on the desk, at its own granularity. Returns the desk and a
    remark (empty: nothing to say)."""
    place = place_of(core, visitor)
    backbone = core.host.wait_ready()
    fitting = calibration.on_layout(backbone.layout(calibration.granularity))
    with place.editing:
        place.desk = desk_of(core, place, calibration.granularity).hold(fitting.members)
    title = calibration.title or "a calibration"
    members = f", {len(calibration.members)} members" if calibration.is_ensemble else ""
    return place.desk, f"opened “{title}”{members}"


def added(core: Core, visitor: object, calibration: Calibration | None = None) -> Desk:
    """More members on the desk: those of a calibration, or one that starts as the member in hand."""

    def more(desk: Desk) -> Desk:
        return desk.add(calibration.on_layout(desk.layout).members if calibration else (desk.member,))

    return change(core, visitor, more)


def of_member(core: Core, visitor: object, at: object, edit: Callable[[Desk], Desk]) -> Desk:
    """One edit of the member at this place, whichever is in hand by now."""
    if isinstance(at, bool) or not isinstance(at, int):
        raise LayoutError("Choose a member first.")

    def there(desk: Desk) -> Desk:
        changed = edit(desk.choose(at))
        return changed.choose(desk.at) if desk.at < len(changed.members) else changed

    return change(core, visitor, there)


BASE = "base"  # the choice that means: all scales 1


def beside(core: Core, desk: Desk, choice: str | None) -> tuple[str, tuple[float, ...]] | None:
    """(title, vector on the desk's layout) of what the desk is compared or blended with: a saved
    calibration's id, BASE, or empty for nothing. Of an ensemble it is the member at the same place as the
    one in hand, or the first positive one."""
    if not choice:
        return None
    if choice == BASE:
        return "base", (1.0,) * len(desk.layout.names)
    entry = core.calibrations.get(choice)
    members = entry.calibration.on_layout(desk.layout).members
    if len(members) == 1:
        return entry.title, members[0].scales
    positive = next((i for i, m in enumerate(members) if m.condition == "positive"), 0)
    at = desk.at if desk.is_ensemble and desk.at < len(members) else positive
    return f"{entry.title}, member {at + 1}", members[at].scales


def blended(core: Core, visitor: object, choice: str | None, share: float) -> tuple[Desk, str]:
    """`share` (0 to 1) of another calibration in the vector in hand. Moved again, the share counts from the
    vector before the first move, and all of it is one step to undo."""
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
        raise LayoutError(f"The share is a number from 0 to 1, came {share!r}.")
    place = place_of(core, visitor)
    with place.editing:
        desk, known = desk_of(core, place), place.blend
        start = desk
        if known is not None and known.after is desk and known.choice == choice:
            start = known.before
        other = beside(core, start, choice)
        if other is None:
            raise LayoutError("Choose the calibration to blend with first.")
        title, vector = other
        place.desk = start.blend(vector, float(share))
        place.blend = Blend(start, place.desk, str(choice))
        return place.desk, f"{share:.0%} of “{title}”"


def preview(
    core: Core,
    visitor: object,
    prompt: str,
    seed: float,
    steps: float,
    *,
    on_step: Any = None,
    on_wait: Any = None,
) -> tuple[Shot, Shot]:
    """The base's picture and that of the desk. The base's is kept while prompt, seed and steps stay; an older
    preview of the same visitor is called off."""
    ask = Ask.checked(prompt, seed, steps)
    found = core.visitors.of(visitor)
    place, cancelled = found.place(ScalesPlace), found.begin("preview")
    desk = desk_of(core, place)
    name = core.backbone_name
    kind: ArmKind = "ensemble" if desk.is_ensemble else "calibrated"
    mine = Arm(kind, "Your scales", desk.calibration(name))
    kept = place.base
    if kept is not None and (kept.ask, kept.backbone) != (ask, name):
        kept = None
    arms = [Arm("base", "Base"), mine] if kept is None else [mine]
    shots = shoot(core, arms, ask, on_step=on_step, cancel=cancelled, on_wait=on_wait)
    base = shots[0] if kept is None else kept.shot
    place.base = BasePicture(ask, name, base)
    return base, shots[-1]


def moved(core: Core, visitor: object, payload: object) -> Desk:
    """What the desk's script sent after a move. `sent`, its time by the browser's clock, goes back with every
    answer, so that the script can tell an answer to an earlier move from one to this."""
    place = place_of(core, visitor)
    sent = payload.get("sent") if isinstance(payload, dict) else None
    if isinstance(sent, int) and 0 <= sent < 2**53:
        place.sent = max(place.sent, sent)

    def move(desk: Desk) -> Desk:
        member = payload.get("member") if isinstance(payload, dict) else None
        held = desk.choose(member) if isinstance(member, int) and 0 <= member < len(desk.members) else desk
        return held.set(values_from(payload, desk.layout))

    return change(core, visitor, move)


def desk_value(desk: Desk, sent: int = 0) -> dict[str, Any]:
    """What the desk's script is given. `sent`: the time of the last move that is in it; `member`: whose
    values these are."""
    low = min(RANGE[0], *desk.values)
    high = max(RANGE[1], *desk.values)
    reach = max(1.0 - low, high - 1.0)  # 1.00 stays the middle
    layout = {
        "id": f"{desk.layout.granularity}:{len(desk.layout.names)}:{desk.layout.names[0]}:{reach:.2f}",
        "low": round(1.0 - reach, 2),
        "high": round(1.0 + reach, 2),
        "strips": strips(desk.layout),
    }
    return {"layout": layout, "values": list(desk.values), "sent": sent, "member": desk.at}


def values_from(payload: object, layout: Layout) -> tuple[float, ...]:
    """The values that the desk's script sent back, checked: a browser can send anything."""
    values = payload.get("values") if isinstance(payload, dict) else None
    if not isinstance(values, list):
        raise LayoutError("The desk sent no values. Reload the page.")
    return checked(values, layout)


def kept(core: Core, visitor: object, title: str, alone: bool = False) -> Calibration:
    """The desk as a calibration of this title: all members, or the one in hand alone with weight 1.

    Raises ArtifactError without a title.
    """
    if not isinstance(title, str) or not title.strip():
        raise ArtifactError("Give it a title first.")
    desk = desk_of(core, place_of(core, visitor))
    if alone:
        member = desk.member.model_copy(update={"weight": 1.0, "condition": "positive"})
        desk = Desk(desk.layout, (member,))
    return desk.calibration(core.backbone_name, title.strip())


def file_of(desk: Desk, backbone: str, title: str) -> tuple[str, str]:
    """The desk with all its members as a calibration file: its name and its text."""
    calibration = desk.calibration(backbone, title.strip() or "From the mixing desk")
    stem = "".join(c if c.isalnum() else "-" for c in calibration.title.lower()).strip("-")[:60]
    return f"{stem or 'calibration'}.json", calibration.to_json()
