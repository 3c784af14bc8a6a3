"""The components of the page Scales, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from calibri.backbones.layouts import GRANULARITIES
from calibri.calibration.guidance import WORDS
from calibri.calibration.reading import ENDINGS
from studio.rendering.asks import Ask
from studio.rendering.view import AskFields, lay_out_ask
from studio.scales.compose_fields import Composer, lay_out_composer
from studio.scales.desk import HEAVIEST
from studio.scales.view import CONDITIONS, TOOLS, show_preset, write_summary
from studio.ui.elements import Scripted, caption, chart, picture, read_beside
from studio.ui.events import visitor_state
from studio.ui.templates import fill_template


class Members(NamedTuple):
    """The members as tabs, and what is set for the one in hand. `tabs`: which it is. `start`, `stop`: shares
    of the steps."""

    tabs: gr.Radio
    weight: gr.Number
    condition: gr.Dropdown
    start: gr.Number
    stop: gr.Number
    balanced: gr.Checkbox
    add: gr.Button
    remove: gr.Button
    together: gr.HTML


class Guides(NamedTuple):
    """What a preset of guidance is added with."""

    preset: gr.Dropdown
    of: gr.Textbox
    strength: gr.Number
    start: gr.Number
    stop: gr.Number
    add: gr.Button


class Pictures(NamedTuple):
    """The picture of the base, that of the desk, and their words."""

    base: gr.Image
    base_words: gr.HTML
    mine: gr.Image
    mine_words: gr.HTML


class Side(NamedTuple):
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
    composer: Composer
    show_plain: gr.Checkbox


class Signals(NamedTuple):
    """What nobody sees. `vector`: the values in hand, for what follows them. `arrived`: changes once, when
    the desk is there. `file`: name and text of a download."""

    vector: gr.State
    arrived: gr.Textbox
    file: tuple[gr.Textbox, gr.Textbox]


@dataclass(frozen=True)
class Page:
    """What the handlers speak to. `draft`: what is said of the draft; a click on it discards it."""

    visitor: gr.BrowserState
    ask: AskFields
    members: Members
    guides: Guides
    desk: gr.HTML
    granularity: gr.Radio
    tools: dict[str, gr.Button]
    about: gr.HTML
    draft: gr.HTML
    pictures: Pictures
    side: Side
    signals: Signals

    @property
    def asked(self) -> list[Any]:
        return [self.ask.prompt, self.ask.seed, self.ask.steps]

    @property
    def after(self) -> list[Any]:
        """What follows every change of the desk, in the order of `view.show_desk`."""
        shown = [self.desk, self.side.text, self.side.bars, self.signals.vector]
        history = [self.tools["undo"], self.tools["redo"]]
        return [*shown, self.about, self.draft, *history, *self.members]


def lay_out(start: Ask) -> Page:
    """Put everything into the current Blocks."""
    visitor = visitor_state()
    with gr.Row(equal_height=True):
        ask = lay_out_ask(start)
    with gr.Row(elem_id="desk-row"):
        with gr.Column(elem_id="desk-side", min_width=320):
            members = _lay_out_members()
            guides = _lay_out_guides()
            draft = gr.HTML("", elem_id="draft", js_on_load=read_beside(__file__, "draft.js"))
            desk = _lay_out_desk()
            granularity, tools, about = _lay_out_tools()
            with gr.Tabs():
                side = _lay_out_side()
        with gr.Column(elem_id="picture-side", min_width=320), gr.Row(elem_id="pictures"):
            base = _lay_out_picture("base", "Base")
            pictures = Pictures(*base, *_lay_out_picture("calibrated", "Your scales"))
    name, text = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    arrived = gr.Textbox(visible="hidden", elem_id="arrived")
    signals = Signals(gr.State([]), arrived, (name, text))
    first = (visitor, ask, members, guides, desk, granularity, tools, about)
    return Page(*first, draft, pictures, side, signals)


def _lay_out_desk() -> gr.HTML:
    """The sliders, and above a large desk its overview: both scripts are one scope."""
    return Scripted(
        None,
        html_template=fill_template("scales/desk.html"),
        js_on_load="\n".join(read_beside(__file__, name) for name in ("overview.js", "desk.js")),
        apply_default_css=False,
        elem_id="desk",
    )


def _lay_out_tools() -> tuple[gr.Radio, dict[str, gr.Button], gr.HTML]:
    """What changes the whole vector, and what is said of it."""
    with gr.Row(elem_id="desk-tools"):
        levels = [(level.capitalize(), level) for level in GRANULARITIES]
        bare: dict[str, Any] = {"label": "Granularity", "show_label": False, "container": False}
        granularity = gr.Radio(levels, value="layer", min_width=250, elem_id="granularity", **bare)
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
        return granularity, tools, gr.HTML(write_summary(None), elem_id="about", min_width=200)


def _lay_out_picture(kind: str, name: str) -> tuple[gr.Image, gr.HTML]:
    with gr.Column(min_width=300):
        view = picture(kind, elem_id=f"picture-{kind}", label=name)
        return view, gr.HTML(caption(kind, name, []), elem_id=f"caption-{kind}")


def _lay_out_members() -> Members:
    start = [("1: positive × 1.00", 0)]
    heaviest: dict[str, Any] = {"minimum": -HEAVIEST, "maximum": HEAVIEST}
    share: dict[str, Any] = {"minimum": 0, "maximum": 1}
    bare: dict[str, Any] = {"container": False, "scale": 0}
    hidden: dict[str, Any] = {**bare, "visible": False}
    small: dict[str, Any] = {"size": "sm", "scale": 0}
    held, sees = "Member on the sliders", "What the member sees"
    with gr.Row(elem_id="member-row"):
        return Members(
            gr.Radio(start, value=0, label=held, show_label=False, min_width=170, elem_id="members", **bare),
            gr.Number(1.0, label="Weight", step=0.1, min_width=170, elem_id="weight", **heaviest, **hidden),
            gr.Dropdown(
                CONDITIONS, label=sees, filterable=False, elem_id="condition", min_width=190, **hidden
            ),
            gr.Number(0.0, label="Counts from", step=0.05, min_width=120, elem_id="start", **share, **hidden),
            gr.Number(1.0, label="Counts until", step=0.05, min_width=120, elem_id="stop", **share, **hidden),
            gr.Checkbox(False, label="Balanced", min_width=120, elem_id="balanced", **hidden),
            gr.Button("Add member", min_width=105, elem_id="add-member", **small),
            gr.Button("Remove", min_width=80, visible=False, elem_id="remove-member", **small),
            gr.HTML("", scale=1, min_width=220, elem_id="together"),
        )


def _lay_out_guides() -> Guides:
    first = show_preset("cfg")
    share: dict[str, Any] = {"minimum": 0, "maximum": 1, "step": 0.05, "min_width": 100}
    with gr.Accordion("Add member ▸ preset", open=False, elem_id="presets"), gr.Row(equal_height=True):
        return Guides(
            gr.Dropdown(
                [(words, name) for name, words in WORDS.items()],
                value="cfg",
                label="Guidance",
                filterable=False,
                min_width=200,
                elem_id="preset",
            ),
            gr.Textbox(**first.of, max_lines=1, min_width=200, elem_id="preset-of"),
            gr.Number(first.strength, label="Strength", step=0.1, min_width=100, elem_id="preset-strength"),
            gr.Number(first.start, label="From", elem_id="preset-start", **share),
            gr.Number(first.stop, label="Until", elem_id="preset-stop", **share),
            gr.Button("Add", size="sm", scale=0, min_width=80, elem_id="add-preset"),
        )


def _lay_out_side() -> Side:
    small: dict[str, Any] = {"size": "sm", "min_width": 120}
    with gr.Tab("Text"):
        info = "Ranges work too: double[0-3].attn = 1.05. Names that are left out become 1.00."
        text = gr.Textbox(
            label="The vector, one line a scale", info=info, lines=12, max_lines=12, elem_id="vector-text"
        )
        use_text = gr.Button("Apply the text", size="sm", elem_id="apply-text")
    with gr.Tab("Bars"):
        bars = chart(elem_id="bars", height=230)
        beside = gr.Dropdown([("Nothing", "")], value="", label="Compare and blend with", elem_id="beside")
        info = "0: your vector, 1: the other one. All moves of one blend are one step to undo."
        share = gr.Slider(0, 1, 0, step=0.05, label="Blend: share of the other", info=info, elem_id="share")
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
            upload = gr.UploadButton("Load from a file", file_types=list(ENDINGS), elem_id="upload", **small)
    with gr.Tab("Compose"):
        composer = lay_out_composer("scales")
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
        composer,
        show_plain,
    )
