"""Search: set one up, see what it will cost, watch it find a calibration, and take what it found."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from calibri.calibration.artifact import Calibration
from calibri.errors import SearchError
from calibri.search.config import Budget
from studio.compare import comparison
from studio.compare import form as compare_form
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.rewards import rewards_shown
from studio.rendering.arms import DESK, NOTHING, Choice
from studio.scales.edits import open_calibration
from studio.search import charts, front
from studio.search.fields import Fields
from studio.search.form import (
    IMAGES,
    read_budget,
    read_page,
)
from studio.search.jobs import Searches
from studio.search.layout import NOTHING_YET, Parts, lay_out
from studio.search.new_search import NewSearch
from studio.search.runs_table import TableActs, table_key, wire_table
from studio.search.status import Seen
from studio.search.view import (
    card,
    choice_words,
    generation_table,
    log_list,
    settings_table,
    spots_html,
    strip_html,
)
from studio.ui.elements import empty, list_unreadable, offers, show_remark
from studio.ui.errors import guard
from studio.ui.events import (
    COPY_LINK,
    DIRECT,
    IN_ORDER,
    QUEUED,
    RENDERS,
    WATCHES,
    read_address,
    tell_progress,
    when_loaded,
)

TITLE, PATH = "Search", "/search"
GO = """() => { const root = (window.gradio_config && window.gradio_config.root) || '';
  window.location.href = root + '%s'; }"""
PROMPT = "a red cube left of a blue sphere"  # of the pictures that the speed is measured on
RUN = "run"  # the search that an address opens: /search?run=…
LINK = f"(main) => {{ ({COPY_LINK})(main ? '?{RUN}=' + encodeURIComponent(main) : ''); }}"
ACTIVE = ("running", "stopping", "paused", "elsewhere")  # states of a search that a new visitor is shown

Survey = Mapping[str, Seen]


# what the page asks for, without a browser


def beats(searches: Searches, survey: Survey, main: object, others: object) -> list[str]:
    """What the page shows, in one word for each of BEATS. A part is sent again only when its word changes."""
    listed = "".join(f"{seen.status.id}{seen.status.title}{seen.status.state}" for seen in survey.values())
    runs, speed = _word(listed), str(searches.pace.revision)
    first = survey.get(main) if isinstance(main, str) else None
    bad = searches.store.unreadable()
    unread = f":{_word(repr(bad))}" if bad else ""
    table = _word(table_key(survey, main, others) + str(len(searches.store.away)))
    if first is None:
        return [f"none{unread}", "none", "none", runs, "none", speed, "none", f"{table}{unread}"]
    drawn = [first.run, *(survey[i].run for i in _beside(survey, main, others))]
    strip = searches.film.find(main)
    return [
        f"{main}:{_word(repr(first.status))}{unread}",
        f"{main}:{first.run.lines}",
        charts.drawn_key(drawn),
        runs,
        f"{main}:{strip.images if strip else 0}:{bool(first.run.generations)}{first.run.over}",
        speed,
        front.beat_of(first.run),
        f"{table}{unread}",
    ]


def _word(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _beside(survey: Survey, main: object, others: object) -> list[str]:
    """The other searches that there are, each once."""
    wanted = others if isinstance(others, list) else []
    return list(dict.fromkeys(i for i in wanted if isinstance(i, str) and i in survey and i != main))


def want(core: Core, searches: Searches, seen: Seen | None) -> None:
    """What an open page makes the machine do, after people and searches: a strip, a measurement."""
    if seen is not None:
        searches.film.want(seen.run)
    backbone = core.host.backbone
    if backbone is not None and not searches.busy:
        name, device = backbone.spec.name, backbone.device.type
        rewards = {n: (lambda n=n: searches.rewards.load(n, device)) for n in rewards_shown(name)}
        searches.pace.measure(PROMPT, rewards, backbone.spec.steps)


def buttons(seen: Seen | None) -> list[gr.Button]:
    """Pause, Resume, Stop, Skip the judgement, Scales, Compare, Save: what can be pressed now."""
    acts = seen.acts if seen is not None else frozenset()
    found = seen is not None and bool(seen.run.generations)
    again = "Go on" if seen is not None and seen.status.state == "done" else "Resume"
    return [
        gr.Button(interactive="pause" in acts),
        gr.Button(again, interactive="resume" in acts),
        gr.Button(interactive="stop" in acts),
        gr.Button(visible="skip" in acts),
        *[gr.Button(interactive=found) for _ in range(3)],
    ]


def resume(searches: Searches, run_id: str, typed: Mapping[str, Any]) -> None:
    """Resume a search; a finished one gets as many images more as the form says."""
    status = searches.status(run_id)
    budget = None
    if status.state == "done" and status.verdict != "not judged":
        more = read_budget(typed)
        limit = max(status.images_limit or 0, status.images)
        budget = Budget(images=limit + (more.images if more and more.images else IMAGES))
    searches.resume(run_id, budget)


def picker(survey: Survey, main: object, others: object = (), *, acted: bool = True) -> list[gr.Dropdown]:
    """The two choices of searches. `acted`: this browser did something that chooses."""
    choices = [(choice_words(seen.status), run_id) for run_id, seen in survey.items()]
    beside, known = _beside(survey, main, others), main if isinstance(main, str) and main in survey else None
    if not acted:
        return [offers(choices, main), offers(choices, others, beside)]
    return [gr.Dropdown(choices, value=known), gr.Dropdown(choices, value=beside)]


def choose_shown(survey: Survey, last: object) -> tuple[str | None, list[str]]:
    """The search that a page opens with, and those beside it: what this browser looked at last (the first of
    a list, and the others), else what runs, else the newest."""
    main = last[0] if isinstance(last, list) and last else None
    if isinstance(main, str) and main in survey:
        return main, _beside(survey, main, last)
    running = [run_id for run_id, seen in survey.items() if seen.status.state in ACTIVE]
    return next(iter([*running, *survey]), None), []


def figures(searches: Searches, main: object, others: object) -> list[Any]:
    """Reward, sigma, spread and mean vector; None where there is nothing to draw."""
    runs = searches.store.several([main, *(others if isinstance(others, list) else [])])
    if not runs or runs[0].id != main:
        return [None] * 4
    return [
        charts.reward_figure(runs),
        charts.step_figure(runs),
        charts.spread_figure(runs[0]),
        charts.mean_figure(runs[0]),
    ]


# the page


def build(core: Core, searches: Searches, sweeps: Sweeps) -> None:
    """Lay out the page inside the current Blocks."""
    parts = lay_out(core, sweeps)
    Watch(core, searches, sweeps).wire(parts)
    Acts(core, searches, sweeps).wire(parts)
    Results(core, searches, sweeps).wire(parts)
    NewSearch(core, searches, sweeps).wire(parts)
    wire_table(
        parts.table,
        TableActs(core, searches),
        selection=parts.selection,
        follows=parts.follows,
        fields=parts.fields.all,
        visitor=parts.visitor,
        beat=parts.beats["table"],
        answer=Acts(core, searches, sweeps).answer,
    )


@dataclass(frozen=True)
class Handlers:
    """What each part of the page reaches."""

    core: Core
    searches: Searches
    sweeps: Sweeps


class Watch(Handlers):
    """What changes by itself, and which searches are shown."""

    def wire(self, parts: Parts) -> None:
        words = list(parts.beats.values())
        gr.Timer(1.5).tick(self.look, [*parts.selection, *words], words, **WATCHES)
        for name, handler, inputs, outputs in (
            ("card", self.on_card, [parts.main], [parts.card, *parts.acts.values()]),
            ("log", self.on_log, [parts.main], list(parts.tabs.values())),
            ("charts", self.on_charts, parts.selection, list(parts.charts.values())),
            ("runs", self.on_runs, parts.selection, parts.selection),
            ("film", self.on_film, [parts.main], [parts.film]),
            ("front", self.on_front, [parts.main], parts.front.all),
        ):
            parts.beats[name].change(guard(handler), inputs, outputs, **WATCHES)
        parts.front.chart.select(front.click, [parts.main], parts.front.point, **DIRECT)
        gr.on(
            [parts.main.input, parts.others.input],
            guard(self.on_choose),
            parts.selection,
            [parts.looked_at, *words],
            **IN_ORDER,
        )
        parts.link.click(None, parts.main, None, js=LINK, api_visibility="private")
        when_loaded(parts.visitor, self.on_load, [parts.looked_at], [*parts.selection, *words])

    def look(self, main: object, others: object, *shown: str) -> list[Any]:
        """The idle answer is a few hundred bytes: nothing is sent but words that changed."""
        survey = self.searches.survey()
        want(self.core, self.searches, survey.get(main) if isinstance(main, str) else None)
        now = beats(self.searches, survey, main, others)
        return [new if new != old else gr.skip() for new, old in zip(now, shown, strict=True)]

    def on_card(self, main: object) -> list[Any]:
        seen = self.searches.see(main)
        shown = card(seen.status, seen.run) if seen else empty(NOTHING_YET)
        return [shown + list_unreadable(self.searches.store.unreadable()), *buttons(seen)]

    def on_log(self, main: object) -> list[str]:
        for run in self.searches.store.several([main]):
            return [generation_table(run), log_list(run), settings_table(run)]
        return [""] * 3

    def on_charts(self, main: object, others: object) -> list[Any]:
        return figures(self.searches, main, others)

    def on_runs(self, main: object, others: object) -> list[gr.Dropdown]:
        return picker(self.searches.survey(), main, others, acted=False)

    def on_film(self, main: object) -> str:
        for run in self.searches.store.several([main]):
            return strip_html(self.searches.film.find(main), run) + spots_html(run)
        return ""

    def on_front(self, main: object) -> list[Any]:
        return front.show(next(iter(self.searches.store.several([main])), None))

    def on_choose(self, main: object, others: Any) -> list[Any]:
        return [[main, *(others or [])], *beats(self.searches, self.searches.survey(), main, others)]

    def on_load(self, visitor: object, last: object) -> list[Any]:
        survey = self.searches.survey()
        wanted = read_address().get(RUN)
        main, others = choose_shown(survey, [wanted] if wanted in survey else last)
        return [*picker(survey, main, others), *beats(self.searches, survey, main, others)]


class Acts(Handlers):
    """Start, pause, resume, stop: what people do with searches. Organisers only, on a public studio."""

    def wire(self, parts: Parts) -> None:
        fields, acts = parts.fields.all, parts.acts
        parts.start.click(guard(self.on_start), [parts.visitor, *fields], parts.follows, **QUEUED)
        acts["resume"].click(guard(self.on_resume), [*parts.selection, *fields], parts.follows, **QUEUED)
        for name, do in (("pause", self.searches.pause), ("stop", self.stop), ("skip", self.searches.stop)):
            acts[name].click(guard(self._act(do)), parts.selection, parts.follows, **QUEUED)

    def answer(self, main: object, others: object) -> list[Any]:
        """What every act sends back: the choices, what this browser looks at, and the words."""
        survey = self.searches.survey()
        beside = _beside(survey, main, others)
        return [*picker(survey, main, beside), [main, *beside], *beats(self.searches, survey, main, beside)]

    def _check(self, main: object, request: gr.Request) -> str:
        """The id of the search to act on. Raises CalibriError for whoever may not."""
        self.core.rights.organisers_only(request)
        if not isinstance(main, str) or not main:
            raise SearchError("Choose a search first.")
        return main

    def on_start(self, visitor: object, request: gr.Request, *values: Any) -> list[Any]:
        self.core.rights.organisers_only(request)
        user = self.core.rights.username(request)
        order = read_page(self.core, self.sweeps, visitor, Fields.read(values))
        return self.answer(self.searches.start(*order, by=user or ""), [])

    def on_resume(self, main: object, others: object, request: gr.Request, *values: Any) -> list[Any]:
        resume(self.searches, self._check(main, request), Fields.read(values))
        return self.answer(main, others)

    def _act(self, do: Callable[[str], None]) -> Callable[..., list[Any]]:
        def on_act(main: object, others: object, request: gr.Request) -> list[Any]:
            do(self._check(main, request))
            return self.answer(main, others)

        return on_act

    def stop(self, run_id: str) -> None:
        if self.searches.status(run_id).state != "stopping":  # a second press is not meant for the judgement
            self.searches.stop(run_id)


class Results(Handlers):
    """Where the point reached goes: onto the desk, beside the base, into the library."""

    def wire(self, parts: Parts) -> None:
        who = [parts.visitor, parts.main, parts.front.point]
        to_scales = parts.acts["scales"].click(guard(self.on_scales), who, None, **QUEUED)
        to_scales.success(None, js=GO % "/scales", **DIRECT)
        to_compare = parts.acts["compare"].click(
            guard(self.on_compare),
            who,
            parts.film,
            show_progress_on=[parts.film],
            **RENDERS,
        )
        to_compare.success(None, js=GO % "/", **DIRECT)
        parts.acts["save"].click(guard(self.on_save), who[1:], None, **QUEUED)

    def found(self, main: str, point: object) -> Calibration:
        """The point reached, or the one of its front that is chosen."""
        return self.searches.calibration(main, point=front.number_of(main, point))

    def on_scales(self, visitor: object, main: str, point: object) -> None:
        open_calibration(self.core, visitor, self.found(main, point))

    def on_compare(
        self, visitor: object, main: str, point: object, progress: gr.Progress = gr.Progress()
    ) -> str:
        config = self.searches.store.get(main).config
        open_calibration(self.core, visitor, self.found(main, point))
        form = compare_form.Form(
            prompt=(config.validation_prompts or config.prompts)[0],
            seed=1,
            steps=config.steps,
            guidance=1.0,
            width=config.width,
            height=config.height,
            arms=(Choice("base", guidance=config.guidance), Choice(DESK), Choice(NOTHING)),
        )
        comparison.compare(
            self.core,
            visitor,
            form,
            **tell_progress(progress),
        )
        return show_remark("Two pictures are ready on the page Compare.")

    def on_save(self, main: str, point: object, request: gr.Request) -> None:
        self.core.rights.organisers_only(request)
        entry = self.core.calibrations.save(self.found(main, point))
        gr.Info(Markup("Saved as “{}”.").format(entry.title), duration=4)
