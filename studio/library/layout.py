"""The components of the page Library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from calibri.calibration.reading import ENDINGS
from studio.library.form import BASE
from studio.library.thumbnails import PROMPT, SEED
from studio.rendering.view import lay_out_seed, steps_slider
from studio.ui.elements import caption, chart, empty, lead, picture, primary_button, read_beside

LEAD = "The calibrations of this studio. Choose one to see what it does, beside the base or another one."
NONE_CHOSEN = "Choose a calibration above: its pictures and scales appear here."
FORMS = [
    ("JSON: the whole calibration", "json"),
    ("Text: one member's scales", "text"),
    ("CSV: one member's scales", "csv"),
]


@dataclass(frozen=True)
class Shelf:
    """All calibrations."""

    undo: gr.Button
    upload: gr.UploadButton
    remark: gr.HTML
    cards: gr.HTML


@dataclass(frozen=True)
class Chosen:
    """The one that was chosen, and what can be done with it."""

    about: gr.HTML
    title: gr.Textbox
    rename: gr.Button
    scales: gr.Button
    compare: gr.Button
    duplicate: gr.Button
    export: gr.Button
    form: gr.Dropdown
    delete: gr.Button


@dataclass(frozen=True)
class Pair:
    """It and what stands beside it. `seen`: picture and caption of each."""

    beside: gr.Dropdown
    prompt: gr.Textbox
    seed: gr.Textbox
    steps: gr.Slider
    run: gr.Button
    bars: gr.HTML
    note: gr.HTML
    seen: list[Any] = field(default_factory=list)

    @property
    def ask(self) -> list[Any]:
        return [self.prompt, self.seed, self.steps]


def lay_out_shelf(cards: str) -> Shelf:
    with gr.Row(equal_height=True):
        lead(LEAD, __file__, "library.css", min_width=300)
        undo = gr.Button("Undo", visible=False, scale=0, min_width=200, elem_id="library-undo")
        upload = gr.UploadButton(
            "Import files",
            file_types=list(ENDINGS),
            file_count="multiple",
            scale=0,
            min_width=130,
            elem_id="library-import",
        )
    remark = gr.HTML("", elem_id="library-told")
    script = read_beside(__file__, "library.js")
    shown = gr.HTML(cards, js_on_load=script, apply_default_css=False, elem_id="library-cards")
    return Shelf(undo, upload, remark, shown)


def lay_out_chosen() -> Chosen:
    def button(text: str, name: str, **options: Any) -> gr.Button:
        return gr.Button(text, elem_id=f"library-{name}", **options)

    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            about = gr.HTML(empty(NONE_CHOSEN), elem_id="library-about")
        with gr.Column(scale=2, min_width=300):
            with gr.Row(equal_height=True):
                title = gr.Textbox(
                    label="Title", max_lines=1, scale=3, min_width=180, elem_id="library-title"
                )
                rename = button("Rename", "rename", scale=0, min_width=90)
            with gr.Row():
                scales = button("Open in Scales", "open", min_width=120)
                compare = button("Compare with base", "compare", min_width=140)
            with gr.Row():
                form = gr.Dropdown(
                    FORMS,
                    value="json",
                    label="Export as",
                    show_label=False,
                    container=False,
                    filterable=False,
                    min_width=150,
                    elem_id="library-form",
                )
                export, duplicate, delete = (
                    button(text, text.lower(), size="sm", min_width=80)
                    for text in ("Export", "Duplicate", "Delete")
                )
    return Chosen(about, title, rename, scales, compare, duplicate, export, form, delete)


def lay_out_pair() -> Pair:
    with gr.Row(equal_height=True):
        beside = gr.Dropdown(
            [("Base: all scales 1.00", BASE)],
            value=BASE,
            label="Beside it",
            scale=3,
            min_width=200,
            elem_id="library-beside",
        )
        prompt = gr.Textbox(PROMPT, label="Prompt", max_lines=2, scale=5, min_width=260, elem_id="prompt")
        seed = lay_out_seed(SEED)
        steps = steps_slider(8, label="Steps", scale=2, min_width=150, elem_id="steps")
        run = primary_button("Render", "render", scale=0, min_width=100)
    seen: list[Any] = []
    with gr.Row():
        for side, arm, label in (("left", "calibrated", "The chosen one"), ("right", "base", "Beside it")):
            with gr.Column(min_width=300):
                seen.append(picture(arm, elem_id=f"library-{side}", label=label))
                seen.append(gr.HTML(caption(arm, label, []), elem_id=f"library-{side}-words"))
        with gr.Column(min_width=320):
            bars = chart(elem_id="library-bars", height=230)
            note = gr.HTML("", elem_id="library-note")
    return Pair(beside, prompt, seed, steps, run, bars, note, seen)


def lay_out_trash() -> tuple[gr.Dropdown, gr.Button]:
    """What was deleted, and the button that restores it."""
    with gr.Accordion("Trash", open=False), gr.Row(equal_height=True):
        deleted = gr.Dropdown([], label="Deleted calibrations", scale=4, elem_id="library-trash")
        restore = gr.Button("Restore", scale=0, min_width=100, elem_id="library-restore")
    return deleted, restore
