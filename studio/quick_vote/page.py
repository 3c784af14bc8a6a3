"""Quick vote: pairs without names, one after another, until you stop. A win rate in minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from calibri.errors import StudyError
from calibri.words import count
from studio.core import Core
from studio.quick_vote import runs
from studio.quick_vote.layout import BEFORE, SIDES, lay_out
from studio.quick_vote.runs import LAST, OWN, QuickPlace, find_run
from studio.quick_vote.view import ask_for, draw_all, draw_bar, draw_score, tell_vote
from studio.rendering import first_visit
from studio.rendering.arms import KINDS, NOTHING, kind_of, list_choices
from studio.rendering.asks import SLIDER_STEPS
from studio.studies.studies import Studies
from studio.ui.elements import empty, serve_enlarged, show_remark
from studio.ui.errors import guard
from studio.ui.events import (
    DIRECT,
    QUEUED,
    RENDERS,
    Reports,
    tell_progress,
    when_loaded,
    when_switched,
)

TITLE, PATH = "Quick vote", "/quick"
#: Nobody looks at its answer: it renders the next pair. Few at once, so that they leave threads for people.
AHEAD: dict[str, Any] = {
    **QUEUED,
    "trigger_mode": "multiple",
    "concurrency_limit": 4,
    "concurrency_id": "ahead",
}
VOTES: dict[str, Any] = {**QUEUED, "concurrency_limit": 8, "concurrency_id": "votes"}  # studio.shell.lanes


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks and connect it."""
    page, do = lay_out(), Handlers(core, studies)
    mine = [page.visitor, page.running]
    ahead = guard(do.on_ahead)
    started = page.start.click(
        guard(do.on_start),
        [page.visitor, *page.settings],
        [*page.run, *page.pair],
        show_progress_on=page.pictures,
        **RENDERS,
    )
    started.success(ahead, mine, None, **AHEAD)
    for button, side in zip(page.votes, SIDES):
        voted = button.click(
            do.vote(side), [*mine, page.given], [page.given, page.told, page.bar, *page.votes], **VOTES
        )
        shown = voted.success(guard(do.on_next), mine, page.pair, show_progress_on=page.pictures, **RENDERS)
        shown.success(ahead, mine, None, **AHEAD)
        voted.success(guard(do.on_score), None, page.score, **QUEUED)
    page.stop.click(do.on_stop, mine, [*page.run, *page.pair], **DIRECT)
    page.beat.tick(do.on_beat, page.visitor, None, **DIRECT)
    opened = [page.picks, page.whose, page.steps, *page.score]
    when_loaded(page.visitor, do.on_load, [page.picks], opened)
    when_switched(do.on_load, [page.visitor, page.picks], opened)


class Handlers:
    """What the page's events call."""

    def __init__(self, core: Core, studies: Studies) -> None:
        self._core, self._studies = core, studies

    def on_start(
        self,
        visitor_id: str,
        whose: str,
        picks: list[str] | None,
        typed: str,
        steps: float,
        progress: gr.Progress = gr.Progress(),
    ) -> list[Any]:
        """Begin a run and show its first pair: the values of `Page.run` and `Page.pair`."""
        self._core.visitors.check_id(visitor_id)
        run = runs.start(
            self._core,
            self._studies,
            visitor_id,
            whose=whose,
            picks=picks or [],
            typed=typed or "",
            steps=steps,
            guidance=first_visit.usual_ask(self._core).guidance,
        )
        pair = self._show(run, tell_progress(progress))
        return [run.id, gr.Button(interactive=True), gr.Timer(active=True), "", "", *pair]

    def on_next(
        self, visitor_id: str, run_id: str | None, progress: gr.Progress = gr.Progress()
    ) -> list[Any]:
        """The next pair of the run: the values of `Page.pair`."""
        run = find_run(self._core, visitor_id, run_id)
        if run is None:
            raise StudyError(runs.OVER)
        return self._show(run, tell_progress(progress))

    def _show(self, run: runs.Run, reports: Reports) -> list[Any]:
        run.note_seen()
        ask, made = runs.show_next(self._core, self._studies, run, **reports)
        pictures = [serve_enlarged(image) for image in (made.left, made.right)]
        given = {"study": made.study, "token": made.token}
        return [given, ask_for(ask.prompt), *pictures, *_press(True)]

    def on_ahead(self, visitor_id: str, run_id: str | None) -> None:
        """Render the pair after the one on screen."""
        run = find_run(self._core, visitor_id, run_id)
        if run is not None:
            runs.prepare(self._core, self._studies, run)

    def vote(self, side: str) -> Callable[..., list[Any]]:
        """The handler of one of SIDES."""

        @guard
        def cast(visitor_id: str, run_id: str | None, given: dict[str, str] | None) -> list[Any]:
            if not given:
                raise StudyError("Press Start first: there is no pair to vote on.")
            run = find_run(self._core, visitor_id, run_id)
            told = runs.cast(self._studies, visitor_id, run, given["study"], given["token"], side)
            return [None, tell_vote(told), draw_bar(run) if run else gr.skip(), *_press(False)]

        return cast

    def on_score(self) -> list[Any]:
        """The values of `Page.score`."""
        return [*draw_score(self._core, self._studies), draw_all(self._core, self._studies)]

    def on_stop(self, visitor_id: object, run_id: object) -> list[Any]:
        """End the run: the values of `Page.run` and `Page.pair`. What was voted on is kept."""
        visitor = self._core.visitors.of(visitor_id)
        run = visitor.place(QuickPlace).end(run_id)
        visitor.stop(runs.WORK)
        votes = count(run.votes, "vote") if run is not None else ""
        told = show_remark(f"Stopped after {votes}. They are kept." if votes else "Stopped.")
        pair = [None, empty(BEFORE), gr.skip(), gr.skip(), *_press(False)]
        return [None, gr.Button(interactive=False), gr.Timer(active=False), told, gr.skip(), *pair]

    def on_beat(self, visitor_id: object) -> None:
        """The page is open still."""
        for run in list(self._core.visitors.of(visitor_id).place(QuickPlace).runs.values()):
            run.note_seen()

    def on_load(self, visitor_id: str, picks: list[str] | None) -> list[Any]:
        visitor = self._core.visitors.of(visitor_id)
        choices = [c for c in list_choices(self._core, visitor) if c[1] not in (*KINDS, NOTHING)]
        known = [choice for _, choice in choices]
        kept = [pick for pick in picks or [] if pick in known]
        last = runs.find_last_comparison(self._core, visitor_id)
        usual = first_visit.usual_ask(self._core)
        return [
            gr.Dropdown(choices, value=kept or self._first_picks(), multiselect=True),
            gr.Radio(value=OWN if last is None else LAST),
            gr.Slider(value=min(usual.steps, SLIDER_STEPS)),
            *self.on_score(),
        ]

    def _first_picks(self) -> list[str]:
        """The studio's first calibration of one member, by layer where there is one."""
        fitting = self._core.fitting_calibrations()
        single = [entry for entry in fitting if kind_of(entry.calibration) == "calibrated"]
        single.sort(key=lambda entry: entry.calibration.granularity != "layer")
        return [entry.id for entry in single[:1]]


def _press(can: bool) -> list[Any]:
    """The buttons to vote with: whether they can be pressed."""
    return [gr.Button(interactive=can)] * len(SIDES)
