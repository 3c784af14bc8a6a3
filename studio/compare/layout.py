"""The components of the page Compare, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from studio.compare import view
from studio.compare.form import AGAINST, ARMS
from studio.compare.grid_page import GridParts, lay_out_grid
from studio.compare.view import MAPPED, SLIDER
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.arms import KINDS, WORDS, list_choices, list_lora_choices
from studio.rendering.asks import Ask
from studio.rendering.shots import Comparison, Shot
from studio.rendering.view import AskFields, embeds_guidance, guidance_slider, lay_out_ask
from studio.ui.elements import aside, enlarge, picture, read_beside
from studio.ui.events import visitor_state

USUAL_WORDS = "Base, calibrated and ensemble"
AGAINST_WORDS = f"Base at {AGAINST[0].steps} against calibrated at {AGAINST[1].steps}"
KEPT_WORDS = (
    "Pictures you render are kept here while the studio runs. Choose one to see its arms again and to set "
    "the form as it was."
)
GUIDANCE_WORDS = "1 is none; an ensemble has its own in its weights"
NEGATIVE_WORDS = "What guidance and negative members see; usually nothing"
EMBEDDED_WORDS = "Of distilled models: a number that they were trained to read; it costs nothing"
FIND_WORDS = "Find your own calibration in two minutes"
#: The page Two minutes starts at once where this browser was just asked to; an address alone starts nothing.
GO_FIND = """() => { try { sessionStorage.setItem('calibri-find', '1'); } catch {}
  window.location.assign('find'); }"""
SMALL: dict[str, Any] = {"size": "sm", "scale": 0}
GALLERY: dict[str, Any] = {"object_fit": "contain", "format": "png", "buttons": []}
GALLERY |= {"allow_preview": False, "fit_columns": False}


class Presets(NamedTuple):
    """What sets the arms or the whole form at once."""

    usual: gr.Button
    against: gr.Button
    from_png: gr.UploadButton


class Column(NamedTuple):
    """One arm: what it is, steps of its own, its picture, and where that can go."""

    what: gr.Dropdown
    steps: gr.Number
    image: gr.Image
    words: gr.HTML
    get: gr.Button
    send: gr.Button


class Overlay(NamedTuple):
    """Two pictures over one another: how, which, and what is seen."""

    look: gr.Radio
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.ImageSlider
    mapped: gr.Image
    legend: gr.HTML


@dataclass(frozen=True)
class More:
    """Settings that few need. `own_guidance`, `own_loras`: one for each arm."""

    prompts: gr.Textbox
    seeds: gr.Textbox
    count: gr.HTML
    guidance: gr.Slider
    own_guidance: list[gr.Number]
    width: gr.Number
    height: gr.Number
    negative: gr.Textbox
    embedded: gr.Number
    own_loras: list[gr.Dropdown]


@dataclass(frozen=True)
class Page:
    """What the handlers speak to. `first`: the comparison that the page opens with. `now`: the id of the
    comparison on the page, and which of its rows. `file`: what a download is taken from; `link`: what is
    copied. `kept`: the visitor's last prompts, in their browser; `past` shows them."""

    first: Comparison | None
    start: Ask
    visitor: gr.BrowserState
    now: gr.State
    file: gr.File
    link: gr.Textbox
    kept: gr.BrowserState
    lead: gr.HTML
    ask: AskFields
    stop: gr.Button
    remark: gr.HTML
    presets: Presets
    columns: list[Column]
    try_prompt: gr.Button
    examples: gr.Dataset
    past: gr.HTML
    grid: gr.Gallery
    table: gr.HTML
    over: Overlay
    more: More
    get_all: gr.Button
    to_study: gr.Button
    copy: gr.Button
    history: gr.Gallery
    xy: GridParts

    @property
    def images(self) -> list[Any]:
        return [column.image for column in self.columns]

    @property
    def choosing(self) -> list[Any]:
        """What is asked of each arm: what, steps, guidance."""
        pairs = zip(self.columns, self.more.own_guidance)
        return [part for column, guidance in pairs for part in (column.what, column.steps, guidance)]

    @property
    def fields(self) -> list[Any]:
        """The form, in the order of Form."""
        ask, more = self.ask, self.more
        first = [ask.prompt, ask.seed, ask.steps, more.prompts, more.seeds, more.guidance]
        return [
            *first,
            more.width,
            more.height,
            more.negative,
            more.embedded,
            *self.choosing,
            *more.own_loras,
        ]

    @property
    def looking(self) -> list[Any]:
        """Which two pictures lie over one another, and how."""
        return [self.over.look, self.over.left, self.over.right]

    @property
    def laid(self) -> list[Any]:
        """The two pictures over one another."""
        over = self.over
        return [over.slider, over.mapped, over.legend, over.left, over.right]

    @property
    def painted(self) -> list[Any]:
        """One comparison, but for the two pictures over one another."""
        pictures = [part for column in self.columns for part in (column.image, column.words)]
        return [*pictures, *(column.send for column in self.columns), self.grid, self.table, self.now]

    @property
    def viewed(self) -> list[Any]:
        """Everything that shows one comparison."""
        return [*self.painted, *self.laid]


def lay_out(core: Core) -> Page:
    """Put everything into the current Blocks."""
    first = first_visit.open_first(core.assets)
    start = first_visit.usual_ask(core)
    row = first.shots if first else []
    visitor, now, file = visitor_state(), gr.State(["", 0]), gr.File(visible="hidden")
    link = gr.Textbox("", visible="hidden")
    kept = gr.BrowserState([], storage_key="calibri-prompts", secret="calibri-prompts")
    lead = gr.HTML(view.write_lead(first, first_visit.label_first(core)), elem_id="lead")
    with gr.Row(equal_height=True, elem_id="ask"):
        ask = lay_out_ask(start, offers_fresh=True)
        stop = gr.Button("Stop", scale=0, min_width=70, elem_id="stop")
    remark = gr.HTML("", elem_id="remark")
    presets = _lay_out_presets(core)
    columns = _lay_out_columns(row, list_choices(core, core.visitors.of(None)))
    with gr.Row(equal_height=True, elem_classes="go-on"):
        try_prompt = gr.Button("Try a prompt of your own", elem_id="go-prompt")
        gr.Button("Move a slider", link="scales", elem_id="go-scales")
        gr.Button("Vote for the better picture", link="quick", elem_id="go-vote")
    grid, table = _lay_out_grid()
    examples = gr.Examples(
        list(first_visit.list_examples(core.spec.name if core.spec else "")),
        inputs=ask.prompt,
        label="Prompts to try",
        examples_per_page=12,
    ).dataset
    past = gr.HTML("", elem_id="past", js_on_load=read_beside(__file__, "past.js"))
    with gr.Row():
        with gr.Column(min_width=320):
            over = _lay_out_overlay(row)
        with gr.Column(min_width=320):
            more = _lay_out_more(list_lora_choices(core), embeds_guidance(core.spec))
            with gr.Row():
                get_all = gr.Button("Download all as ZIP", size="sm", min_width=150, elem_id="get-all")
                to_study = gr.Button("Send to vote study", size="sm", min_width=150, elem_id="to-study")
                copy = gr.Button("Copy link", size="sm", min_width=100, elem_id="copy-link")
            history = gr.Gallery(label="This session", columns=5, height=250, elem_id="history", **GALLERY)
            gr.HTML(aside(KEPT_WORDS))
    xy = lay_out_grid(core)
    return Page(
        first,
        start,
        visitor,
        now,
        file,
        link,
        kept,
        lead,
        ask,
        stop,
        remark,
        presets,
        columns,
        try_prompt,
        examples,
        past,
        grid,
        table,
        over,
        more,
        get_all,
        to_study,
        copy,
        history,
        xy,
    )


def _lay_out_presets(core: Core) -> Presets:
    with gr.Row(elem_id="presets"):
        find = gr.Button(
            FIND_WORDS, visible=not core.settings.no_search, min_width=290, elem_id="go-find", **SMALL
        )
        find.click(None, js=GO_FIND, api_visibility="private")
        return Presets(
            gr.Button(USUAL_WORDS, min_width=210, elem_id="preset-usual", **SMALL),
            gr.Button(AGAINST_WORDS, min_width=270, elem_id="preset-against", **SMALL),
            gr.UploadButton(
                "Open settings from PNG", file_types=[".png"], min_width=190, elem_id="open-png", **SMALL
            ),
        )


def _lay_out_columns(row: list[Shot], choices: list[tuple[str, str]]) -> list[Column]:
    columns = []
    words = view.write_row(row)
    own_steps: dict[str, Any] = {"placeholder": "steps", "precision": 0}
    own_steps |= {"container": False, "scale": 1, "min_width": 76}
    with gr.Row(elem_id="pictures"):
        for place, kind in enumerate(KINDS):
            image = row[place].image if row else None
            number = place + 1
            arm: dict[str, Any] = {"label": f"Arm {number}", "container": False, "scale": 3, "min_width": 150}
            with gr.Column(min_width=300):
                with gr.Row(elem_classes="arm-row"):
                    what = gr.Dropdown(choices, value=kind, elem_id=f"arm-{number}", **arm)
                    steps = gr.Number(label=f"Steps of arm {number}", elem_id=f"steps-{number}", **own_steps)
                large = enlarge(image) if image else None
                shown = picture(kind, value=large, elem_id=f"picture-{kind}", label=WORDS[kind])
                caption = gr.HTML(words[place], elem_id=f"caption-{kind}")
                with gr.Row(elem_classes="take-row"):
                    get = gr.Button("Download PNG", size="sm", elem_id=f"get-{number}")
                    able = image is not None and kind != "base"
                    send = gr.Button("Send to scales", size="sm", interactive=able, elem_id=f"send-{number}")
            columns.append(Column(what, steps, shown, caption, get, send))
    return columns


def _lay_out_grid() -> tuple[gr.Gallery, gr.HTML]:
    with gr.Row(elem_id="many"):
        with gr.Column(min_width=320, scale=2):
            label = "Every prompt and seed; choose one to see it large"
            grid = gr.Gallery(label=label, columns=ARMS, height=460, visible=False, elem_id="grid", **GALLERY)
        with gr.Column(min_width=320, scale=3):
            return grid, gr.HTML("", elem_id="means")


def _lay_out_overlay(row: list[Shot]) -> Overlay:
    pair, words = view.open_overlay(row)
    names = view.list_names(row)
    with gr.Row(elem_id="look-row"):
        ways = [("Slider", SLIDER), ("Difference map", MAPPED)]
        bare: dict[str, Any] = {"show_label": False, "container": False}
        look = gr.Radio(
            ways, value=SLIDER, label="Two pictures", scale=0, min_width=250, elem_id="look", **bare
        )
        left = gr.Dropdown(names, value="0", label="Left", container=False, min_width=110, elem_id="left")
        right = gr.Dropdown(names, value="1", label="Right", container=False, min_width=110, elem_id="right")
    shared: dict[str, Any] = {
        "format": "png",
        "type": "pil",
        "interactive": False,
        "height": 400,
        "buttons": ["fullscreen"],
        "elem_classes": "stage",
    }
    slider = gr.ImageSlider(pair, label="Drag to compare", max_height=400, elem_id="slider", **shared)
    mapped = gr.Image(label="Difference map", visible=False, elem_id="difference", **shared)
    return Overlay(look, left, right, slider, mapped, gr.HTML(words, elem_id="legend"))


def _lay_out_more(loras: list[tuple[str, str]], embeds: bool) -> More:
    with gr.Accordion("Several prompts and seeds", open=False, elem_id="several"):
        prompts = gr.Textbox("", label="More prompts, one a line", lines=3, max_lines=8, elem_id="prompts")
        seeds = gr.Textbox("", label="More seeds", placeholder="4, 7, 10-12", max_lines=1, elem_id="seeds")
        count = gr.HTML("", elem_id="count")
    with gr.Accordion("More settings", open=False, elem_id="more"):
        guidance = guidance_slider(1, label="Guidance", info=GUIDANCE_WORDS, elem_id="guidance")
        own: dict[str, Any] = {"placeholder": "as above", "min_width": 80}
        with gr.Row():
            own_guidance = [
                gr.Number(label=f"Of arm {number}", elem_id=f"guidance-{number}", **own)
                for number in range(1, ARMS + 1)
            ]
        size: dict[str, Any] = {"placeholder": "the backbone's own", "min_width": 120, "precision": 0}
        with gr.Row():
            width = gr.Number(label="Width in pixels", elem_id="width", **size)
            height = gr.Number(label="Height in pixels", elem_id="height", **size)
        typed: dict[str, Any] = {"allow_custom_value": True, "min_width": 80, "visible": len(loras) > 1}
        with gr.Row():
            own_loras = [
                gr.Dropdown(
                    loras,
                    value="",
                    label=f"LoRAs of arm {number}",
                    info="or NAME:STRENGTH, …" if number == 1 else None,
                    elem_id=f"loras-{number}",
                    **typed,
                )
                for number in range(1, ARMS + 1)
            ]
        with gr.Row():
            negative = gr.Textbox(
                "", label="Negative prompt", info=NEGATIVE_WORDS, max_lines=3, scale=2, elem_id="negative"
            )
            embedded = gr.Number(
                label="Embedded guidance",
                info=EMBEDDED_WORDS,
                placeholder="the backbone's own",
                visible=embeds,
                min_width=160,
                elem_id="embedded",
            )
    one_size = (width, height, negative, embedded)
    return More(prompts, seeds, count, guidance, own_guidance, *one_size, own_loras)
