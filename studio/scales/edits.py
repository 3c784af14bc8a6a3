"""What the page Scales does, without the page: a visitor's desk, its edits, its pictures and its files. No
Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Calibration
from calibri.calibration.vector_text import parse_vector
from calibri.errors import ArtifactError, LayoutError
from studio.core import Services
from studio.rendering.arms import Arm, ArmKind
from studio.rendering.asks import Ask
from studio.rendering.shots import Shot, shoot
from studio.scales.desk import Desk, checked, strips
from studio.visitors import Visitor

RANGE = (0.0, 2.0)


def desk_of(services: Services, place: Visitor, granularity: str | None = None) -> Desk:
    """The visitor's desk for the loaded backbone, at this granularity (values are carried over), made when
    there is none."""
    backbone = services.host.wait_ready()
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


def change(services: Services, visitor: object, edit: Callable[[Desk], Desk]) -> Desk:
    """Apply one edit to the visitor's desk and keep the result. An error of the edit leaves it as it was."""
    place = services.visitors.of(visitor)
    services.host.wait_ready()
    with place.editing:
        place.desk = edit(desk_of(services, place))
        return place.desk


def from_text(services: Services, visitor: object, text: str) -> Desk:
    """The vector as a visitor typed it. Raises LayoutError with the line that does not fit."""
    return change(services, visitor, lambda desk: desk.set(parse_vector(text, desk.layout)))


def opened(services: Services, visitor: object, calibration: Calibration) -> tuple[Desk, str]:
    """Put a calibration with all its members on the desk, at its own granularity. Returns the desk and a
    remark (empty: nothing to say)."""
    place = services.visitors.of(visitor)
    backbone = services.host.wait_ready()
    fitting = calibration.on_layout(backbone.layout(calibration.granularity))
    with place.editing:
        place.desk = desk_of(services, place, calibration.granularity).hold(fitting.members)
    title = calibration.title or "a calibration"
    members = f", {len(calibration.members)} members" if calibration.is_ensemble else ""
    return place.desk, f"opened “{title}”{members}"


def added(services: Services, visitor: object, calibration: Calibration | None = None) -> Desk:
    """More members on the desk: those of a calibration, or one that starts as the member in hand."""

    def more(desk: Desk) -> Desk:
        return desk.add(calibration.on_layout(desk.layout).members if calibration else (desk.member,))

    return change(services, visitor, more)


def of_member(services: Services, visitor: object, at: object, edit: Callable[[Desk], Desk]) -> Desk:
    """One edit of the member at this place, whichever is in hand by now."""
    if isinstance(at, bool) or not isinstance(at, int):
        raise LayoutError("Choose a member first.")

    def there(desk: Desk) -> Desk:
        changed = edit(desk.choose(at))
        return changed.choose(desk.at) if desk.at < len(changed.members) else changed

    return change(services, visitor, there)


BASE = "base"  # the choice that means: all scales 1


def beside(services: Services, desk: Desk, choice: str | None) -> tuple[str, tuple[float, ...]] | None:
    """(title, vector on the desk's layout) of what the desk is compared or blended with: a saved
    calibration's id, BASE, or empty for nothing. Of an ensemble it is the member at the same place as the
    one in hand, or the first positive one."""
    if not choice:
        return None
    if choice == BASE:
        return "base", (1.0,) * len(desk.layout.names)
    entry = services.calibrations.get(choice)
    members = entry.calibration.on_layout(desk.layout).members
    if len(members) == 1:
        return entry.title, members[0].scales
    positive = next((i for i, m in enumerate(members) if m.condition == "positive"), 0)
    at = desk.at if desk.is_ensemble and desk.at < len(members) else positive
    return f"{entry.title}, member {at + 1}", members[at].scales


def blended(services: Services, visitor: object, choice: str | None, share: float) -> tuple[Desk, str]:
    """`share` (0 to 1) of another calibration in the vector in hand. Moved again, the share counts from the
    vector before the first move, and all of it is one step to undo."""
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
        raise LayoutError(f"The share is a number from 0 to 1, came {share!r}.")
    place = services.visitors.of(visitor)
    with place.editing:
        desk, known = desk_of(services, place), place.blend
        start = known[0] if known is not None and known[1] is desk and known[2] == choice else desk
        other = beside(services, start, choice)
        if other is None:
            raise LayoutError("Choose the calibration to blend with first.")
        title, vector = other
        place.desk = start.blend(vector, float(share))
        place.blend = (start, place.desk, str(choice))
        return place.desk, f"{share:.0%} of “{title}”"


def preview(
    services: Services,
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
    place = services.visitors.of(visitor)
    cancelled = place.begin("preview")
    desk = desk_of(services, place)
    name = services.host.status.backbone
    kind: ArmKind = "ensemble" if desk.is_ensemble else "calibrated"
    mine = Arm(kind, "Your scales", desk.calibration(name))
    kept = place.base
    fresh = kept is None or kept[0] != (ask, name)
    arms = [Arm("base", "Base"), mine] if fresh else [mine]
    shots = shoot(services, arms, ask, on_step=on_step, cancel=cancelled, on_wait=on_wait)
    base = shots[0] if kept is None or fresh else kept[1]
    place.base = ((ask, name), base)
    return base, shots[-1]


def moved(services: Services, visitor: object, payload: object) -> Desk:
    """What the desk's script sent after a move. `sent`, its time by the browser's clock, goes back with every
    answer, so that the script can tell an answer to an earlier move from one to this."""
    place = services.visitors.of(visitor)
    sent = payload.get("sent") if isinstance(payload, dict) else None
    if isinstance(sent, int) and 0 <= sent < 2**53:
        place.sent = max(place.sent, sent)

    def move(desk: Desk) -> Desk:
        member = payload.get("member") if isinstance(payload, dict) else None
        held = desk.choose(member) if isinstance(member, int) and 0 <= member < len(desk.members) else desk
        return held.set(values_from(payload, desk.layout))

    return change(services, visitor, move)


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


def kept(services: Services, visitor: object, title: str, alone: bool = False) -> Calibration:
    """The desk as a calibration of this title: all members, or the one in hand alone with weight 1.

    Raises ArtifactError without a title.
    """
    if not isinstance(title, str) or not title.strip():
        raise ArtifactError("Give it a title first.")
    desk = desk_of(services, services.visitors.of(visitor))
    if alone:
        member = desk.member.model_copy(update={"weight": 1.0, "condition": "positive"})
        desk = Desk(desk.layout, (member,))
    return desk.calibration(services.host.status.backbone, title.strip())


def file_of(desk: Desk, backbone: str, title: str) -> tuple[str, str]:
    """The desk with all its members as a calibration file: its name and its text."""
    calibration = desk.calibration(backbone, title.strip() or "From the mixing desk")
    stem = "".join(c if c.isalnum() else "-" for c in calibration.title.lower()).strip("-")[:60]
    return f"{stem or 'calibration'}.json", calibration.to_json()
