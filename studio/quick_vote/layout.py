"""The components of the page Quick vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.quick_vote.runs import LAST, OWN
from studio.rendering.arms import DESK
from studio.rendering.asks import SLIDER_STEPS
from studio.studies.pages.board import board_style
from studio.ui.elements import SHOWN, chart, empty, lead, primary_button, read_beside
from studio.ui.events import visitor_state

LEAD = (
    "Press Start and choose: two pictures of one prompt, on a seed that you have not seen, then the next "
    "two, until you stop. Which arm made which is told after each choice."
)
BEFORE = "Press Start: two pictures will appear here, without names."
SIDES = {"left": "A is better", "right": "B is better", "tie": "No difference", "both_bad": "Both are bad"}
KEYS = {"left": "←", "right": "→", "tie": "↓", "both_bad": "↑"}
BEAT = 4.0  # seconds between two signs of an open page


@dataclass(frozen=True)
class Page:
    """The components of the page. `running`: the id of the run; `given`: study and token of the pictures that
    wait for a vote; `beat`: tells the studio that the page is open, while a run is on."""

    visitor: gr.BrowserState
    running: gr.State
    given: gr.State
    beat: gr.Timer
    start: gr.Button
    stop: gr.Button
    asked: gr.HTML
    pictures: list[gr.Image]
    votes: list[gr.Button]
    told: gr.HTML
    bar: gr.HTML
    whose: gr.Radio
    picks: gr.Dropdown
    steps: gr.Slider
    typed: gr.Textbox
    words: gr.HTML
    forest: gr.HTML
    board: gr.HTML

    @property
    def settings(self) -> list[Any]:
        return [self.whose, self.picks, self.typed, self.steps]

    @property
    def pair(self) -> list[Any]:
        """What changes with each pair."""
        return [self.given, self.asked, *self.pictures, *self.votes]

    @property
    def run(self) -> list[Any]:
        """What changes with each run."""
        return [self.running, self.stop, self.beat, self.told, self.bar]

    @property
    def score(self) -> list[Any]:
        """What changes with each vote, whoever gave it."""
        return [self.words, self.forest, self.board]


def lay_out() -> Page:
    """Make the components inside the current Blocks."""
    visitor, running, given = visitor_state(), gr.State(None), gr.State(None)
    beat = gr.Timer(BEAT, active=False)
    lead(LEAD, __file__, "quick.css", js_on_load=read_beside(__file__, "quick.js"))
    with gr.Row(equal_height=True, elem_id="quick-top"):
        start = primary_button("Start", "quick-start", scale=0, min_width=130)
        stop = gr.Button("Stop", interactive=False, scale=0, min_width=110, elem_id="quick-stop")
        asked = gr.HTML(empty(BEFORE), elem_id="quick-asked")
    with gr.Row():
        pictures = [_lay_out_picture(name) for name in ("A", "B")]
    with gr.Row(elem_classes="go-on"):
        votes = [
            gr.Button(
                f"{text} ({KEYS[side]})", interactive=False, min_width=150, elem_id=f"quick-vote-{side}"
            )
            for side, text in SIDES.items()
        ]
    told = gr.HTML("", elem_id="quick-told")
    bar = gr.HTML("", elem_id="quick-bar")
    settings = _lay_out_settings()
    words = gr.HTML("", elem_id="quick-score")
    forest = chart(elem_id="quick-forest", height=140)
    gr.HTML(board_style())
    gr.Markdown("### All calibrations, over all quick votes")
    board = gr.HTML("", elem_id="quick-board")
    above: tuple[Any, ...] = (visitor, running, given, beat, start, stop, asked, pictures, votes, told, bar)
    return Page(*(*above, *settings, words, forest, board))


def _lay_out_settings() -> tuple[Any, ...]:
    with gr.Accordion("Arms, prompts and steps", open=False, elem_id="quick-settings"):
        whose = gr.Radio(
            [
                ("The base and these calibrations", OWN),
                ("The arms I compared last, on the page Compare", LAST),
            ],
            value=OWN,
            label="Vote on",
            elem_id="quick-whose",
        )
        with gr.Row():
            picks = gr.Dropdown(
                [("Your desk", DESK)],
                value=[],
                multiselect=True,
                label="Calibrations",
                info="Those that met least often meet next",
                elem_id="quick-picks",
                scale=3,
            )
            steps = gr.Slider(1, SLIDER_STEPS, 8, step=1, label="Steps", elem_id="quick-steps", scale=2)
        typed = gr.Textbox(
            "",
            label="Prompts",
            info="One on each line; empty: those that suit the backbone, shuffled",
            lines=2,
            max_lines=8,
            elem_id="quick-prompts",
        )
    return whose, picks, steps, typed


def _lay_out_picture(name: str) -> gr.Image:
    return gr.Image(
        label=name,
        format="png",
        type="pil",
        interactive=False,
        height=SHOWN + 8,
        min_width=160,
        buttons=["fullscreen"],
        elem_id=f"quick-{name.lower()}",
        elem_classes=["stage"],
        alt_text=f"Picture {name}",
    )
