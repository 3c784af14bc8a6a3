"""What the page Library shows: cards, gains and the chart of two vectors on one layout. No Gradio."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from calibri.backbones.layouts import GRANULARITIES
from calibri.backbones.options import LoadOptions
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import BackboneError, LayoutError
from calibri.interval import Interval
from calibri.words import count, signed
from studio.calibrations import Entry
from studio.library.thumbnails import Thumbnails
from studio.ui.charts import Figure, vector_figure
from studio.ui.templates import fill_template

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

# what the provenance of a calibration may hold, and how the page says it
PROVENANCE = {"how": "found by {}", "by": "made by {}", "rewards": "for {}", "steps": "{} steps"}


def read_gains(calibration: Calibration) -> dict[str, Interval]:
    """Reward → held-out gain over the base, as the provenance has it. A file can hold anything: what is no
    interval is left out."""
    found = calibration.found.get("gains")
    gains = {}
    for name, values in found.items() if isinstance(found, dict) else ():
        try:
            gains[str(name)[:80].removeprefix(f"{calibration.backbone}-")] = Interval.model_validate(values)
        except ValidationError:
            continue
    return gains


def describe_gains(calibration: Calibration) -> str:
    """The first two gains in a few words."""
    known = list(read_gains(calibration).items())[:2]
    if not known:
        return "gain not measured"
    return "gain: " + ", ".join(f"{name} {signed(interval.mean)}" for name, interval in known)


def describe_layout(calibration: Calibration) -> str:
    """Backbone, granularity, scales and members."""
    members = count(len(calibration.members), "member")
    backbone = calibration.backbone or "unknown backbone"
    return f"{backbone} · {calibration.granularity}, {len(calibration.names)} scales · {members}"


def describe_date(entry: Entry) -> str:
    return "came with the studio" if entry.built_in else f"saved {write_time(entry.saved)}"


def write_time(seconds: float) -> str:
    """Seconds since 1970 as date and time, in the time zone of the studio."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def draw_cards(entries: Sequence[Entry], thumbnails: Thumbnails | None, selected: object = "") -> str:
    """All calibrations as buttons with a picture, in the order given."""
    cards = [_card(entry, thumbnails, entry.id == selected) for entry in entries]
    return fill_template("library/cards.html", cards=cards)


def _card(entry: Entry, thumbnails: Thumbnails | None, pressed: bool) -> dict[str, Any]:
    made = entry.calibration
    small = thumbnails.find(made) if thumbnails is not None else None
    return {
        "id": entry.id,
        "title": entry.title,
        "kind": "ensemble" if made.is_ensemble else "calibrated",
        "pressed": pressed,
        "picture": base64.b64encode(small).decode() if small is not None else "",
        "why_none": thumbnails.explain_missing(made)[:120] if thumbnails is not None else "no picture",
        "lines": (describe_layout(made), describe_gains(made), describe_date(entry)),
    }


def name_loading(calibration: Calibration) -> str:
    """How the backbone was loaded that it was found on, in words; empty for as usual."""
    try:
        return LoadOptions.from_json(calibration.found.get("loading", {})).words[:160]
    except BackboneError:  # of another version, or by hand
        return ""


def draw_details(entry: Entry) -> str:
    """How a calibration was found, and its gains with their intervals."""
    made = entry.calibration
    about = [describe_layout(made), describe_date(entry)]
    for key, words in PROVENANCE.items():
        value = made.found.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            about.append(words.format(str(value)[:160]))
    if loaded := name_loading(made):
        about.append(f"the backbone was loaded with {loaded}")
    gains = read_gains(made)
    counts = {interval.n for interval in gains.values()}
    pairs = counts.pop() if len(counts) == 1 else 0
    return fill_template("library/details.html", title=entry.title, about=about, gains=gains, pairs=pairs)


# two of them


def pick_member(calibration: Calibration) -> Member:
    """The member that a chart of one vector shows: the first positive one."""
    return next((m for m in calibration.members if m.condition == "positive"), calibration.members[0])


def put_on_one_layout(
    first: Calibration, second: Calibration, backbone: Backbone | None
) -> tuple[Calibration, Calibration, str]:
    """Both with the same names, and a remark on what was done for that. Raises LayoutError that says why they
    cannot be compared."""
    if first.backbone != second.backbone:
        raise LayoutError(
            f"“{first.title}” is for {first.backbone or 'an unknown backbone'}, “{second.title}” for "
            f"{second.backbone or 'an unknown backbone'}: their scales drive different blocks, so that "
            "there is no common chart."
        )
    if first.names == second.names:
        return first, second, ""
    if backbone is None or backbone.spec.name != first.backbone:
        raise LayoutError(
            f"Their layouts differ ({first.granularity} and {second.granularity} granularity). Load "
            f"{first.backbone} to see both on the finer one."
        )
    finer = max(first.granularity, second.granularity, key=GRANULARITIES.index)
    layout = backbone.layout(finer)
    remark = ""
    if first.granularity != second.granularity:
        coarse = first if first.granularity != finer else second
        remark = (
            f"Their layouts differ: “{coarse.title}” has one scale for each {coarse.granularity}, drawn here "
            f"at every {finer} that it drives."
        )
    return first.on_layout(layout), second.on_layout(layout), remark


def draw_vectors(
    first: Calibration, second: Calibration | None, backbone: Backbone | None
) -> tuple[Figure, str]:
    """The chart of one or two calibrations and a remark in plain text. `second` None: the base, whose scales
    are the line at 1.00."""
    remarks = []
    other: Calibration | None = None
    if second is not None:
        try:
            first, other, remark = put_on_one_layout(first, second, backbone)
            remarks.append(remark)
        except LayoutError as error:
            remarks.append(str(error))
    remarks += [
        f"“{each.title}” has {len(each.members)} members; the chart shows its first positive one."
        for each in (first, other)
        if each is not None and each.is_ensemble
    ]
    beside = () if other is None else (list(pick_member(other).scales), other.title)
    figure = vector_figure(first.names, list(pick_member(first).scales), *beside)
    return figure, " ".join(filter(None, remarks))
