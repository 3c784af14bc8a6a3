"""Quick vote: two arms on a fresh seed, names hidden until you have chosen. A win rate in minutes."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import gradio as gr

from calibri.errors import StudyError
from studio.core import Core
from studio.quick_vote.votes import Contender, Offer, offer, standing, vote
from studio.rendering import first_visit
from studio.rendering.arms import DESK, KINDS, WORDS, Arm, Choice, list_saved, resolve_arms
from studio.rendering.asks import Ask, dice
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, Shot, guidance_of, shoot_all
from studio.studies.results import charts
from studio.studies.results.analysis import headline
from studio.studies.studies import Studies
from studio.ui.elements import SHOWN, chart, empty, hint, read_beside, serve_enlarged
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, tell_progress, visitor_state, when_loaded, when_switched

TITLE, PATH = "Quick vote", "/quick"
LEAD = (
    "Two pictures of one prompt, on a seed that you have not seen. Which arm made which is told when "
    "you have chosen."
)
BEFORE = "Press Render: two pictures will appear above, without names."
LAST, OWN = "last", "own"  # whose arms: those of the visitor's last comparison, or chosen here
SIDES = (
    ("A is better", "left"),
    ("B is better", "right"),
    ("No difference", "tie"),
    ("Both are bad", "both_bad"),
)


def last_compared(core: Core, visitor: object) -> Comparison | None:
    """The visitor's last comparison, where at least two of its arms were rendered."""
    history = core.visitors.of(visitor).place(SharedPlace).history
    return next((c for c in history if sum(s.image is not None for s in c.shots) > 1), None)


def contenders(shots: list[Shot]) -> list[Contender]:
    """The rendered shots as arms of a vote."""
    return [
        Contender(
            label=shot.arm.calibration.title if shot.arm.calibration else WORDS[shot.arm.kind],
            kind=shot.arm.kind,
            image=shot.image,
            steps=shot.ask.steps,
            guidance=guidance_of(shot),
            calibration=shot.arm.calibration.to_json() if shot.arm.calibration else None,
            calibration_hash=shot.arm.calibration.hash if shot.arm.calibration else None,
            width=shot.ask.width,
            height=shot.ask.height,
        )
        for shot in shots
        if shot.image is not None
    ]


def wanted_of(
    core: Core, visitor: str, ask: Ask, whose: str, picks: dict[str, str | None], granularity: str
) -> list[tuple[Arm, Ask]]:
    """The arms to choose two from, each with what is asked of it. `picks`: kind → DESK, the id of a
    calibration, or None for the studio's first of that kind.

    Raises StudyError where there are fewer than two that can be rendered.
    """
    if whose == LAST:
        last = last_compared(core, visitor)
        if last is None:
            raise StudyError("Compare two arms first on the page Compare, or choose the arms here.")
        return [
            (s.arm, replace(s.ask, prompt=ask.prompt, seed=ask.seed)) for s in last.shots if not s.arm.missing
        ]
    choices = [Choice(picks[kind] or kind, granularity=granularity) for kind in KINDS if kind in picks]
    chosen = resolve_arms(core, choices, core.visitors.of(visitor))
    missing = [a.missing for a in chosen if a.missing]
    if len(chosen) - len(missing) < 2:
        raise StudyError(missing[0] if missing else "Choose at least two arms.")
    return [(a, ask) for a in chosen if not a.missing]


def deal(
    core: Core,
    studies: Studies,
    visitor: str,
    ask: Ask,
    whose: str,
    picks: dict[str, str | None],
    granularity: str,
    **calls: Any,
) -> Offer:
    """Render the arms on this seed and offer two of them. Raises StudyError as `wanted_of` does, and what
    rendering raises.
    """
    cancelled = core.visitors.of(visitor).begin("quick")
    core.host.wait_ready(cancel=cancelled)
    wanted = wanted_of(core, visitor, ask, whose, picks, granularity)
    shots = shoot_all(core, wanted, score=False, cancel=cancelled, **calls)
    backbone = core.backbone_name
    return offer(studies, visitor, backbone, ask.prompt, ask.seed, contenders(shots))


def score(core: Core, studies: Studies) -> tuple[str, Any]:
    """(sentences, forest plot) of all quick votes on this backbone."""
    analysis = standing(studies, core.backbone_name)
    if analysis is None or not analysis.total:
        return empty("Win rates will stand here after the first vote."), None
    lines = "".join(
        f"<div>{html.escape(headline(t))}</div>" for t in analysis.tables["preference"] if t.tally.total
    )
    return hint(lines), charts.forest(analysis, "preference", met_only=True)


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks."""
    visitor = visitor_state()
    given = gr.State(None)
    gr.HTML(f"<div class='lead'>{LEAD}</div>", js_on_load=read_beside(__file__, "quick.js"))
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(
            first_visit.list_examples()[0], label="Prompt", scale=6, min_width=240, elem_id="quick-prompt"
        )
        run = gr.Button(
            "Render",
            variant="primary",
            scale=1,
            min_width=110,
            elem_id="quick-render",
            elem_classes="primary-action",
        )
    with gr.Row():
        pictures = [
            gr.Image(
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
            for name in ("A", "B")
        ]
    with gr.Row(elem_classes="go-on"):
        buttons = [
            gr.Button(f"{text} ({key})", interactive=False, min_width=150, elem_id=f"quick-vote-{side}")
            for key, (text, side) in enumerate(SIDES, 1)
        ]
    told = gr.HTML(empty(BEFORE), elem_id="quick-told")
    with gr.Accordion("Arms and settings", open=False, elem_id="quick-settings"):
        whose = gr.Radio(
            [("The arms I compared last, on the page Compare", LAST), ("These arms", OWN)],
            value=OWN,
            label="Vote on",
            elem_id="quick-whose",
        )
        with gr.Row():
            which = gr.CheckboxGroup(
                [(WORDS[k], k) for k in KINDS],
                value=["base", "calibrated"],
                label="Arms",
                elem_id="quick-arms",
            )
            granularity = gr.Radio(["block", "layer", "gate"], value="layer", label="Granularity")
            calibrated = gr.Dropdown(
                [("Your desk", DESK)], value=None, label="Calibrated is", elem_id="quick-calibrated"
            )
            steps = gr.Slider(1, 50, 8, step=1, label="Steps", elem_id="quick-steps")
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
        source: str,
        progress: gr.Progress = gr.Progress(),
    ) -> list[Any]:
        picks = {kind: own or None if kind == "calibrated" else None for kind in KINDS if kind in arms}
        made = deal(
            core,
            studies,
            visitor_id,
            Ask.read(text, dice(), count),
            source,
            picks,
            level,
            **tell_progress(progress),
        )
        asked = hint(
            f"<b>{html.escape(' '.join(text.split()))}</b>: which one do you like better? "
            "The names follow when you have chosen."
        )
        keep = {"study": made.study, "token": made.token}
        shown = [gr.Button(interactive=True)] * len(buttons)
        return [keep, serve_enlarged(made.left), serve_enlarged(made.right), asked, *shown]

    gr.on(
        [run.click, prompt.submit],
        on_render,
        [visitor, prompt, which, calibrated, granularity, steps, whose],
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
            told_now = vote(studies, visitor_id, kept["study"], kept["token"], side)
            reveal = (
                f"A was <b>{html.escape(told_now.left)}</b>, B was <b>{html.escape(told_now.right)}</b>. "
                "Press Render for the next two."
            )
            return [None, hint(reveal), *score(core, studies), *[gr.Button(interactive=False)] * len(buttons)]

        return cast

    for button, (_, side) in zip(buttons, SIDES):
        button.click(
            voting(side),
            [visitor, given],
            [given, told, words, forest, *buttons],
            show_progress="hidden",
            api_visibility="private",
        )

    def on_level(level: str) -> Any:
        offered = [("The studio's first", ""), *list_saved(core, "calibrated", level), ("Your desk", DESK)]
        return gr.Dropdown(offered, value="")

    granularity.input(on_level, granularity, calibrated, **IN_ORDER)

    def on_load(visitor_id: str, level: str) -> list[Any]:
        last = last_compared(core, visitor_id)
        source = gr.Radio(value=OWN if last is None else LAST)
        text = gr.Textbox() if last is None else gr.Textbox(value=last.ask.prompt)
        return [on_level(level), *score(core, studies), source, text]

    when_loaded(visitor, on_load, [granularity], [calibrated, words, forest, whose, prompt])
    when_switched(on_load, [visitor, granularity], [calibrated, words, forest, whose, prompt])
