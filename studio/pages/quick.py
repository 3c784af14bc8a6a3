"""Quick vote: two of your arms on a fresh seed, names hidden until you have chosen. A win rate in minutes."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from calibri.errors import StudyError
from studio import charts_votes, firstvisit
from studio.arms import DESK, KINDS, WORDS, Ask, Shot, arm, choices, dice, shoot
from studio.components import (
    SHOWN,
    chart,
    empty,
    enlarged,
    guard,
    hint,
    step_words,
    visitor_state,
    waiting,
    when_loaded,
)
from studio.quickvote import Contender, Offer, offer, standing, vote
from studio.results import headline
from studio.services import Services

TITLE, PATH = "Quick vote", "/quick"
LEAD = (
    "Two pictures of your prompt on a fresh seed. You do not know which arm made which until you have chosen."
)
BEFORE = "Press Render: two pictures will appear here, without names."


def available(services: Services) -> bool:
    return services.studies is not None


def contenders(shots: list[Shot]) -> list[Contender]:
    """The rendered shots as arms of a vote."""
    return [
        Contender(
            label=shot.arm.calibration.title if shot.arm.calibration else WORDS[shot.arm.kind],
            kind=shot.arm.kind,
            image=shot.image,
            steps=shot.ask.steps,
            guidance=shot.ask.guidance if shot.arm.kind != "ensemble" else 1.0,
            calibration=shot.arm.calibration.to_json() if shot.arm.calibration else None,
            calibration_hash=shot.arm.calibration.hash if shot.arm.calibration else None,
        )
        for shot in shots
        if shot.image is not None
    ]


def deal(
    services: Services, visitor: str, ask: Ask, picks: dict[str, str | None], granularity: str, **calls: Any
) -> Offer:
    """Render the chosen arms on this seed and offer two of them. `picks`: kind → choice, as in `arms.arm`.

    Raises StudyError where fewer than two arms can be rendered, and what rendering raises.
    """
    place = services.visitors.of(visitor)
    cancelled = place.begin("quick")
    services.host.wait_ready(cancel=cancelled)
    chosen = [arm(services, kind, granularity, picks[kind], place.desk) for kind in KINDS if kind in picks]
    missing = [a.missing for a in chosen if a.missing]
    if len(chosen) - len(missing) < 2:
        raise StudyError(missing[0] if missing else "Choose at least two arms.")
    shots = shoot(services, chosen, ask, score=False, cancel=cancelled, **calls)
    backbone = services.host.status.backbone
    assert services.studies is not None
    return offer(services.studies, visitor, backbone, ask.prompt, ask.seed, contenders(shots))


def score(services: Services) -> tuple[str, Any]:
    """(sentences, forest plot) of all quick votes on this backbone."""
    assert services.studies is not None
    analysis = standing(services.studies, services.host.status.backbone)
    if analysis is None or not analysis.total:
        return empty("Win rates will stand here after the first vote."), None
    lines = "".join(
        f"<div>{html.escape(headline(t))}</div>" for t in analysis.tables["preference"] if t.tally.total
    )
    return hint(lines), charts_votes.forest(analysis, "preference")


def build(services: Services) -> None:
    """Lay out the page inside the current Blocks."""
    visitor = visitor_state()
    given = gr.State(None)
    gr.HTML(f"<div class='lead'>{LEAD}</div>")
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(firstvisit.examples()[0], label="Prompt", scale=6, elem_id="quick-prompt")
        run = gr.Button(
            "Render", variant="primary", min_width=110, elem_id="quick-render", elem_classes="primary-action"
        )
    with gr.Row():
        which = gr.CheckboxGroup(
            [(WORDS[k], k) for k in KINDS], value=["base", "calibrated"], label="Arms", elem_id="quick-arms"
        )
        calibrated = gr.Dropdown(
            [("Your desk", DESK)], value=None, label="Calibrated is", elem_id="quick-calibrated"
        )
        granularity = gr.Radio(["block", "layer", "gate"], value="layer", label="Granularity")
        steps = gr.Slider(1, 50, 8, step=1, label="Steps", elem_id="quick-steps")
    with gr.Row():
        pictures = [
            gr.Image(
                label=name,
                format="png",
                type="pil",
                interactive=False,
                height=SHOWN + 8,
                buttons=["fullscreen"],
                elem_id=f"quick-{name.lower()}",
                elem_classes=["stage"],
                alt_text=f"Picture {name}",
            )
            for name in ("A", "B")
        ]
    with gr.Row(elem_classes="go-on"):
        buttons = [
            gr.Button(text, interactive=False, elem_id=f"quick-vote-{side}")
            for text, side in (
                ("A is better", "left"),
                ("No difference", "tie"),
                ("Both are bad", "both_bad"),
                ("B is better", "right"),
            )
        ]
    told = gr.HTML(empty(BEFORE), elem_id="quick-told")
    words = gr.HTML("", elem_id="quick-score")
    forest = chart(elem_id="quick-forest", height=140)

    @guard
    def on_render(
        visitor_id: str,
        text: str,
        arms: list[str],
        own: str | None,
        level: str,
        count: float,
        progress: gr.Progress = gr.Progress(),
    ) -> list[Any]:
        picks = {kind: own or None if kind == "calibrated" else None for kind in KINDS if kind in arms}
        made = deal(
            services,
            visitor_id,
            Ask.checked(text, dice(), count),
            picks,
            level,
            on_step=step_words(progress, "Rendering"),
            on_wait=waiting(progress),
        )
        asked = hint("Which one do you like better? The names follow when you have chosen.")
        keep = {"study": made.study, "token": made.token}
        shown = [gr.Button(interactive=True)] * len(buttons)
        return [keep, enlarged(made.left), enlarged(made.right), asked, *shown]

    gr.on(
        [run.click, prompt.submit],
        on_render,
        [visitor, prompt, which, calibrated, granularity, steps],
        [given, *pictures, told, *buttons],
        concurrency_limit=8,
        concurrency_id="people",
        show_progress_on=pictures,
        api_visibility="private",
    )

    def voting(side: str) -> Any:
        @guard
        def cast(visitor_id: str, kept: dict[str, str] | None) -> list[Any]:
            if not kept:
                raise StudyError("Render two pictures first.")
            assert services.studies is not None
            told_now = vote(services.studies, visitor_id, kept["study"], kept["token"], side)
            reveal = f"A was <b>{html.escape(told_now.left)}</b>, B was <b>{html.escape(told_now.right)}</b>."
            return [None, hint(reveal), *score(services), *[gr.Button(interactive=False)] * len(buttons)]

        return cast

    for button, side in zip(buttons, ("left", "tie", "both_bad", "right")):
        button.click(
            voting(side),
            [visitor, given],
            [given, told, words, forest, *buttons],
            show_progress="hidden",
            api_visibility="private",
        )

    def on_level(level: str) -> Any:
        offered = [("The studio's first", ""), *choices(services, "calibrated", level), ("Your desk", DESK)]
        return gr.Dropdown(offered, value="")

    granularity.input(
        on_level, granularity, calibrated, queue=False, show_progress="hidden", api_visibility="private"
    )

    def on_load(visitor_id: str, level: str) -> list[Any]:
        return [on_level(level), *score(services)]

    when_loaded(visitor, on_load, [granularity], [calibrated, words, forest])
