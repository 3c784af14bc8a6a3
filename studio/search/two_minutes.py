"""Two minutes: one press finds a calibration, shows it getting better, and ends on the page Compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from calibri.errors import SearchError
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.search import charts, quick
from studio.search.jobs import Searches
from studio.search.status import Seen
from studio.search.view import card
from studio.ui.elements import SHOWN, chart, empty, enlarge, lead, primary_button
from studio.ui.errors import guard
from studio.ui.events import (
    DIRECT,
    QUEUED,
    RENDERS,
    current_blocks,
    go_to,
    tell_progress,
    visitor_state,
    when_loaded,
)
from studio.ui.glossary import list_words
from studio.ui.picture_files import small_png
from studio.ui.templates import fill_template

TITLE, PATH = "Two minutes", "/find"
IN_NAVBAR = False
LEAD = (
    "A real search in two minutes: it draws candidates for the scales, keeps what the rewards like, and is "
    "judged at the end on prompts that it never saw. Then base and what it found stand side by side on the "
    "page Compare."
)
NOTHING_YET = (
    "Press “Find my calibration”. The picture on the right gets better while the search runs; nothing has to "
    "be set."
)
SOON = "The first picture comes after the first generation, a few seconds from now."
TAKE_WISH = """(visitor, wish) => { let go = '';
  try { go = sessionStorage.getItem('calibri-find') || ''; sessionStorage.removeItem('calibri-find'); }
  catch {} return [visitor, go]; }"""
ENDED = ("done", "failed", "interrupted")


@dataclass(frozen=True)
class Parts:
    """`run`: the id of the search that this page follows. `wish`: "1" where another page asked to start one.
    `pulse`, `drawn`: change when the words, and the pictures, would. `ended`: the run that is to be
    compared."""

    visitor: gr.BrowserState
    run: gr.Textbox
    wish: gr.Textbox
    pulse: gr.Textbox
    drawn: gr.Textbox
    ended: gr.Textbox
    start: gr.Button
    stop: gr.Button
    card: gr.HTML
    growth: gr.HTML
    curve: gr.HTML


def lay_out() -> Parts:
    """The parts inside the current Blocks."""
    lead(LEAD, __file__, "search.css")
    hidden = {
        name: gr.Textbox("", visible="hidden", elem_id=f"find-{name}")
        for name in ("run", "wish", "pulse", "drawn", "ended")
    }
    with gr.Row(equal_height=True):
        start = primary_button("Find my calibration: 2 minutes", "find-start")
        stop = gr.Button(
            "Stop here and compare", scale=0, min_width=200, interactive=False, elem_id="find-stop"
        )
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            growth = gr.HTML(empty(NOTHING_YET), elem_id="find-growth")
        with gr.Column(scale=2, min_width=320):
            shown = gr.HTML("", elem_id="find-card")
            curve = chart(elem_id="find-curve", height=300)
            gr.HTML(list_words("reward", "gain", "spread", "candidate", "held-out"))
    return Parts(visitor_state(), **hidden, start=start, stop=stop, card=shown, growth=growth, curve=curve)


class Handlers:
    """What the page answers."""

    def __init__(self, core: Core, searches: Searches, sweeps: Sweeps) -> None:
        self.core, self.searches, self.sweeps = core, searches, sweeps
        self.growth = quick.Growth()

    def start(self, visitor: object, request: gr.Request) -> list[Any]:
        """Run, and the two buttons."""
        self.core.rights.organisers_only(request)
        by = self.core.rights.username(request) or ""
        run_id = quick.start_quick(self.core, self.searches, self.sweeps, visitor, by)
        return [run_id, gr.Button(interactive=False), gr.Button(interactive=True)]

    def start_wished(self, visitor: object, wish: object, request: gr.Request) -> list[Any]:
        """The same where another page of the studio asked for it; else the search that is under way."""
        if wish == "1":
            return self.start(visitor, request)
        alive = quick.find_alive(self.searches)
        if alive is None:
            return ["", gr.skip(), gr.skip()]
        return [alive.run.id, gr.Button(interactive=False), gr.Button(interactive=True)]

    def tick(self, run_id: object, pulse: str, drawn: str, ended: str) -> list[Any]:
        """Words that change when a part of the page would: card, pictures, end."""
        seen = self.searches.see(run_id)
        if seen is None:
            return [gr.skip()] * 3
        self.searches.film.want(seen.run)
        strip = self.searches.film.find(seen.run.id)
        frames = self.growth.take(seen.run.id, strip)
        now = [
            repr(seen.status),
            f"{len(frames)}:{frames[-1][0] if frames else 0}:{charts.drawn_key([seen.run])}",
            seen.run.id if seen.status.state in ENDED else "",
        ]
        return [new if new != old else gr.skip() for new, old in zip(now, (pulse, drawn, ended), strict=True)]

    def show_card(self, run_id: object) -> str:
        seen = self.searches.see(run_id)
        return card(seen.status, seen.run) if seen is not None else ""

    def show_growth(self, run_id: object) -> list[Any]:
        """Pictures and curve."""
        seen = self.searches.see(run_id)
        if seen is None:
            return [empty(NOTHING_YET), None]
        return [self.draw_growth(seen), charts.reward_figure([seen.run]) if seen.run.generations else None]

    def draw_growth(self, seen: Seen) -> str:
        """Base, the point reached, and how it looked before, as HTML."""
        strip = self.searches.film.find(seen.run.id)
        frames = self.growth.take(seen.run.id, strip)
        if strip is None or not frames:
            return empty(SOON)
        images, now = frames[-1]
        pair = [
            ("base", "base", small_png(enlarge(strip.base[0]), SHOWN)),
            ("calibrated", f"found so far, after {images} images", small_png(enlarge(now), SHOWN)),
        ]
        before = [(count, small_png(image)) for count, image in frames[:-1]]
        return fill_template("search/growth.html", prompt=strip.prompts[0], pair=pair, before=before)

    def stop(self, run_id: object, request: gr.Request) -> None:
        self.core.rights.organisers_only(request)
        if self.searches.see(run_id) is None:
            raise SearchError("Start the search first.")
        self.searches.stop(str(run_id))

    def compare(self, visitor: object, ended: object, progress: gr.Progress = gr.Progress()) -> Any:
        """Render base and what was found. Raises SearchError where nothing was found, which leaves the
        page."""
        if not isinstance(ended, str) or not ended:
            return gr.skip()
        made = quick.compare_found(self.core, self.searches, visitor, ended, **tell_progress(progress))
        return made.id


def build(core: Core, searches: Searches, sweeps: Sweeps) -> None:
    """Lay out the page inside the current Blocks."""
    parts, on = lay_out(), Handlers(core, searches, sweeps)
    begun = [parts.run, parts.start, parts.stop]
    parts.start.click(guard(on.start), parts.visitor, begun, **QUEUED)
    parts.stop.click(guard(on.stop), parts.run, None, **QUEUED)
    when_loaded(parts.visitor)
    current_blocks().load(guard(on.start_wished), [parts.visitor, parts.wish], begun, js=TAKE_WISH, **QUEUED)
    beats = [parts.pulse, parts.drawn, parts.ended]
    gr.Timer(1.0).tick(on.tick, [parts.run, *beats], beats, **DIRECT)
    parts.pulse.change(on.show_card, parts.run, parts.card, **DIRECT)
    parts.drawn.change(on.show_growth, parts.run, [parts.growth, parts.curve], **DIRECT)
    done = gr.Textbox("", visible="hidden", elem_id="find-compared")
    parts.ended.change(
        guard(on.compare),
        [parts.visitor, parts.ended],
        done,
        show_progress_on=[parts.growth],
        **RENDERS,
    )
    parts.ended.change(
        lambda ended: [gr.Button(interactive=bool(ended)), gr.Button(interactive=not ended)],
        parts.ended,
        [parts.start, parts.stop],
        **DIRECT,
    )
    done.change(None, done, None, js=f"(made) => {{ if (made) ({go_to('.')})(); }}", **DIRECT)
