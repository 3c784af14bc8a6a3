"""What the page Scales shows: values for its components, from a desk. Pure but for Gradio's updates."""

from __future__ import annotations

from typing import Any

import gradio as gr

from calibri.calibration.artifact import Member
from calibri.calibration.vector_text import format_vector
from calibri.words import signed
from studio.core import Core
from studio.rendering.shots import Shot, facts
from studio.scales.desk import MOST_MEMBERS, Desk
from studio.scales.edits import BASE, describe_desk, find_other
from studio.scales.place import ScalesPlace
from studio.ui.charts import Figure, vector_figure
from studio.ui.elements import aside, caption, serve_enlarged

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


def write_summary(desk: Desk | None, remark: str = "") -> str:
    """One line on the vector in hand, as HTML."""
    if desk is None:
        return aside("The backbone is loading; its scales will appear above.")
    changed = sum(abs(v - 1) >= 0.005 for v in desk.values)
    words = f"{len(desk.values)} scales, {f'{changed} moved' if changed else 'all at 1.00'}"
    return aside(" · ".join(filter(None, (words, remark))))


def name_member(number: int, member: Member) -> str:
    """A member in a few words: `1: positive × 1.50`."""
    weight = f"{member.weight:.2f}".replace("-", "−")
    return f"{number}: {member.condition} × {weight}"


def write_sum(desk: Desk) -> str:
    """What the members are together, as HTML."""
    if is_plain(desk):
        return aside("One member. Add another to make an ensemble.")
    total = sum(member.weight for member in desk.members)
    words = f"Weights add up to {total:.2f}".replace("-", "−")
    if abs(total - 1) > 0.005:
        words += f" ({signed(total - 1)} from 1: pictures may come out flat or too bright)"
    return aside(f"{words}.")


def is_plain(desk: Desk) -> bool:
    """Whether the desk is one vector and nothing else: weight and condition are hidden then."""
    return not desk.is_ensemble and desk.member.weight == 1 and desk.member.condition == "positive"


def show_members(desk: Desk) -> list[Any]:
    """Updates of: tabs, weight, condition, add, remove, words."""
    tabs = [(name_member(i + 1, member), i) for i, member in enumerate(desk.members)]
    return [
        gr.Radio(tabs, value=desk.at),
        gr.Number(desk.member.weight, visible=not is_plain(desk)),
        gr.Dropdown(CONDITIONS, value=desk.member.condition, visible=not is_plain(desk)),
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
    entries = core.calibrations.entries(core.backbone_name)
    return [
        (f"{e.title} ({len(e.calibration.members)} members)" if e.calibration.is_ensemble else e.title, e.id)
        for e in entries
    ]


def list_others(core: Core) -> list[tuple[str, str]]:
    """What a vector can be compared and blended with."""
    return [("Nothing", ""), ("Base: all scales 1", BASE), *list_saved(core)]
