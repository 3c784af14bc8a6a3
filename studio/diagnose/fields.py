"""The components of the page Diagnose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from calibri.backbones.layouts import GRANULARITIES
from studio.core import Core
from studio.diagnose.charts import OBJECTIVE
from studio.diagnose.form import SHOWN, VALUES
from studio.diagnose.view import list_views
from studio.machine.offers import JUDGES, offer_rewards, usual_rewards
from studio.rendering.asks import SLIDER_STEPS
from studio.rendering.prompt_files import lay_out_prompt_file
from studio.ui.elements import chart, empty, picture, primary_button, show_remark

NO_CELL = "Click on a cell of the heat map, or choose one in the list: its pictures appear here."
NO_COST = "The cost appears here as soon as the backbone is loaded."
NO_SWEEP = "No sweep yet. Press “Start sweep”: the heat map fills block by block."


@dataclass(frozen=True)
class SettingsFields:
    """What a sweep measures, in the order of `form.read_settings`, and the button that reads prompts."""

    rewards: gr.Dropdown
    pairs: gr.Slider
    steps: gr.Slider
    granularity: gr.Radio
    guidance: gr.Slider
    values: gr.Textbox
    prompts: gr.Textbox
    prompt_file: gr.UploadButton

    @property
    def inputs(self) -> list[Any]:
        return list(vars(self).values())[:-1]


@dataclass(frozen=True)
class SweepFields:
    """The sweep that is shown, and what can be done with it."""

    cost: gr.HTML
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    which: gr.Dropdown
    view: gr.Radio
    words: gr.HTML
    heat: gr.HTML
    cell: gr.Dropdown
    best: gr.Button
    away: gr.Button  # puts the example away, and brings it back

    @property
    def state(self) -> list[Any]:
        """What changes with the state of the sweep."""
        return [self.words, self.stop, self.resume, self.away]

    @property
    def map(self) -> list[Any]:
        """What changes with its cells."""
        return [self.heat, self.view, self.cell, self.best]


@dataclass(frozen=True)
class CellFields:
    """One cell: words and, for each prompt, the base's picture, the cell's and a caption."""

    about: gr.HTML
    stage: gr.Row
    columns: list[gr.Column] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)

    @property
    def outputs(self) -> list[Any]:
        return [self.about, self.stage, *self.columns, *self.seen]


def list_offers(core: Core) -> list[tuple[str, str]]:
    """(words, name) of the rewards that fit the backbone which is there, or on its way."""
    offered = offer_rewards(name_backbone(core), core.rewards.loading)
    return [(words, name) for words, name in offered if name not in JUDGES]


def name_backbone(core: Core) -> str:
    """The backbone that is there, or on its way."""
    return core.spec.name if core.spec is not None else core.backbone_name


def lay_out_settings(core: Core) -> SettingsFields:
    steps_at_first = core.spec.steps if core.spec is not None else 8
    with gr.Row(equal_height=True):
        rewards = gr.Dropdown(
            list_offers(core),
            value=usual_rewards(name_backbone(core), core.rewards.loading),
            multiselect=True,
            allow_custom_value=True,
            label="Rewards",
            info="name, or name:weight",
            scale=4,
            min_width=300,
            elem_id="sweep-rewards",
        )
        granularity = gr.Radio(
            [(g.capitalize(), g) for g in GRANULARITIES],
            value="block",
            label="One scale for each",
            info="finer means more cells",
            scale=3,
            min_width=260,
            elem_id="sweep-granularity",
        )
        pairs = _slider("pairs", 2, 128, 16, label="Prompts", info="for each cell", scale=2, min_width=190)
        steps = _slider(
            "steps", 1, SLIDER_STEPS, steps_at_first, label="Steps", info="as you will use it", scale=2
        )
    with gr.Accordion("More settings", open=False), gr.Row():
        one: dict[str, Any] = {"label": "Values of the one scale", "info": "0 bypasses"}
        values = gr.Textbox(VALUES, max_lines=1, min_width=240, elem_id="sweep-values", **one)
        guidance = _slider("guidance", 1, 10, 1, step=0.1, label="Guidance", info="1 is none")
        prompts = gr.Textbox(
            label="Your own prompts, one a line",
            info="Empty: a set that suits the backbone",
            lines=3,
            max_lines=8,
            min_width=300,
            scale=2,
            elem_id="sweep-prompts",
        )
        prompt_file = lay_out_prompt_file("sweep-prompt-file", scale=0, min_width=150)
    return SettingsFields(rewards, pairs, steps, granularity, guidance, values, prompts, prompt_file)


def _slider(name: str, low: float, high: float, value: float, **options: Any) -> gr.Slider:
    return gr.Slider(low, high, value, elem_id=f"sweep-{name}", **{"step": 1, "min_width": 170, **options})


def lay_out_sweep() -> SweepFields:
    with gr.Row(equal_height=True):
        cost = gr.HTML(show_remark(NO_COST), elem_id="sweep-cost", min_width=300)
        start = primary_button("Start sweep", "sweep-start", scale=0, min_width=150)
        stop = gr.Button("Stop", scale=0, min_width=80, interactive=False, elem_id="sweep-stop")
        resume = gr.Button("Resume", scale=0, min_width=110, interactive=False, elem_id="sweep-resume")
    wide: dict[str, Any] = {"scale": 3, "min_width": 300}
    with gr.Row(equal_height=True):
        which = gr.Dropdown([], label="Sweep", elem_id="sweep-which", **wide)
        views = list_views(None)
        view = gr.Radio(views, value=OBJECTIVE, label="Difference in", elem_id="sweep-view", **wide)
    words = gr.HTML(empty(NO_SWEEP), elem_id="sweep-words")
    heat = chart(elem_id="heat", height=290)
    with gr.Row(equal_height=True):
        about: dict[str, Any] = {"label": "Cell, the best first", "info": "or click on the heat map"}
        cell = gr.Dropdown([], scale=4, min_width=300, elem_id="sweep-cell", **about)
        best_words = "Use the best of each block as start"
        best = gr.Button(best_words, scale=2, min_width=260, interactive=False, elem_id="sweep-best")
    away = gr.Button("", size="sm", scale=0, min_width=190, visible=False, elem_id="sweep-example")
    return SweepFields(cost, start, stop, resume, which, view, words, heat, cell, best, away)


def lay_out_cell() -> CellFields:
    about = gr.HTML(empty(NO_CELL), elem_id="sweep-about")
    with gr.Row(visible=False, elem_id="cell-pictures") as stage:
        made = CellFields(about, stage)
        for number in range(1, SHOWN + 1):
            with gr.Column(min_width=300) as column:
                made.columns.append(column)
                changed = "With this one scale changed"
                made.seen.append(picture("base", elem_id=f"cell-base-{number}", label="Base"))
                made.seen.append(picture("calibrated", elem_id=f"cell-mine-{number}", label=changed))
                made.seen.append(gr.HTML("", elem_id=f"cell-words-{number}"))
    return made
