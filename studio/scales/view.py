"""What the page Scales shows: values for its components, from a desk. Pure but for Gradio's updates."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from calibri.calibration.artifact import Member
from calibri.calibration.vector_text import format_vector
from calibri.words import signed
from studio.core import Core
from studio.scales.desk import MOST_MEMBERS, Desk
from studio.scales.edits import BASE, beside, desk_value
from studio.scales.place import ScalesPlace
from studio.ui.charts import vector_figure

IDLE = "Drag a slider; double-click resets it; hold Shift and drag to draw a curve."
KEYS = "↑ ↓ move it, Shift and ← → go to its neighbour, Delete resets it"
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
DESK_HTML = f"""<div class='desk-box'><a class='desk-past' href='#desk-tools'>Past the sliders</a>
<div class='desk-top'>
<span class='desk-readout' role='status' data-idle='{IDLE}' data-keys='{KEYS}'>{IDLE}</span>
<span class='desk-key'><span><i class='key-attn'></i>attention</span><span><i class='key-mlp'></i>MLP</span>
<span><i class='key-fused'></i>fused</span><span><i class='key-txt'></i>text stream</span></span></div>
<div class='desk' tabindex='-1'></div></div>"""


def summary(desk: Desk | None, remark: str = "") -> str:
    """One line on the vector in hand."""
    if desk is None:
        return "<span class='aside'>The backbone is loading; its scales appear above.</span>"
    changed = sum(abs(v - 1) >= 0.005 for v in desk.values)
    words = f"{len(desk.values)} scales, {f'{changed} moved' if changed else 'all at 1.00'}"
    return f"<span class='aside'>{html.escape(' · '.join(filter(None, (words, remark))))}</span>"


def tab_of(number: int, member: Member) -> str:
    """A member in a few words: `1: positive × 1.50`."""
    weight = f"{member.weight:.2f}".replace("-", "−")
    return f"{number}: {member.condition} × {weight}"


def sum_words(desk: Desk) -> str:
    """What the members are together, as HTML; nothing for a single one of weight 1."""
    if is_plain(desk):
        return "<span class='aside'>One member. Add another to make an ensemble.</span>"
    total = sum(m.weight for m in desk.members)
    told = f"Weights add up to {total:.2f}".replace("-", "−")
    if abs(total - 1) > 0.005:
        told += f" ({signed(total - 1)} from 1: pictures may come out flat or glaring)"
    return f"<span class='aside'>{told}.</span>"


def is_plain(desk: Desk) -> bool:
    """Whether the desk is one vector and nothing else: then weight and condition need not be seen."""
    return not desk.is_ensemble and desk.member.weight == 1 and desk.member.condition == "positive"


def members_of(desk: Desk) -> list[Any]:
    """Updates of: tabs, weight, condition, add, remove, words."""
    tabs = [(tab_of(i + 1, m), i) for i, m in enumerate(desk.members)]
    return [
        gr.Radio(tabs, value=desk.at),
        gr.Number(desk.member.weight, visible=not is_plain(desk)),
        gr.Dropdown(CONDITIONS, value=desk.member.condition, visible=not is_plain(desk)),
        gr.Button(interactive=len(desk.members) < MOST_MEMBERS),
        gr.Button(interactive=desk.is_ensemble, visible=not is_plain(desk)),
        sum_words(desk),
    ]


def figure_of(core: Core, place: ScalesPlace) -> Any:
    """The bars of the vector in hand, against what the visitor chose beside it."""
    desk = place.desk
    if desk is None:
        return None
    other = beside(core, desk, place.beside)
    title, vector = other if other else ("", None)
    return vector_figure(desk.layout.names, desk.values, vector, title)


def drawn(core: Core, place: ScalesPlace, remark: str = "", *, members: bool = True) -> list[Any]:
    """The outputs that follow every change: desk, text, chart, plain values, summary, undo, redo, and those
    of the members. `members`: False for a change of one vector alone, so that its answer does not take the
    place of a weight that somebody is typing."""
    desk = place.desk
    assert desk is not None
    about = members_of(desk)
    if not members:
        about = [gr.skip()] * (len(about) - 1) + about[-1:]
    return [
        desk_value(desk, place.sent),
        format_vector(desk.values, desk.layout),
        figure_of(core, place),
        list(desk.values),
        summary(desk, remark),
        gr.Button(interactive=bool(desk.past)),
        gr.Button(interactive=bool(desk.future)),
        *about,
    ]


def saved_choices(core: Core) -> list[tuple[str, str]]:
    """(title, id) of the calibrations of the loaded backbone."""
    entries = core.calibrations.entries(core.backbone_name)
    return [
        (f"{e.title} ({len(e.calibration.members)} members)" if e.calibration.is_ensemble else e.title, e.id)
        for e in entries
    ]


def beside_choices(core: Core) -> list[tuple[str, str]]:
    """What a vector can be compared and blended with."""
    return [("Nothing", ""), ("Base: all scales 1", BASE), *saved_choices(core)]
