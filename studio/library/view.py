"""What the page Library shows and does, without the page: cards, gains, two vectors on one layout, files. No
Gradio."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from calibri.backbones.layouts import GRANULARITIES
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import ArtifactError, CalibriError, LayoutError
from calibri.interval import Interval
from calibri.words import signed
from studio.calibrations import CalibrationStore, Entry, read_file
from studio.library.thumbnails import Thumbnails
from studio.ui.charts import Figure, vector_figure

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

MOST_FILES = 50  # in one import


# what is known of one


def gains(calibration: Calibration) -> dict[str, Interval]:
    """Reward → held-out gain over the base, as the provenance has it. A file can say anything: what is no
    interval is left out."""
    found = calibration.found.get("gains")
    made = {}
    for name, values in found.items() if isinstance(found, dict) else ():
        try:
            made[str(name)[:80].removeprefix(f"{calibration.backbone}-")] = Interval.model_validate(values)
        except ValidationError:
            continue
    return made


def gain_line(calibration: Calibration) -> str:
    """The first two gains in a few words, or that there are none."""
    known = list(gains(calibration).items())[:2]
    if not known:
        return "gain not measured"
    return "gain: " + ", ".join(f"{name} {signed(interval.mean)}" for name, interval in known)


def facts_line(calibration: Calibration) -> str:
    """Backbone, granularity, scales and members."""
    members = f"{len(calibration.members)} members" if calibration.is_ensemble else "1 member"
    backbone = calibration.backbone or "unknown backbone"
    return f"{backbone} · {calibration.granularity}, {len(calibration.names)} scales · {members}"


def date_of(entry: Entry) -> str:
    if entry.built_in:
        return "came with the studio"
    return f"saved {moment(entry.saved)}"


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date with its time, of the studio's own clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def card(entry: Entry, thumbnails: Thumbnails | None, pressed: bool) -> str:
    """One calibration as a button with its picture."""
    made = entry.calibration
    small = thumbnails.find(made) if thumbnails is not None else None
    if small is not None:
        data = base64.b64encode(small).decode()
        picture = f"<img alt='' src='data:image/webp;base64,{data}'>"
    else:
        why = thumbnails.why_not(made) if thumbnails is not None else "no picture"
        picture = f"<span class='none'>{html.escape(why[:120])}</span>"
    kind = "ensemble" if made.is_ensemble else "calibrated"
    rest = "".join(
        f"<span class='sub'>{html.escape(words)}</span>"
        for words in (facts_line(made), gain_line(made), date_of(entry))
    )
    return (
        f"<button type='button' class='card arm-{kind}' data-id='{html.escape(entry.id, quote=True)}' "
        f"aria-pressed='{str(pressed).lower()}'><span class='shot'>{picture}</span>"
        f"<span class='name'>{html.escape(entry.title)}</span>{rest}</button>"
    )


def cards(entries: Sequence[Entry], thumbnails: Thumbnails | None, selected: object = "") -> str:
    """All calibrations, in the order given."""
    if not entries:
        return (
            "<div class='empty'>Saved calibrations will stand here. Save one on the page "
            "<a href='scales'>Scales</a>, keep the result of a search, or import a file.</div>"
        )
    drawn = "".join(card(entry, thumbnails, entry.id == selected) for entry in entries)
    return f"<div class='shelf' role='group' aria-label='Calibrations'>{drawn}</div>"


def details(entry: Entry | None) -> str:
    """How the chosen one was found, and its gains with their intervals."""
    if entry is None:
        return "<div class='empty'>Choose a calibration above: its pictures and scales appear here.</div>"
    made = entry.calibration
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td class='n'>{signed(i.mean)}</td>"
        f"<td class='n sub'>[{signed(i.low)}, {signed(i.high)}]</td><td class='sub'>{i.verdict}</td></tr>"
        for name, i in gains(made).items()
    )
    counts = {i.n for i in gains(made).values()}
    over = f"over {counts.pop()} held-out pairs, " if len(counts) == 1 else ""
    table = (
        f"<table aria-label='gains'>{rows}</table><div class='sub'>Gain over the base, {over}95 %.</div>"
        if rows
        else "<div class='sub'>Its gain over the base was not measured.</div>"
    )
    about = [facts_line(made), date_of(entry)]
    for key, words in (
        ("how", "found by {}"),
        ("by", "made by {}"),
        ("rewards", "for {}"),
        ("steps", "{} steps"),
    ):
        value = made.found.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            about.append(words.format(str(value)[:160]))
    return (
        f"<div class='about'><div class='title'>{html.escape(entry.title)}</div>"
        f"<div class='sub'>{html.escape(' · '.join(about))}</div>{table}</div>"
    )


# two of them


def shown_member(calibration: Calibration) -> Member:
    """The member that a chart of one vector shows: the first positive one."""
    return next((m for m in calibration.members if m.condition == "positive"), calibration.members[0])


def on_one_layout(
    first: Calibration, second: Calibration, backbone: Backbone | None
) -> tuple[Calibration, Calibration, str]:
    """Both with the same names, and a remark on what was done for that. Raises LayoutError that says in words
    why they cannot be compared."""
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


def vectors(first: Calibration, second: Calibration | None, backbone: Backbone | None) -> tuple[Figure, str]:
    """The chart of one or two calibrations and a remark in plain text. `second` None: the base, whose scales
    are the line at 1.00."""
    remarks = []
    other: Calibration | None = None
    if second is not None:
        try:
            first, other, remark = on_one_layout(first, second, backbone)
            remarks.append(remark)
        except LayoutError as error:
            remarks.append(str(error))
    for each in (first, other):
        if each is not None and each.is_ensemble:
            remarks.append(
                f"“{each.title}” has {len(each.members)} members; the chart shows its first positive one."
            )
    scales = list(shown_member(first).scales)
    if other is None:
        figure = vector_figure(first.names, scales)
    else:
        figure = vector_figure(first.names, scales, list(shown_member(other).scales), other.title)
    return figure, " ".join(filter(None, remarks))


# files


def take_in(store: CalibrationStore, paths: Sequence[str | Path]) -> tuple[list[Entry], list[str]]:
    """Import files: the entries that came in, and a sentence for every file that did not."""
    if len(paths) > MOST_FILES:
        raise ArtifactError(f"{len(paths)} files are too many at once; {MOST_FILES} are the most.")
    came, refused = [], []
    for path in map(Path, paths):
        try:
            came.append(store.save(read_file(path)))
        except CalibriError as error:
            refused.append(f"{path.name} did not come in: {error}.".replace("..", "."))
    return came, refused


def import_words(came: Sequence[Entry], refused: Sequence[str]) -> str:
    """What an import did, in plain text."""
    parts = []
    if came:
        parts.append("Imported " + ", ".join(f"“{entry.title}”" for entry in came) + ".")
    return " ".join([*parts, *refused])
