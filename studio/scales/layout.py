"""The components of the page Scales, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from calibri.backbones.layouts import GRANULARITIES
from studio.rendering.asks import Ask
from studio.rendering.view import AskFields, lay_out_ask
from studio.scales.desk import HEAVIEST
from studio.scales.view import CONDITIONS, TOOLS, write_summary
from studio.ui.elements import Scripted, caption, chart, picture, read_beside
from studio.ui.events import visitor_state
from studio.ui.templates import fill_template


@dataclass(frozen=True)
class Members:
    """The members as tabs, and what is set for the one in hand. `tabs`: which it is."""

    tabs: gr.Radio
    weight: gr.Number
    condition: gr.Dropdown
    add: gr.Button
    remove: gr.Button
    together: gr.HTML


@dataclass(frozen=True)
class Side:
    """The tabs beside the pictures."""

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


@dataclass(frozen=True)
class Page:
    """What the handlers speak to. `vector`: the values in hand, for what follows them. `arrived`: changes
    once, when the desk is there."""

    visitor: gr.BrowserState
    ask: AskFields
    members: Members
    desk: gr.HTML
    granularity: gr.Radio
    tools: dict[str, gr.Button]
    about: gr.HTML
    base_view: gr.Image
    base_words: gr.HTML
    mine_view: gr.Image
    mine_words: gr.HTML
    side: Side
    vector: gr.State
    arrived: gr.Textbox
    file_name: gr.Textbox
    file_text: gr.Textbox

    @property
    def asked(self) -> list[Any]:
        return [self.ask.prompt, self.ask.seed, self.ask.steps]

    @property
    def after(self) -> list[Any]:
        """What follows every change of the desk, in the order of `view.show_desk`."""
        of = self.members
        members = [of.tabs, of.weight, of.condition, of.add, of.remove, of.together]
        history = [self.tools["undo"], self.tools["redo"]]
        return [self.desk, self.side.text, self.side.bars, self.vector, self.about, *history, *members]

    @property
    def seen(self) -> list[Any]:
        """The two pictures and their words."""
        return [self.base_view, self.base_words, self.mine_view, self.mine_words]


def lay_out(start: Ask) -> Page:
    """Put everything into the current Blocks."""
    visitor = visitor_state()
    with gr.Row(equal_height=True):
        ask = lay_out_ask(start)
    members = _lay_out_members()
    desk = Scripted(
        None,
        html_template=fill_template("scales/desk.html"),
        js_on_load=read_beside(__file__, "desk.js"),
        apply_default_css=False,
        elem_id="desk",
    )
    with gr.Row(elem_id="desk-tools"):
        granularity = gr.Radio(
            [(g.capitalize(), g) for g in GRANULARITIES],
            value="layer",
            show_label=False,
            container=False,
            label="Granularity",
            min_width=250,
            elem_id="granularity",
        )
        tools = {
            name: gr.Button(
                words,
                interactive=name not in ("undo", "redo"),
                min_width=74,
                elem_id=name,
                size="sm",
                scale=0,
            )
            for name, words in TOOLS.items()
        }
        about = gr.HTML(write_summary(None), elem_id="about", min_width=200)
    with gr.Row():
        base_view, base_words = _lay_out_picture("base", "Base")
        mine_view, mine_words = _lay_out_picture("calibrated", "Your scales")
        with gr.Column(min_width=320), gr.Tabs():
            side = _lay_out_side()
    return Page(
        visitor=visitor,
        ask=ask,
        members=members,
        desk=desk,
        granularity=granularity,
        tools=tools,
        about=about,
        base_view=base_view,
        base_words=base_words,
        mine_view=mine_view,
        mine_words=mine_words,
        side=side,
        vector=gr.State([]),
        arrived=gr.Textbox(visible="hidden", elem_id="arrived"),
        file_name=gr.Textbox(visible="hidden"),
        file_text=gr.Textbox(visible="hidden"),
    )


def _lay_out_picture(kind: str, name: str) -> tuple[gr.Image, gr.HTML]:
    with gr.Column(min_width=300):
        view = picture(kind, elem_id=f"picture-{kind}", label=name)
        return view, gr.HTML(caption(kind, name, []), elem_id=f"caption-{kind}")


def _lay_out_members() -> Members:
    bare: dict[str, Any] = {"container": False, "scale": 0}
    with gr.Row(elem_id="member-row"):
        return Members(
            tabs=gr.Radio(
                [("1: positive × 1.00", 0)],
                value=0,
                label="Member on the sliders",
                show_label=False,
                min_width=170,
                elem_id="members",
                **bare,
            ),
            weight=gr.Number(
                1.0,
                label="Weight",
                visible=False,
                minimum=-HEAVIEST,
                maximum=HEAVIEST,
                step=0.1,
                min_width=170,
                elem_id="weight",
                **bare,
            ),
            condition=gr.Dropdown(
                CONDITIONS,
                value="positive",
                label="What the member sees",
                visible=False,
                filterable=False,
                min_width=190,
                elem_id="condition",
                **bare,
            ),
            add=gr.Button("Add member", size="sm", scale=0, min_width=105, elem_id="add-member"),
            remove=gr.Button(
                "Remove", size="sm", scale=0, min_width=80, visible=False, elem_id="remove-member"
            ),
            together=gr.HTML("", scale=1, min_width=220, elem_id="together"),
        )


def _lay_out_side() -> Side:
    small: dict[str, Any] = {"size": "sm", "min_width": 120}
    with gr.Tab("Text"):
        text = gr.Textbox(
            label="The vector, one line a scale",
            lines=12,
            max_lines=12,
            elem_id="vector-text",
            info="Ranges work too: double[0-3].attn = 1.05. Names that are left out become 1.00.",
        )
        use_text = gr.Button("Apply the text", size="sm", elem_id="apply-text")
    with gr.Tab("Bars"):
        bars = chart(elem_id="bars", height=230)
        beside = gr.Dropdown([("Nothing", "")], value="", label="Compare and blend with", elem_id="beside")
        share = gr.Slider(
            0,
            1,
            0,
            step=0.05,
            label="Blend: share of the other",
            info="0: your vector, 1: the other one. All moves of one blend are one step to undo.",
            elem_id="share",
        )
    with gr.Tab("Files"):
        saved = gr.Dropdown([], label="Saved calibrations", value=None, elem_id="saved")
        with gr.Row():
            open_saved = gr.Button("Open on the desk", elem_id="open-saved", **small)
            add_saved = gr.Button("Add as members", elem_id="add-saved", **small)
        title = gr.Textbox(label="Title", placeholder="Warm edges", max_lines=1, elem_id="title")
        with gr.Row():
            save = gr.Button("Save in the studio", elem_id="save", **small)
            save_one = gr.Button("Save this member", elem_id="save-one", **small)
        with gr.Row():
            as_file = gr.Button("Download as file", elem_id="download", **small)
            upload = gr.UploadButton("Load from a file", file_types=[".json"], elem_id="upload", **small)
    with gr.Tab("Sliders"):
        show_plain = gr.Checkbox(False, label="Show one plain slider for each scale", elem_id="show-plain")
    return Side(
        text,
        use_text,
        bars,
        beside,
        share,
        saved,
        open_saved,
        add_saved,
        title,
        save,
        save_one,
        as_file,
        upload,
        show_plain,
    )
