"""What the page Scales shows: values for its components, from a desk. Pure but for Gradio's updates."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import gradio as gr

from calibri.calibration.artifact import Member
from calibri.calibration.guidance import USUAL_PHASE, USUAL_STRENGTH, Preset
from calibri.calibration.phases import describe_phase, weights_at
from calibri.calibration.vector_text import format_vector
from studio.core import Core
from studio.rendering.shots import Shot, facts
from studio.scales.desk import MOST_MEMBERS, Desk
from studio.scales.edits import BASE, describe_desk, find_other
from studio.scales.place import ScalesPlace
from studio.ui.charts import Figure, vector_figure
from studio.ui.elements import aside, caption, serve_enlarged
from studio.ui.templates import fill_template

SAVE_SCRIPT = """(name, text) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  link.download = name; link.click(); URL.revokeObjectURL(link.href);
}"""
TOOLS = {
    "undo": "Undo",
    "redo": "Redo",
    "weaker": "Weaken",
    "stronger": "Strengthen",
    "mirror": "Mirror",
    "reset": "Reset all",
}
CONDITIONS = [("Positive: the prompt", "positive"), ("Negative: no prompt", "negative")]
USUAL_SUM = (0.5, 1.75)  # of weights; the guided ensemble that a search found here has 1.35


def write_summary(desk: Desk | None, remark: str = "") -> str:
    """One line on the vector in hand, as HTML."""
    if desk is None:
        return aside("The backbone is loading; its scales will appear above.")
    changed = sum(abs(v - 1) >= 0.005 for v in desk.values)
    words = f"{len(desk.values)} scales, {f'{changed} moved' if changed else 'all at 1.00'}"
    return aside(" · ".join(filter(None, (words, remark))))


def write_notice(place: ScalesPlace) -> str:
    """What is said of the desk's draft, as HTML; nothing where there is nothing to say. The page's script
    puts the time into the reader's own zone."""
    brought, problem = place.notice
    if not brought and not problem:
        return ""
    when = datetime.fromtimestamp(brought, UTC).isoformat(timespec="seconds")
    clock = time.strftime("%H:%M", time.localtime(brought))
    return fill_template("scales/draft.html", problem=problem, when=when, clock=clock)


def name_member(number: int, member: Member) -> str:
    """A member in a few words: `1: positive × 1.50`."""
    weight = f"{member.weight:.2f}".replace("-", "−")
    return ", ".join(filter(None, (f"{number}: {member.condition} × {weight}", describe_phase(member))))


def write_sum(desk: Desk) -> str:
    """What the members are together, as HTML."""
    if is_plain(desk):
        return aside("One member. Add another to make an ensemble.")
    # Balanced members change no sum. Steps in hundredths: as fine as the fields are.
    sums = [sum(weights_at(desk.members, step, 100)) for step in range(100)]
    total = max(sums, key=lambda found: abs(found - 1))
    words = f"Weights add up to {total:.2f}".replace("-", "−")
    low, high = USUAL_SUM
    if max(sums) - min(sums) > 0.005:
        words += " in a part of the steps"
    if not low <= total <= high:
        words += f", far from 1: pictures may come out {'flat' if total < low else 'too bright'}"
    return aside(f"{words}.")


def is_plain(desk: Desk) -> bool:
    """Whether the desk is one vector and nothing else: weight and condition are hidden then."""
    return desk.members == (Member(scales=desk.values),)


class PresetFields(NamedTuple):
    """What the fields of a preset hold at first. `of`: how its text field is shown."""

    of: dict[str, Any]
    strength: float
    start: float
    stop: float


def show_preset(preset: Preset) -> PresetFields:
    """The fields for a preset, with its usual numbers."""
    weaker = "base, a factor of all scales, or a saved title"
    label, info = {
        "cfg": ("Blocks", "for this preset: none"),
        "auto": ("What is weaker", weaker),
    }.get(preset, ("Blocks", "7-9, or double.1,double.2"))
    start, stop = USUAL_PHASE.get(preset, (0.0, 1.0))
    of: dict[str, Any] = {"label": label, "placeholder": info, "interactive": preset != "cfg"}
    return PresetFields(of, USUAL_STRENGTH[preset], start, stop)


def show_members(desk: Desk) -> list[Any]:
    """Updates of: tabs, weight, condition, start, stop, balanced, add, remove, words."""
    tabs = [(name_member(i + 1, member), i) for i, member in enumerate(desk.members)]
    return [
        gr.Radio(tabs, value=desk.at),
        gr.Number(desk.member.weight, visible=not is_plain(desk)),
        gr.Dropdown(CONDITIONS, value=desk.member.condition, visible=not is_plain(desk)),
        gr.Number(desk.member.start, visible=not is_plain(desk)),
        gr.Number(desk.member.stop, visible=not is_plain(desk)),
        gr.Checkbox(desk.member.balanced, visible=not is_plain(desk)),
        gr.Button(interactive=len(desk.members) < MOST_MEMBERS),
        gr.Button(interactive=desk.is_ensemble, visible=not is_plain(desk)),
        write_sum(desk),
    ]


def draw_bars(core: Core, place: ScalesPlace) -> Figure | None:
    """The vector in hand, against what the visitor chose beside it."""
    desk = place.desk
    if desk is None:
        return None
    title, vector = find_other(core, desk, place.beside) or ("", None)
    return vector_figure(desk.layout.names, desk.values, vector, title)


def show_desk(core: Core, place: ScalesPlace, remark: str = "", *, members: bool = True) -> list[Any]:
    """Values of `Page.after`, which follow every change of the desk. `members`: False for a change of one
    vector alone: the answer then does not overwrite a weight that somebody is typing."""
    desk = place.desk
    assert desk is not None
    about = show_members(desk)
    if not members:
        about = [gr.skip()] * (len(about) - 1) + about[-1:]
    return [
        describe_desk(desk, place.sent),
        format_vector(desk.values, desk.layout),
        draw_bars(core, place),
        list(desk.values),
        write_summary(desk, remark),
        write_notice(place),
        gr.Button(interactive=bool(desk.past)),
        gr.Button(interactive=bool(desk.future)),
        *about,
    ]


def show_pictures(base: Shot, mine: Shot) -> list[Any]:
    """Values of `Page.pictures`."""
    kind = mine.arm.kind
    name = "Your ensemble" if kind == "ensemble" else "Your scales"
    classes = ["stage", f"arm-{kind}"]
    return [
        serve_enlarged(base.image),
        caption("base", "Base", facts(base), base.rewards),
        gr.Image(serve_enlarged(mine.image), elem_classes=classes, label=name, alt_text=name),
        caption(kind, name, facts(mine), mine.rewards, base.rewards),
    ]


def list_saved(core: Core) -> list[tuple[str, str]]:
    """(title, id) of the calibrations of the loaded backbone."""
    entries = core.fitting_calibrations()
    return [
        (f"{e.title} ({len(e.calibration.members)} members)" if e.calibration.is_ensemble else e.title, e.id)
        for e in entries
    ]


def list_others(core: Core) -> list[tuple[str, str]]:
    """What a vector can be compared and blended with."""
    return [("Nothing", ""), ("Base: all scales 1", BASE), *list_saved(core)]
