"""The components of the page Scales, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from calibri.backbones.layouts import GRANULARITIES
from studio.rendering.asks import LARGEST_SEED, MOST_STEPS, Ask
from studio.scales.desk import HEAVIEST
from studio.scales.view import CONDITIONS, DESK_HTML, TOOLS, summary
from studio.ui.elements import Scripted, caption, chart, picture, read_beside
from studio.ui.events import visitor_state


@dataclass(frozen=True)
class Page:
    """What the handlers speak to. `tabs`: which member is in hand. `vector`: its values, for what follows
    them. `arrived`: changes once, when the desk is there."""

    visitor: gr.BrowserState
    prompt: gr.Textbox
    seed: gr.Number
    roll: gr.Button
    steps: gr.Slider
    run: gr.Button
    tabs: gr.Radio
    weight: gr.Number
    condition: gr.Dropdown
    add: gr.Button
    remove: gr.Button
    together: gr.HTML
    desk: gr.HTML
    granularity: gr.Radio
    tools: dict[str, gr.Button]
    about: gr.HTML
    base_view: gr.Image
    base_words: gr.HTML
    mine_view: gr.Image
    mine_words: gr.HTML
    text: gr.Textbox
    use_text: gr.Button
    bars: gr.HTML
    beside: gr.Dropdown
    share: gr.Slider
    saved: gr.Dropdown
    open_saved: gr.Button
    add_saved: gr.Button
    title: gr.Textbox
    save: gr.Button
    save_one: gr.Button
    as_file: gr.Button
    upload: gr.UploadButton
    show_plain: gr.Checkbox
    vector: gr.State
    arrived: gr.Textbox
    file_name: gr.Textbox
    file_text: gr.Textbox

    @property
    def asked(self) -> list[Any]:
        return [self.prompt, self.seed, self.steps]

    @property
    def after(self) -> list[Any]:
        """What follows every change of the desk, in the order of `scales_parts.drawn`."""
        members = [self.tabs, self.weight, self.condition, self.add, self.remove, self.together]
        way_back = [self.tools["undo"], self.tools["redo"]]
        return [self.desk, self.text, self.bars, self.vector, self.about, *way_back, *members]

    @property
    def seen(self) -> list[Any]:
        """The two pictures and their words."""
        return [self.base_view, self.base_words, self.mine_view, self.mine_words]


def lay_out(start: Ask) -> Page:
    """Put everything into the current Blocks."""
    made: dict[str, Any] = {"visitor": visitor_state()}
    with gr.Row(equal_height=True):
        made["prompt"] = gr.Textbox(
            start.prompt, label="Prompt", lines=1, max_lines=2, scale=6, elem_id="prompt"
        )
        made["seed"] = gr.Number(
            start.seed,
            label="Seed",
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
            min_width=90,
            scale=1,
            elem_id="seed",
        )
        made["roll"] = gr.Button("Roll dice", min_width=80, scale=0, elem_id="dice")
        made["steps"] = gr.Slider(
            1, MOST_STEPS, start.steps, step=1, label="Steps", min_width=150, scale=2, elem_id="steps"
        )
        made["run"] = gr.Button(
            "Render",
            variant="primary",
            min_width=100,
            scale=0,
            elem_id="render",
            elem_classes="primary-action",
        )
    made |= _members()
    made["desk"] = Scripted(
        None,
        html_template=DESK_HTML,
        js_on_load=read_beside(__file__, "desk.js"),
        apply_default_css=False,
        elem_id="desk",
    )
    with gr.Row(elem_id="desk-tools"):
        made["granularity"] = gr.Radio(
            [(g.capitalize(), g) for g in GRANULARITIES],
            value="layer",
            show_label=False,
            container=False,
            label="Granularity",
            min_width=250,
            elem_id="granularity",
        )
        made["tools"] = {
            name: gr.Button(
                words,
                size="sm",
                scale=0,
                min_width=74,
                elem_id=name,
                interactive=name not in ("undo", "redo"),
            )
            for name, words in TOOLS.items()
        }
        made["about"] = gr.HTML(summary(None), elem_id="about", min_width=200)
    with gr.Row():
        for key, kind, name in (("base", "base", "Base"), ("mine", "calibrated", "Your scales")):
            with gr.Column(min_width=300):
                made[f"{key}_view"] = picture(kind, elem_id=f"picture-{kind}", label=name)
                made[f"{key}_words"] = gr.HTML(caption(kind, name, []), elem_id=f"caption-{kind}")
        with gr.Column(min_width=320), gr.Tabs():
            made |= _side()
    made |= {
        "vector": gr.State([]),
        "arrived": gr.Textbox(visible="hidden", elem_id="arrived"),
        "file_name": gr.Textbox(visible="hidden"),
        "file_text": gr.Textbox(visible="hidden"),
    }
    return Page(**made)


def _members() -> dict[str, Any]:
    """The members as tabs, and what is set for the one in hand."""
    with gr.Row(elem_id="member-row"):
        return {
            "tabs": gr.Radio(
                [("1: positive × 1.00", 0)],
                value=0,
                label="Member on the sliders",
                show_label=False,
                container=False,
                scale=0,
                min_width=170,
                elem_id="members",
            ),
            "weight": gr.Number(
                1.0,
                label="Weight",
                visible=False,
                container=False,
                minimum=-HEAVIEST,
                maximum=HEAVIEST,
                step=0.1,
                scale=0,
                min_width=170,
                elem_id="weight",
            ),
            "condition": gr.Dropdown(
                CONDITIONS,
                value="positive",
                label="What the member sees",
                visible=False,
                container=False,
                filterable=False,
                scale=0,
                min_width=190,
                elem_id="condition",
            ),
            "add": gr.Button("Add member", size="sm", scale=0, min_width=105, elem_id="add-member"),
            "remove": gr.Button(
                "Remove", size="sm", scale=0, min_width=80, visible=False, elem_id="remove-member"
            ),
            "together": gr.HTML("", scale=1, min_width=220, elem_id="together"),
        }


def _side() -> dict[str, Any]:
    """The tabs beside the pictures."""
    made: dict[str, Any] = {}
    with gr.Tab("Text"):
        made["text"] = gr.Textbox(
            label="The vector, one line a scale",
            lines=12,
            max_lines=12,
            elem_id="vector-text",
            info="Ranges work too: double[0-3].attn = 1.05. Names left out become 1.00.",
        )
        made["use_text"] = gr.Button("Apply the text", size="sm", elem_id="apply-text")
    with gr.Tab("Bars"):
        made["bars"] = chart(elem_id="bars", height=230)
        made["beside"] = gr.Dropdown(
            [("Nothing", "")], value="", label="Compare and blend with", elem_id="beside"
        )
        made["share"] = gr.Slider(
            0,
            1,
            0,
            step=0.05,
            label="Blend: share of the other",
            info="0: your vector, 1: the other one. All of one blend is one step to undo.",
            elem_id="share",
        )
    with gr.Tab("Files"):
        made["saved"] = gr.Dropdown([], label="Saved calibrations", value=None, elem_id="saved")
        with gr.Row():
            made["open_saved"] = gr.Button("Open on the desk", size="sm", min_width=120, elem_id="open-saved")
            made["add_saved"] = gr.Button("Add as members", size="sm", min_width=120, elem_id="add-saved")
        made["title"] = gr.Textbox(label="Title", placeholder="Warm edges", max_lines=1, elem_id="title")
        with gr.Row():
            made["save"] = gr.Button("Save in the studio", size="sm", min_width=120, elem_id="save")
            made["save_one"] = gr.Button("Save this member", size="sm", min_width=120, elem_id="save-one")
        with gr.Row():
            made["as_file"] = gr.Button("Download as file", size="sm", min_width=120, elem_id="download")
            made["upload"] = gr.UploadButton(
                "Load from a file", file_types=[".json"], size="sm", min_width=120, elem_id="upload"
            )
    with gr.Tab("Sliders"):
        made["show_plain"] = gr.Checkbox(
            False, label="Show one plain slider for each scale", elem_id="show-plain"
        )
    return made
