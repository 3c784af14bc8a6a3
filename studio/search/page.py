"""Search: set one up, see what it will cost, watch it find a calibration, and take what it found."""

from __future__ import annotations

import dataclasses
import html
import zlib
from pathlib import Path
from typing import Any

import gradio as gr

from calibri.errors import CalibriError, SearchError
from calibri.search.config import Budget
from studio.compare import comparison
from studio.compare import form as compare_form
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.rewards import rewards_shown
from studio.rendering.arms import DESK, NOTHING, Choice
from studio.scales.edits import open_calibration
from studio.search import charts
from studio.search.fields import form_fields
from studio.search.form import (
    IMAGES,
    Form,
    budget_of,
    chosen,
    config_of,
    cost_of,
    default_form,
    start_file,
    starts,
)
from studio.search.jobs import Searches
from studio.search.view import card, choice_words, cost_words, settings_table, story, strip_html, table
from studio.ui.elements import chart, empty, offers, show_remark
from studio.ui.errors import guard
from studio.ui.events import (
    DIRECT,
    IN_ORDER,
    QUEUED,
    tell_progress,
    visitor_state,
    when_loaded,
    when_ready,
)

TITLE, PATH = "Search", "/search"
LEAD = (
    "A search finds scales by itself: it tries small changes, keeps what the rewards like, and checks the "
    "result on prompts that it never saw."
)
NOTHING_YET = (
    "Your searches will stand here. Press Start search: the settings on the left are sensible as they are."
)
GO = """() => { const root = (window.gradio_config && window.gradio_config.root) || '';
  window.location.href = root + '%s'; }"""
BEATS = ("card", "log", "charts", "runs", "film", "speed")


# what the page asks for, without a browser


def beats(searches: Searches, main: object, others: object) -> list[str]:
    """What the page shows, in one word for each of BEATS. A part is sent again only when its word changes."""
    runs = searches.store.several([main, *(others if isinstance(others, list) else [])])
    listed = "".join(f"{status.id}{status.title}{status.state}" for status in searches.all())
    words = [_word(listed), str(searches.pace.revision)]
    if not runs or runs[0].id != main:
        return ["none", "none", "none", words[0], "none", words[1]]
    first = runs[0]
    status = searches.status(first.id)
    strip = searches.film.of(first.id)
    return [
        f"{first.id}:{_word(repr(status))}",
        f"{first.id}:{first.lines}",
        charts.drawn_key(runs),
        words[0],
        f"{first.id}:{strip.images if strip else 0}:{bool(first.steps)}",
        words[1],
    ]


def _word(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def want(core: Core, searches: Searches, main: object) -> None:
    """What a page that is open makes the machine do, after people and searches: a strip, a measurement."""
    for run in searches.store.several([main]):
        searches.film.want(run)
    backbone = core.host.backbone
    if backbone is not None and not searches.busy_words():
        name, device = backbone.spec.name, backbone.device.type
        rewards = {n: (lambda n=n: searches.rewards.load(n, device)) for n in rewards_shown(name)}
        searches.pace.measure("a red cube left of a blue sphere", rewards, backbone.spec.steps)


def buttons(searches: Searches, main: object) -> list[Any]:
    """Pause, Resume, Stop, Skip the judgement, Scales, Compare, Save: what can be pressed now."""
    runs = searches.store.several([main])
    if not runs:
        return (
            [gr.Button(interactive=False)] * 3
            + [gr.Button(visible=False)]
            + [gr.Button(interactive=False)] * 3
        )
    status, found = searches.status(runs[0].id), bool(runs[0].steps)
    judging = status.state == "stopping" or status.doing.startswith("judging")
    on = status.state in ("queued", "running") and not judging and "pausing" not in status.doing
    resume = status.state in ("paused", "interrupted", "failed", "done") and not runs[0].error
    return [
        gr.Button(interactive=on),
        gr.Button("Go on" if status.state == "done" else "Resume", interactive=resume),
        gr.Button(interactive=status.state in ("queued", "running", "paused") and not judging),
        gr.Button(visible=judging),
        *[gr.Button(interactive=found)] * 3,
    ]


def start(core: Core, searches: Searches, sweeps: Sweeps, visitor: object, form: Form, by: str = "") -> str:
    """Begin the search of a form. Returns its run id. Raises SearchError with the field that does not fit."""
    budget = budget_of(form)
    config = config_of(core, sweeps, visitor, form)
    return searches.start(config, budget, str(form.title or ""), by=by)


def estimate(core: Core, searches: Searches, sweeps: Sweeps, visitor: object, form: Form) -> str:
    """What the form would cost, or the field that does not fit, as HTML."""
    backbone = core.host.backbone
    if backbone is None:
        return "<div class='hint' role='status'>The backbone is loading; then the cost is known.</div>"
    try:
        config = config_of(core, sweeps, visitor, form)
        cost = cost_of(searches, config, budget_of(form), backbone)
    except CalibriError as error:
        return f"<div class='hint' role='status'>{html.escape(str(error))}</div>"
    return f"<div class='hint' role='status'>{cost_words(cost)}</div>"


def more(searches: Searches, run_id: str, form: Form) -> None:
    """Resume a search; a finished one gets as many images more as the form says."""
    status = searches.status(run_id)
    budget = None
    if status.state == "done" and status.verdict != "not judged":
        limit = max(status.images_limit or 0, status.images)
        budget = Budget(images=limit + (budget_of(form).images or IMAGES))
    searches.resume(run_id, budget)


def picker(searches: Searches, main: object, others: object = (), *, acted: bool = True) -> list[Any]:
    """The two choices of searches. `acted`: this browser did something that chooses."""
    choices = [(choice_words(status), status.id) for status in searches.all()]
    known = [run_id for _, run_id in choices]
    beside = [i for i in (others if isinstance(others, list) else []) if i in known and i != main]
    if not acted:
        return [offers(choices, main), offers(choices, others, beside)]
    return [
        gr.Dropdown(choices, value=main if main in known else None),
        gr.Dropdown(choices, value=beside),
    ]


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
    visitor = visitor_state()
    looked_at = gr.BrowserState([], storage_key="calibri-search", secret="calibri-search")
    backbone = core.backbone_name or core.settings.backbone
    usual = default_form(Path(backbone).name)
    hidden = [gr.Textbox("", visible="hidden", elem_id=f"beat-{name}") for name in BEATS]

    gr.HTML(f"<div class='lead'>{LEAD}</div>")
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            fields, upload = form_fields(core, sweeps, usual)
            told = gr.HTML("", elem_id="estimate")
            begin = gr.Button(
                "Start search", variant="primary", elem_id="start-search", elem_classes="primary-action"
            )
        with gr.Column(scale=3, min_width=340):
            with gr.Row():
                main = gr.Dropdown([], label="Search", scale=3, min_width=220, elem_id="search-run")
                others = gr.Dropdown(
                    [],
                    value=[],
                    multiselect=True,
                    label="On the same charts",
                    scale=2,
                    min_width=200,
                    elem_id="search-others",
                )
            state = gr.HTML(empty(NOTHING_YET), elem_id="search-state")
            with gr.Row(elem_id="search-acts"):
                acts = [
                    gr.Button(words, size="sm", min_width=80, interactive=False, elem_id=elem_id)
                    for words, elem_id in (("Pause", "pause"), ("Resume", "resume"), ("Stop", "stop-search"))
                ]
                skip = gr.Button(
                    "Skip the judgement", size="sm", min_width=120, visible=False, elem_id="skip-judgement"
                )
                takes = [
                    gr.Button(words, size="sm", min_width=110, interactive=False, elem_id=elem_id)
                    for words, elem_id in (
                        ("Open in Scales", "open-in-scales"),
                        ("Compare with base", "compare-with-base"),
                        ("Save to library", "save-search"),
                    )
                ]
            reward = chart(elem_id="chart-reward", height=340)
            with gr.Row():
                with gr.Column(min_width=300):
                    steps_chart = chart(elem_id="chart-sigma", height=280)
                with gr.Column(min_width=300):
                    spread = chart(elem_id="chart-spread", height=280)
            mean = chart(elem_id="chart-mean", height=300)
            film = gr.HTML("", elem_id="search-film")
            with gr.Tabs():
                with gr.Tab("Generations"):
                    rows = gr.HTML("", elem_id="search-table")
                with gr.Tab("What happened"):
                    log = gr.HTML("", elem_id="search-log")
                with gr.Tab("Its settings"):
                    settings = gr.HTML("", elem_id="search-settings")

    selection = [main, others]

    # what changes by itself

    def look(run: Any, beside: Any, *seen: str) -> list[Any]:
        """The idle answer is a few hundred bytes: nothing is sent but words that changed."""
        want(core, searches, run)
        now = beats(searches, run, beside)
        return [new if new != old else gr.skip() for new, old in zip(now, seen)]

    gr.Timer(1.5).tick(look, [*selection, *hidden], hidden, **DIRECT)
    on = dict(zip(BEATS, hidden))

    @guard
    def on_card(run: Any) -> list[Any]:
        runs = searches.store.several([run])
        shown = card(searches.status(run), runs[0]) if runs else empty(NOTHING_YET)
        return [shown, *buttons(searches, run)]

    @guard
    def on_log(run: Any) -> list[str]:
        runs = searches.store.several([run])
        return [table(runs[0]), story(runs[0]), settings_table(runs[0])] if runs else [empty(NOTHING_YET)] * 3

    @guard
    def on_film(run: Any) -> str:
        runs = searches.store.several([run])
        return strip_html(searches.film.of(run), runs[0]) if runs else ""

    on["card"].change(on_card, main, [state, *acts, skip, *takes], **DIRECT)
    on["log"].change(on_log, main, [rows, log, settings], **DIRECT)
    on["charts"].change(
        guard(lambda run, beside: figures(searches, run, beside)),
        selection,
        [reward, steps_chart, spread, mean],
        **DIRECT,
    )
    on["runs"].change(
        guard(lambda *chosen: picker(searches, *chosen, acted=False)), selection, selection, **DIRECT
    )
    on["film"].change(on_film, main, film, **DIRECT)

    def told_of(visitor_id: object, *values: Any) -> str:
        return estimate(core, searches, sweeps, visitor_id, Form(*values))

    gr.on(
        [on["speed"].change, *(f.change for f in fields)],
        guard(told_of),
        [visitor, *fields],
        told,
        **IN_ORDER,
    )

    # what people do

    def after(run: Any, beside: Any) -> list[Any]:
        """What every act sends back: the choices, what this browser looks at, and the changed words."""
        beside = [i for i in (beside or []) if i != run]
        return [*picker(searches, run, beside), [run, *beside], *beats(searches, run, beside)]

    follows = [*selection, looked_at, *hidden]

    gr.on(
        [main.input, others.input],
        guard(lambda run, beside: [[run, *(beside or [])], *beats(searches, run, beside)]),
        selection,
        [looked_at, *hidden],
        **IN_ORDER,
    )

    @guard
    def on_start(visitor_id: object, run: Any, beside: Any, request: gr.Request, *values: Any) -> list[Any]:
        user = core.rights.username(request)
        core.rights.organisers_only(user)
        return after(start(core, searches, sweeps, visitor_id, Form(*values), user or ""), [])

    begin.click(on_start, [visitor, *selection, *fields], follows, **QUEUED)

    def acting(do: Any) -> Any:
        @guard
        def act(run: Any, beside: Any, request: gr.Request, *values: Any) -> list[Any]:
            core.rights.organisers_only(core.rights.username(request))
            if not run:
                raise SearchError("Choose a search first.")
            do(run, values)
            return after(run, beside)

        return act

    def stop(run: str, _: Any) -> None:
        if searches.status(run).state != "stopping":  # a second press is not meant for the judgement
            searches.stop(run)

    acts[0].click(acting(lambda run, _: searches.pause(run)), selection, follows, **QUEUED)
    acts[1].click(
        acting(lambda run, values: more(searches, run, Form(*values))),
        [*selection, *fields],
        follows,
        **QUEUED,
    )
    acts[2].click(acting(stop), selection, follows, **QUEUED)
    skip.click(acting(lambda run, _: searches.stop(run)), selection, follows, **QUEUED)

    # what was found

    @guard
    def on_scales(visitor_id: object, run: Any) -> None:
        open_calibration(core, visitor_id, searches.calibration(run))

    takes[0].click(on_scales, [visitor, main], None, **QUEUED).success(None, js=GO % "/scales", **DIRECT)

    @guard
    def on_compare(visitor_id: object, run: Any, progress: gr.Progress = gr.Progress()) -> str:
        config = searches.store.get(run).config
        open_calibration(core, visitor_id, searches.calibration(run))
        form = compare_form.Form(
            prompt=(config.validation_prompts or config.prompts)[0],
            seed=1,
            steps=config.steps,
            guidance=1.0,
            arms=(Choice("base", guidance=config.guidance), Choice(DESK), Choice(NOTHING)),
        )
        comparison.compare(core, visitor_id, form, **tell_progress(progress))
        return show_remark("Two pictures are ready on the page Compare.")

    takes[1].click(
        on_compare,
        [visitor, main],
        film,
        concurrency_limit=8,
        concurrency_id="people",
        show_progress_on=[film],
        api_visibility="private",
    ).success(None, js=GO % "/", **DIRECT)

    @guard
    def on_save(run: Any, request: gr.Request) -> None:
        core.rights.organisers_only(core.rights.username(request))
        entry = core.calibrations.save(searches.calibration(run))
        gr.Info(f"Saved as “{html.escape(entry.title)}”.", duration=4)

    takes[2].click(on_save, main, None, **QUEUED)

    # the form's own ways

    names = [field.name for field in dataclasses.fields(Form)]
    field = dict(zip(names, fields))

    @guard
    def on_upload(visitor_id: object, path: str, granularity: str) -> gr.Dropdown:
        gr.Info(html.escape(start_file(core, visitor_id, Path(path), granularity)), duration=5)
        return gr.Dropdown(value=DESK)

    upload.upload(on_upload, [visitor, upload, field["granularity"]], field["start"], **QUEUED)

    def on_load(visitor_id: str, kept: Any) -> list[Any]:
        run, beside = chosen(searches, kept)
        return [*picker(searches, run, beside), *beats(searches, run, beside)]

    when_loaded(visitor, on_load, [looked_at], [*selection, *hidden])

    def on_ready(visitor_id: str, *values: Any) -> list[Any]:
        """The choices of the loaded backbone; its rewards, where another one's defaults still stand."""
        form, now = Form(*values), default_form(core.backbone_name)
        other = default_form("" if now.rewards else "tabletop")
        stale = list(form.rewards or ()) == list(other.rewards)
        if stale:
            form = dataclasses.replace(form, rewards=list(now.rewards), judges=list(now.judges))
        told_now = estimate(core, searches, sweeps, visitor_id, form)
        return [gr.Dropdown(starts(core, sweeps)), form.rewards, form.judges, told_now]

    changed = [field["start"], field["rewards"], field["judges"], told]
    when_ready(core.host, visitor, on_ready, fields, changed)
