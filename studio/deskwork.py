"""What the page Scales does, without the page: a visitor's desk, its edits, its pictures and its files. No
Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calibri.calibration.artifact import Calibration
from calibri.calibration.layout import Layout
from calibri.calibration.vector_text import parse_vector
from calibri.errors import LayoutError
from studio.arms import Arm, Ask, Shot, calibration_of_desk, shoot
from studio.desk import Desk, checked, strips
from studio.services import Services
from studio.visitors import Visitor

RANGE = (0.0, 2.0)


def desk_of(services: Services, place: Visitor, granularity: str | None = None) -> Desk:
    """The visitor's desk for the loaded backbone, at this granularity (values are carried over), made when
    there is none."""
    backbone = services.host.wait_ready()
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
    place.desk = edit(desk_of(services, place))
    return place.desk


def from_text(services: Services, visitor: object, text: str) -> Desk:
    """The vector as a visitor typed it. Raises LayoutError with the line that does not fit."""
    return change(services, visitor, lambda desk: desk.set(parse_vector(text, desk.layout)))


def opened(services: Services, visitor: object, calibration: Calibration) -> tuple[Desk, str]:
    """Put a calibration on the desk, at its own granularity. Returns the desk and a remark (empty: nothing
    to say)."""
    place = services.visitors.of(visitor)
    backbone = services.host.wait_ready()
    fitting = calibration.on_layout(backbone.layout(calibration.granularity))
    member = next((m for m in fitting.members if m.condition == "positive"), fitting.members[0])
    place.desk = desk_of(services, place, calibration.granularity).set(member.scales)
    remark = ""
    if calibration.is_ensemble:
        remark = f"An ensemble of {len(calibration.members)} members: the desk shows its first positive one."
    return place.desk, remark


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
    mine = Arm("calibrated", "Calibrated", calibration_of_desk(desk, name))
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
    return change(services, visitor, lambda desk: desk.set(values_from(payload, desk.layout)))


def desk_value(desk: Desk, sent: int = 0) -> dict[str, Any]:
    """What the desk's script is given. `sent`: the time of the last move that is in it."""
    low = min(RANGE[0], *desk.values)
    high = max(RANGE[1], *desk.values)
    reach = max(1.0 - low, high - 1.0)  # 1.00 stays the middle
    layout = {
        "id": f"{desk.layout.granularity}:{len(desk.layout.names)}:{desk.layout.names[0]}:{reach:.2f}",
        "low": round(1.0 - reach, 2),
        "high": round(1.0 + reach, 2),
        "strips": strips(desk.layout),
    }
    return {"layout": layout, "values": list(desk.values), "sent": sent}


def values_from(payload: object, layout: Layout) -> tuple[float, ...]:
    """The values that the desk's script sent back, checked: a browser can send anything."""
    values = payload.get("values") if isinstance(payload, dict) else None
    if not isinstance(values, list):
        raise LayoutError("The desk sent no values. Reload the page.")
    return checked(values, layout)


def file_of(desk: Desk, backbone: str, title: str) -> tuple[str, str]:
    """The desk as a calibration file: its name and its text."""
    calibration = calibration_of_desk(desk, backbone, title.strip() or "From the mixing desk")
    stem = "".join(c if c.isalnum() else "-" for c in calibration.title.lower()).strip("-")[:60]
    return f"{stem or 'calibration'}.json", calibration.to_json()
