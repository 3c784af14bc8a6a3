"""The components of the page Compare, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.compare import view
from studio.compare.form import AGAINST, ARMS
from studio.compare.view import COLUMNS, MAPPED, SLIDER
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.arms import offered
from studio.rendering.asks import LARGEST_SEED, MOST_STEPS, Ask
from studio.rendering.shots import Comparison
from studio.ui.elements import picture
from studio.ui.events import visitor_state

USUAL_WORDS = "Base, calibrated and ensemble"
AGAINST_WORDS = f"Base at {AGAINST[0].steps} against calibrated at {AGAINST[1].steps}"


@dataclass(frozen=True)
class Page:
    """What the handlers speak to. `arms`: for each column what, steps and guidance of its own. `now`: the
    comparison on the page and which of its rows. `file`: what a download is taken from."""

    visitor: gr.BrowserState
    now: gr.State
    file: gr.File
    lead: gr.HTML
    prompt: gr.Textbox
    seed: gr.Number
    roll: gr.Button
    steps: gr.Slider
    run: gr.Button
    stop: gr.Button
    remark: gr.HTML
    usual: gr.Button
    against: gr.Button
    from_png: gr.UploadButton
    images: list[gr.Image]
    captions: list[gr.HTML]
    arms: list[list[Any]]
    gets: list[gr.Button]
    sends: list[gr.Button]
    try_prompt: gr.Button
    grid: gr.Gallery
    table: gr.HTML
    look: gr.Radio
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.ImageSlider
    mapped: gr.Image
    legend: gr.HTML
    prompts: gr.Textbox
    seeds: gr.Textbox
    count: gr.HTML
    guidance: gr.Slider
    width: gr.Number
    height: gr.Number
    get_all: gr.Button
    to_study: gr.Button
    history: gr.Gallery

    @property
    def pictures(self) -> list[Any]:
        """Image and caption of each column."""
        return [part for both in zip(self.images, self.captions) for part in both]

    @property
    def typed(self) -> list[Any]:
        """What is asked of all arms, in the order of Form."""
        first = [self.prompt, self.seed, self.steps, self.prompts, self.seeds, self.guidance]
        return [*first, self.width, self.height]

    @property
    def choosing(self) -> list[Any]:
        """What is asked of each arm."""
        return [component for column in self.arms for component in column]

    @property
    def fields(self) -> list[Any]:
        return [*self.typed, *self.choosing]

    @property
    def looking(self) -> list[Any]:
        """Which two pictures lie over one another, and how."""
        return [self.look, self.left, self.right]

    @property
    def laid(self) -> list[Any]:
        """The two pictures over one another."""
        return [self.slider, self.mapped, self.legend, self.left, self.right]

    @property
    def painted(self) -> list[Any]:
        """One comparison, but for the two pictures over one another."""
        return [*self.pictures, *self.sends, self.grid, self.table, self.now]

    @property
    def viewed(self) -> list[Any]:
        """Everything that shows one comparison."""
        return [*self.painted, *self.laid]


def lay_out(core: Core, first: Comparison | None, start: Ask) -> Page:
    """Put everything into the current Blocks. `first`: what the page opens with."""
    visitor = visitor_state()
    now = gr.State(["", 0])  # the comparison on the page, and which of its rows
    file = gr.File(visible="hidden")

    lead = gr.HTML(view.lead_html(first), elem_id="lead")
    with gr.Row(equal_height=True, elem_id="ask"):
        prompt = gr.Textbox(
            start.prompt, label="Prompt", lines=1, max_lines=3, scale=6, min_width=280, elem_id="prompt"
        )
        seed = gr.Number(
            start.seed,
            label="Seed",
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
            min_width=90,
            elem_id="seed",
        )
        roll = gr.Button("Roll dice", scale=0, min_width=80, elem_id="dice")
        steps = gr.Slider(
            1, MOST_STEPS, start.steps, step=1, label="Steps", scale=2, min_width=170, elem_id="steps"
        )
        run = gr.Button(
            "Render",
            variant="primary",
            scale=0,
            min_width=110,
            elem_id="render",
            elem_classes="primary-action",
        )
        stop = gr.Button("Stop", scale=0, min_width=70, elem_id="stop")
    remark = gr.HTML("", elem_id="remark")
    with gr.Row(elem_id="presets"):
        usual = gr.Button(USUAL_WORDS, size="sm", scale=0, min_width=210, elem_id="preset-usual")
        against = gr.Button(AGAINST_WORDS, size="sm", scale=0, min_width=270, elem_id="preset-against")
        from_png = gr.UploadButton(
            "Open settings from PNG",
            file_types=[".png"],
            size="sm",
            scale=0,
            min_width=190,
            elem_id="open-png",
        )

    images, captions, arms, gets, sends = [], [], [], [], []
    first_shown = view.columns(first.shots if first else [])
    kinds = offered(core, core.visitors.of(None))
    with gr.Row(elem_id="pictures"):
        for column, (kind, title) in enumerate(COLUMNS):
            with gr.Column(min_width=300):
                with gr.Row(elem_classes="arm-row"):
                    what = gr.Dropdown(
                        kinds,
                        value=kind,
                        label=f"Arm {column + 1}",
                        container=False,
                        scale=3,
                        min_width=150,
                        elem_id=f"arm-{column + 1}",
                    )
                    own_steps = gr.Number(
                        None,
                        label=f"Steps of arm {column + 1}",
                        placeholder="steps",
                        container=False,
                        precision=0,
                        minimum=0,
                        maximum=MOST_STEPS,
                        scale=1,
                        min_width=76,
                        elem_id=f"steps-{column + 1}",
                    )
                image, _, _, words = first_shown[column]
                images.append(picture(kind, value=image, elem_id=f"picture-{kind}", label=title))
                captions.append(gr.HTML(words, elem_id=f"caption-{kind}"))
                with gr.Row(elem_classes="take-row"):
                    gets.append(gr.Button("Download PNG", size="sm", elem_id=f"get-{column + 1}"))
                    sends.append(
                        gr.Button(
                            "Send to scales",
                            size="sm",
                            interactive=image is not None and kind != "base",
                            elem_id=f"send-{column + 1}",
                        )
                    )
            arms.append([what, own_steps])

    with gr.Row(equal_height=True, elem_classes="go-on"):
        try_prompt = gr.Button("Try a prompt of your own", elem_id="go-prompt")
        gr.Button("Move a slider", link="scales", elem_id="go-scales")
        gr.Button("Vote for the better picture", link="quick", elem_id="go-vote")
    with gr.Row(elem_id="many"):
        with gr.Column(min_width=320, scale=2):
            grid = gr.Gallery(
                label="Every prompt and seed; choose one to see it large",
                columns=ARMS,
                object_fit="contain",
                format="png",
                height=460,
                allow_preview=False,
                fit_columns=False,
                visible=False,
                buttons=[],
                elem_id="grid",
            )
        with gr.Column(min_width=320, scale=3):
            table = gr.HTML("", elem_id="means")

    gr.Examples(
        [[e] for e in first_visit.examples()], inputs=[prompt], label="Prompts to try", examples_per_page=12
    )
    over = view.laid_plain(first.shots if first else [])
    with gr.Row():
        with gr.Column(min_width=320):
            with gr.Row(elem_id="look-row"):
                look = gr.Radio(
                    [("Slider", SLIDER), ("Difference map", MAPPED)],
                    value=SLIDER,
                    label="Two pictures",
                    show_label=False,
                    container=False,
                    scale=0,
                    min_width=250,
                    elem_id="look",
                )
                left = gr.Dropdown(
                    over.names, value="0", label="Left", container=False, min_width=110, elem_id="left"
                )
                right = gr.Dropdown(
                    over.names, value="1", label="Right", container=False, min_width=110, elem_id="right"
                )
            slider = gr.ImageSlider(
                over.pair,
                label="Drag to compare",
                format="png",
                type="pil",
                interactive=False,
                height=400,
                max_height=400,
                buttons=["fullscreen"],
                elem_id="slider",
                elem_classes="stage",
            )
            mapped = gr.Image(
                label="Difference map",
                format="png",
                type="pil",
                interactive=False,
                height=400,
                buttons=["fullscreen"],
                visible=False,
                elem_id="difference",
                elem_classes="stage",
            )
            legend = gr.HTML(over.words, elem_id="legend")
        with gr.Column(min_width=320):
            with gr.Accordion("Several prompts and seeds", open=False, elem_id="several"):
                prompts = gr.Textbox(
                    "", label="More prompts, one a line", lines=3, max_lines=8, elem_id="prompts"
                )
                seeds = gr.Textbox(
                    "", label="More seeds", placeholder="4, 7, 10-12", max_lines=1, elem_id="seeds"
                )
                count = gr.HTML("", elem_id="count")
            with gr.Accordion("More settings", open=False, elem_id="more"):
                guidance = gr.Slider(
                    1,
                    20,
                    1,
                    step=0.1,
                    label="Guidance",
                    info="1 is none; an ensemble has its own in its weights",
                    elem_id="guidance",
                )
                with gr.Row():
                    for number, parts_of_arm in enumerate(arms, 1):
                        parts_of_arm.append(
                            gr.Number(
                                None,
                                label=f"Of arm {number}",
                                placeholder="as above",
                                minimum=0,
                                maximum=20,
                                min_width=80,
                                elem_id=f"guidance-{number}",
                            )
                        )
                with gr.Row():
                    width, height = (
                        gr.Number(
                            None,
                            label=f"{name.capitalize()} in pixels",
                            placeholder="the backbone's own",
                            precision=0,
                            minimum=0,
                            min_width=120,
                            elem_id=name,
                        )
                        for name in ("width", "height")
                    )
            with gr.Row():
                get_all = gr.Button("Download all as ZIP", size="sm", min_width=150, elem_id="get-all")
                to_study = gr.Button("Send to vote study", size="sm", min_width=150, elem_id="to-study")
            history = gr.Gallery(
                label="This session",
                columns=5,
                height=250,
                object_fit="contain",
                format="png",
                allow_preview=False,
                fit_columns=False,
                buttons=[],
                elem_id="history",
            )
            gr.HTML(
                "<div class='aside'>Pictures you render are kept here while the studio runs. "
                "Choose one to see its arms again, and to set everything as it was.</div>"
            )
    return Page(
        visitor=visitor,
        now=now,
        file=file,
        lead=lead,
        prompt=prompt,
        seed=seed,
        roll=roll,
        steps=steps,
        run=run,
        stop=stop,
        remark=remark,
        usual=usual,
        against=against,
        from_png=from_png,
        images=images,
        captions=captions,
        arms=arms,
        gets=gets,
        sends=sends,
        try_prompt=try_prompt,
        grid=grid,
        table=table,
        look=look,
        left=left,
        right=right,
        slider=slider,
        mapped=mapped,
        legend=legend,
        prompts=prompts,
        seeds=seeds,
        count=count,
        guidance=guidance,
        width=width,
        height=height,
        get_all=get_all,
        to_study=to_study,
        history=history,
    )
