"""Quick vote: two arms on a new seed, names hidden until you have chosen. A win rate in minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from calibri.errors import StudyError
from studio.core import Core
from studio.quick_vote.votes import Contender, Offer, analyse_votes, offer, vote
from studio.rendering import first_visit
from studio.rendering.arms import DESK, KINDS, WORDS, Arm, Choice, list_saved, resolve_arms
from studio.rendering.asks import SLIDER_STEPS, Ask, dice
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, Shot, guidance_of, shoot_all
from studio.studies.results import charts
from studio.studies.results.analysis import headline
from studio.studies.studies import Studies
from studio.ui.elements import SHOWN, chart, empty, hint, read_beside, serve_enlarged
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, RENDERS, tell_progress, visitor_state, when_loaded, when_switched

TITLE, PATH = "Quick vote", "/quick"
LEAD = (
    "Two pictures of one prompt, on a seed that you have not seen. You learn which arm made which when you "
    "have chosen."
)
BEFORE = "Press Render: two pictures will appear above, without names."
LAST, OWN = "last", "own"  # whose arms: those of the visitor's last comparison, or chosen here
SIDES = {"left": "A is better", "right": "B is better", "tie": "No difference", "both_bad": "Both are bad"}


@dataclass(frozen=True)
class Page:
    """The components of the page. `given`: study and token of the pictures that wait for a vote."""

    visitor: gr.BrowserState
    given: gr.State
    prompt: gr.Textbox
    run: gr.Button
    pictures: list[gr.Image]
    votes: list[gr.Button]
    told: gr.HTML
    whose: gr.Radio
    which: gr.CheckboxGroup
    granularity: gr.Radio
    calibrated: gr.Dropdown
    steps: gr.Slider
    words: gr.HTML
    forest: gr.HTML


def lay_out() -> Page:
    """Make the components inside the current Blocks."""
    visitor, given = visitor_state(), gr.State(None)
    gr.HTML(f"<div class='lead'>{LEAD}</div>", js_on_load=read_beside(__file__, "quick.js"))
    with gr.Row(equal_height=True):
        example = first_visit.list_examples()[0]
        prompt = gr.Textbox(example, label="Prompt", scale=6, min_width=240, elem_id="quick-prompt")
        run = gr.Button(
            "Render",
            variant="primary",
            scale=1,
            min_width=110,
            elem_id="quick-render",
            elem_classes="primary-action",
        )
    with gr.Row():
        pictures = [_lay_out_picture(name) for name in ("A", "B")]
    with gr.Row(elem_classes="go-on"):
        votes = [
            gr.Button(f"{text} ({key})", interactive=False, min_width=150, elem_id=f"quick-vote-{side}")
            for key, (side, text) in enumerate(SIDES.items(), 1)
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
            kinds = [(WORDS[kind], kind) for kind in KINDS]
            which = gr.CheckboxGroup(kinds, value=["base", "calibrated"], label="Arms", elem_id="quick-arms")
            granularity = gr.Radio(["block", "layer", "gate"], value="layer", label="Granularity")
            calibrated = gr.Dropdown(
                [("Your desk", DESK)], value=None, label="Calibrated is", elem_id="quick-calibrated"
            )
            steps = gr.Slider(1, SLIDER_STEPS, 8, step=1, label="Steps", elem_id="quick-steps")
    words = gr.HTML("", elem_id="quick-score")
    forest = chart(elem_id="quick-forest", height=140)
    settings = (whose, which, granularity, calibrated, steps)
    return Page(visitor, given, prompt, run, pictures, votes, told, *settings, words, forest)


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


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks and connect it."""
    page, do = lay_out(), Handlers(core, studies)
    gr.on(
        [page.run.click, page.prompt.submit],
        guard(do.on_render),
        [page.visitor, page.prompt, page.which, page.calibrated, page.granularity, page.steps, page.whose],
        [page.given, *page.pictures, page.told, *page.votes],
        show_progress_on=page.pictures,
        **RENDERS,
    )
    for button, side in zip(page.votes, SIDES):
        button.click(
            do.vote(side),
            [page.visitor, page.given],
            [page.given, page.told, page.words, page.forest, *page.votes],
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=8,
            concurrency_id="votes",  # a lane of its own: studio.shell.lanes
        )
    page.granularity.input(do.on_granularity, page.granularity, page.calibrated, **IN_ORDER)
    opened = [page.calibrated, page.words, page.forest, page.whose, page.prompt, page.steps]
    when_loaded(page.visitor, do.on_load, [page.granularity], opened)
    when_switched(do.on_load, [page.visitor, page.granularity], opened)


class Handlers:
    """What the page's events call."""

    def __init__(self, core: Core, studies: Studies) -> None:
        self._core, self._studies = core, studies

    def on_render(
        self,
        visitor_id: str,
        prompt: str,
        kinds: list[str],
        own: str | None,
        granularity: str,
        steps: float,
        whose: str,
        progress: gr.Progress = gr.Progress(),
    ) -> list[Any]:
        """Two pictures without names, and the buttons to vote with."""
        picks: dict[str, str | None] = {
            kind: own or None if kind == "calibrated" else None for kind in KINDS if kind in kinds
        }
        ask = Ask.read(prompt, dice(), steps)
        reports = tell_progress(progress)
        made = deal(self._core, self._studies, visitor_id, ask, whose, picks, granularity, **reports)
        question = "<b>{}</b>: which one do you like better? You learn the names when you have chosen."
        asked = hint(Markup(question).format(" ".join(prompt.split())))
        pictures = [serve_enlarged(image) for image in (made.left, made.right)]
        buttons = [gr.Button(interactive=True)] * len(SIDES)
        return [{"study": made.study, "token": made.token}, *pictures, asked, *buttons]

    def vote(self, side: str) -> Callable[..., list[Any]]:
        """The handler of one of SIDES."""

        @guard
        def cast(visitor_id: str, given: dict[str, str] | None) -> list[Any]:
            if not given:
                raise StudyError("Render two pictures first.")
            told = vote(self._studies, visitor_id, given["study"], given["token"], side)
            reveal = Markup("A was <b>{}</b>, B was <b>{}</b>. Press Render for the next two.")
            words = hint(reveal.format(told.left, told.right))
            buttons = [gr.Button(interactive=False)] * len(SIDES)
            return [None, words, *draw_score(self._core, self._studies), *buttons]

        return cast

    def on_granularity(self, granularity: str) -> Any:
        saved = list_saved(self._core, "calibrated", granularity)
        return gr.Dropdown([("The studio's first", ""), *saved, ("Your desk", DESK)], value="")

    def on_load(self, visitor_id: str, granularity: str) -> list[Any]:
        last = find_last_comparison(self._core, visitor_id)
        source = gr.Radio(value=OWN if last is None else LAST)
        usual = first_visit.usual_ask(self._core)
        prompt = gr.Textbox(value=usual.prompt if last is None else last.ask.prompt)
        steps = gr.Slider(value=min(usual.steps, SLIDER_STEPS))
        score = draw_score(self._core, self._studies)
        return [self.on_granularity(granularity), *score, source, prompt, steps]


def find_last_comparison(core: Core, visitor: object) -> Comparison | None:
    """The visitor's last comparison with at least two rendered arms."""
    history = core.visitors.of(visitor).place(SharedPlace).history
    return next((c for c in history if sum(s.image is not None for s in c.shots) > 1), None)


def make_contenders(shots: list[Shot]) -> list[Contender]:
    """The rendered shots as arms of a vote."""
    return [
        Contender.of(
            shot.image,
            label=shot.arm.calibration.title if shot.arm.calibration else WORDS[shot.arm.kind],
            kind=shot.arm.kind,
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


def choose_arms(
    core: Core, visitor: str, ask: Ask, whose: str, picks: dict[str, str | None], granularity: str
) -> list[tuple[Arm, Ask]]:
    """The arms to choose two from, each with its ask. `picks`: kind → DESK, the id of a calibration, or None
    for the studio's first of that kind.

    Raises StudyError where fewer than two can be rendered.
    """
    if whose == LAST:
        last = find_last_comparison(core, visitor)
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
    """Render the arms on this seed and offer two. Raises what `choose_arms` and rendering raise."""
    with core.visitors.of(visitor).working("quick") as cancelled:
        core.host.wait_ready(cancel=cancelled)
        arms = choose_arms(core, visitor, ask, whose, picks, granularity)
        shots = shoot_all(core, arms, score=False, cancel=cancelled, **calls)
    return offer(studies, visitor, core.backbone_name, ask.prompt, ask.seed, make_contenders(shots))


def draw_score(core: Core, studies: Studies) -> tuple[str, Any]:
    """(sentences, forest plot) of all quick votes on this backbone."""
    analysis = analyse_votes(studies, core.backbone_name)
    if analysis is None or not analysis.total:
        return empty("Win rates will appear here after the first vote."), None
    met = [headline(table) for table in analysis.tables["preference"] if table.tally.total]
    lines = Markup("").join(Markup("<div>{}</div>").format(sentence) for sentence in met)
    return hint(lines), charts.forest(analysis, "preference", met_only=True)
