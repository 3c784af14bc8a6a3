"""Diagnose: one scale at a time, bypassed or multiplied, and what that does to rewards and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from calibri.analysis.diagnose import Cell
from calibri.backbones.layouts import GRANULARITIES
from calibri.errors import CalibriError
from studio.core import Core
from studio.diagnose import form as sweep_form
from studio.diagnose.charts import OBJECTIVE, cell_words, cells_by_gain, heat_figure, key_of
from studio.diagnose.store import ALIVE, Sweep
from studio.diagnose.sweeps import Sweeps
from studio.diagnose.view import cost_words, status_html, views
from studio.machine.rewards import JUDGES, REWARDS, known_rewards
from studio.rendering.asks import MOST_STEPS
from studio.rendering.shots import Shot, facts
from studio.ui.charts import Figure
from studio.ui.elements import caption, chart, empty, enlarged, offers, picture, read_beside, said
from studio.ui.errors import guard, was_cancelled
from studio.ui.events import (
    DIRECT,
    IN_ORDER,
    QUEUED,
    step_words,
    visitor_state,
    waiting,
    when_loaded,
    when_ready,
)
from studio.ui.picture_files import served

TITLE, PATH = "Diagnose", "/diagnose"
LEAD = (
    "Which blocks matter? A sweep changes one scale at a time, to 0 (the block is bypassed) or to another "
    "value, and measures what that does on the same prompts and noise. Effects do not add up: the best of "
    "each block is a start for a search, not a result."
)
NO_CELL = (
    "Click on a cell of the heat map, or choose one in the list: its pictures appear here, below the base's."
)
NO_COST = "What it costs is said here when the backbone is there."
NO_SWEEP = "No sweep yet. Press “Start sweep”: the heat map fills block by block."
GO_TO_SCALES = "() => { window.location.assign('scales'); }"


def current(sweeps: Sweeps, sweep_id: object) -> Sweep | None:
    """The chosen sweep, or None where none is chosen or it is gone."""
    known = {s.id: s for s in sweeps.all()}
    return known.get(str(sweep_id))


def figure_of(sweeps: Sweeps, sweep: Sweep | None, view: str = OBJECTIVE) -> Figure | None:
    """The heat map of a sweep, in one of its views."""
    if sweep is None:
        return None
    cells = sweeps.cells(sweep.id)
    view = view if view in [choice for _, choice in views(sweep)] else OBJECTIVE
    return heat_figure(cells, sweep.note.names, sweep.settings.values, view)


def cell_of(sweeps: Sweeps, sweep: Sweep, key: object) -> Cell | None:
    """The measured cell of a key, or None while it is not measured."""
    cells = sweeps.cells(sweep.id)
    return next((c for c in cells if key_of(c.name, c.value) == key), None)


def told(sweeps: Sweeps, sweep: Sweep, key: object) -> str:
    """What is known of a cell, as HTML."""
    cell = cell_of(sweeps, sweep, key)
    name, value = sweep_form.cell_at(sweep, key)
    return said(cell_words(cell) if cell is not None else f"{name} × {value:.2f} is not measured yet.")


def shown(shots: list[Shot]) -> list[Any]:
    """(base, cell, caption) for each prompt, SHOWN times; what is missing stays empty."""
    parts: list[Any] = []
    for base, mine in zip(shots[::2], shots[1::2]):
        facts_of = [f"“{mine.ask.prompt}”", f"seed {mine.ask.seed}", *facts(mine)]
        changed = gr.Image(value=served(enlarged(mine.image)), label=mine.arm.title)  # type: ignore[arg-type]
        words = caption("calibrated", mine.arm.title, facts_of, mine.rewards, base.rewards)
        parts += [served(enlarged(base.image)), changed, words]  # type: ignore[arg-type]
    return parts + [None, None, ""] * (sweep_form.SHOWN - len(shots) // 2)


def places(prompts: int) -> list[Any]:
    """The row of pictures and its columns, for so many prompts."""
    columns = [gr.Column(visible=number < prompts) for number in range(sweep_form.SHOWN)]
    return [gr.Row(visible=prompts > 0), *columns]


def state_of(sweeps: Sweeps, sweep_id: object) -> list[Any]:
    """Words, Stop and Resume for the chosen sweep."""
    sweep = current(sweeps, sweep_id)
    stop = sweep is not None and sweep.state in ALIVE
    resume = sweep is not None and sweep.state in ("interrupted", "failed")
    words = status_html(sweep) if sweep is not None else empty(NO_SWEEP)
    return [words, gr.Button(interactive=stop), gr.Button(interactive=resume)]


def map_of(sweeps: Sweeps, sweep_id: object, view: str) -> list[Any]:
    """Heat map, views, cells to choose, and whether the best can be used."""
    sweep = current(sweeps, sweep_id)
    offered = views(sweep)
    asked, view = view, view if view in [choice for _, choice in offered] else OBJECTIVE
    cells = sweeps.cells(sweep.id) if sweep is not None else []
    return [
        figure_of(sweeps, sweep, view),
        offers(offered, asked, view, gr.Radio),
        gr.Dropdown(cells_by_gain(cells, view)),
        gr.Button(interactive=bool(cells)),
    ]


def listed(sweeps: Sweeps) -> list[tuple[str, str]]:
    """(title, id) of all sweeps, the newest first."""
    return [(s.title, s.id) for s in sweeps.all()]


def build(core: Core, sweeps: Sweeps) -> None:
    """Lay out the page inside the current Blocks."""
    visitor = visitor_state()
    style = read_beside(__file__, "diagnose.css")
    gr.HTML(f"<style>{style}</style><div class='lead'>{LEAD}</div>", elem_id="lead")
    offered = [name for name in known_rewards() if name not in JUDGES]
    with gr.Row(equal_height=True):
        rewards = gr.Dropdown(
            offered, value=list(REWARDS), multiselect=True, allow_custom_value=True, label="Rewards",
            info="name, or name:weight", scale=4, min_width=300, elem_id="sweep-rewards",
        )  # fmt: skip
        granularity = gr.Radio(
            [(g.capitalize(), g) for g in GRANULARITIES], value="block", label="One scale for each",
            info="finer means more cells", scale=3, min_width=260, elem_id="sweep-granularity",
        )  # fmt: skip
        pairs = gr.Slider(
            2, 128, 16, step=1, label="Prompts", info="for each cell", scale=2,
            min_width=190, elem_id="sweep-pairs",
        )  # fmt: skip
        steps = gr.Slider(
            1, MOST_STEPS, 8, step=1, label="Steps", info="as you will use it", scale=2, min_width=170,
            elem_id="sweep-steps",
        )  # fmt: skip
    with gr.Accordion("More settings", open=False), gr.Row():
        values = gr.Textbox(
            sweep_form.VALUES, label="Values of the one scale", info="0 bypasses", max_lines=1, min_width=240,
            elem_id="sweep-values",
        )  # fmt: skip
        guidance = gr.Slider(
            1, 10, 1, step=0.1, label="Guidance", info="1 is none", min_width=170, elem_id="sweep-guidance"
        )
        prompts = gr.Textbox(
            label="Prompts of your own, one a line", info="Empty: those of the embedded world", lines=3,
            max_lines=8, min_width=300, scale=2, elem_id="sweep-prompts",
        )  # fmt: skip
    with gr.Row(equal_height=True):
        cost = gr.HTML(said(NO_COST), elem_id="sweep-cost", min_width=300)
        start = gr.Button(
            "Start sweep", variant="primary", scale=0, min_width=150, elem_id="sweep-start",
            elem_classes="primary-action",
        )  # fmt: skip
        stop = gr.Button("Stop", scale=0, min_width=80, interactive=False, elem_id="sweep-stop")
        resume = gr.Button("Resume", scale=0, min_width=110, interactive=False, elem_id="sweep-resume")
    with gr.Row(equal_height=True):
        which = gr.Dropdown([], label="Sweep", scale=3, min_width=300, elem_id="sweep-which")
        view = gr.Radio(
            views(None), value=OBJECTIVE, label="Difference in", scale=3, min_width=300,
            elem_id="sweep-view",
        )  # fmt: skip
    words = gr.HTML(empty(NO_SWEEP), elem_id="sweep-words")
    heat = chart(elem_id="heat", height=290)
    with gr.Row(equal_height=True):
        cell = gr.Dropdown(
            [], label="Cell, the best first", info="or click on the heat map", scale=4, min_width=300,
            elem_id="sweep-cell",
        )  # fmt: skip
        best = gr.Button(
            "Use the best of each block as start",
            scale=2,
            min_width=260,
            interactive=False,
            elem_id="sweep-best",
        )
    about = gr.HTML(empty(NO_CELL), elem_id="sweep-about")
    seen: list[Any] = []
    columns: list[Any] = []
    with gr.Row(visible=False, elem_id="cell-pictures") as stage:
        for number in range(1, sweep_form.SHOWN + 1):
            with gr.Column(min_width=300) as column:
                columns.append(column)
                seen += [
                    picture("base", elem_id=f"cell-base-{number}", label="Base"),
                    picture("calibrated", elem_id=f"cell-mine-{number}", label="With this one scale changed"),
                    gr.HTML("", elem_id=f"cell-words-{number}"),
                ]

    key, go = gr.Textbox("", visible="hidden"), gr.Textbox("", visible="hidden")
    pulse, grown, paced = (gr.Textbox("", visible="hidden") for _ in range(3))
    form = [rewards, pairs, steps, granularity, guidance, values, prompts]

    # what it will cost

    def on_form(*asked: Any) -> str:
        if core.host.backbone is None:
            return said(NO_COST)
        try:
            settings = sweep_form.settings_of(core.host, *asked)
            if not core.settings.demo:
                sweep_form.measure(core.host, sweeps, settings)
            return said(cost_words(core.host, sweeps, settings))
        except CalibriError as error:
            return said(str(error))

    changed = [rewards.change, pairs.release, steps.release, granularity.input, guidance.release]
    gr.on([*changed, values.change, prompts.change, paced.change], on_form, form, cost, **IN_ORDER)

    # the sweep

    def tick(sweep_id: object) -> list[str]:
        """Three short texts; a part of the page is drawn again when its text changes."""
        sweep = current(sweeps, sweep_id)
        done = f"{sweep.id}:{sweep.done}" if sweep is not None else ""
        return [str(sweeps.revision), f"{done}:{len(sweeps.all())}", str(sweeps.pace.revision)]

    state, charted = [words, stop, resume], [heat, view, cell, best]
    gr.Timer(1.5).tick(tick, which, [pulse, grown, paced], **DIRECT)
    pulse.change(lambda s: state_of(sweeps, s), which, state, **DIRECT)
    grown.change(lambda s, v: map_of(sweeps, s, v), [which, view], charted, **DIRECT)
    grown.change(lambda: gr.Dropdown(listed(sweeps)), None, which, **DIRECT)
    which.change(
        lambda s, v: [*state_of(sweeps, s), *map_of(sweeps, s, v), ""],
        [which, view],
        [*state, *charted, key],
        **DIRECT,
    )
    view.input(lambda s, v: map_of(sweeps, s, v)[0], [which, view], heat, **IN_ORDER)
    view.input(lambda s, v: map_of(sweeps, s, v)[2], [which, view], cell, **IN_ORDER)

    @guard
    def on_start(request: gr.Request, *asked: Any) -> Any:
        core.rights.organisers_only(core.rights.username(request))
        made = sweeps.start(sweep_form.settings_of(core.host, *asked))
        return gr.Dropdown(listed(sweeps), value=made.id)

    @guard
    def on_stop(sweep_id: str, request: gr.Request) -> list[Any]:
        core.rights.organisers_only(core.rights.username(request))
        sweeps.stop(sweep_id)
        return state_of(sweeps, sweep_id)

    @guard
    def on_resume(sweep_id: str, request: gr.Request) -> list[Any]:
        core.rights.organisers_only(core.rights.username(request))
        sweeps.resume(sweep_id)
        return state_of(sweeps, sweep_id)

    start.click(on_start, form, which, **QUEUED)
    stop.click(on_stop, which, state, **QUEUED)
    resume.click(on_resume, which, state, **QUEUED)

    # a cell

    @guard
    def on_click(sweep_id: str, event: gr.EventData) -> list[Any]:
        sweep = sweeps.get(sweep_id)
        data = event._data.get("data") if isinstance(event._data, dict) else None
        chosen = key_of(data[0], float(data[1])) if isinstance(data, list) and len(data) == 2 else ""
        sweep_form.cell_at(sweep, chosen)
        known = cell_of(sweeps, sweep, chosen) is not None
        return [chosen, gr.Dropdown(value=chosen if known else None)]

    @guard
    def on_key(
        visitor_id: object, sweep_id: str, chosen: str, progress: gr.Progress = gr.Progress()
    ) -> Iterator[list[Any]]:
        if not chosen:
            core.visitors.of(visitor_id).stop("cell")
            yield [empty(NO_CELL), *places(0), *shown([])]
            return
        sweep = sweeps.get(sweep_id)
        about_it = told(sweeps, sweep, chosen)
        room = places(min(sweep_form.SHOWN, sweep.settings.pairs))
        yield [about_it, *room, *shown([])]
        try:
            shots = sweep_form.pictures(
                core,
                visitor_id,
                sweep,
                chosen,
                on_step=step_words(progress, "Rendering"),
                on_wait=waiting(progress),
            )
            yield [about_it, *room, *shown(shots)]
        except Exception as error:
            if not was_cancelled(error):
                raise  # a newer choice took over: its pictures are on the way
            # Gradio sends what came last once more at the end: over the newer choice it must be nothing.
            yield [gr.skip()] * (1 + len(room) + len(shown([])))

    heat.select(on_click, which, [key, cell], **QUEUED)
    cell.input(lambda chosen: chosen or "", cell, key, **IN_ORDER)
    key.change(
        on_key,
        [visitor, which, key],
        [about, stage, *columns, *seen],
        trigger_mode="multiple",
        concurrency_limit=8,
        concurrency_id="people",
        show_progress_on=[seen[1]],
        api_visibility="private",
    )

    @guard
    def on_best(visitor_id: object, sweep_id: str) -> str:
        made = sweep_form.best_on_desk(core, sweeps, visitor_id, sweep_id)
        return made.title

    best.click(on_best, [visitor, which], go, **QUEUED).success(
        None, None, None, js=GO_TO_SCALES, api_visibility="private"
    )

    def ready(_: object, *asked: Any) -> list[Any]:
        spec = core.host.wait_ready().spec
        mine = asked if spec.name == "tabletop" else [asked[0], asked[1], spec.steps, *asked[3:]]
        chosen = sweep_form.chosen(sweeps)
        return [
            gr.Slider(value=spec.steps),
            gr.Slider(value=spec.cfg or 1.0),
            on_form(*mine),
            gr.Dropdown(listed(sweeps), value=chosen),
        ]

    when_loaded(visitor)
    when_ready(core.host, visitor, ready, form, [steps, guidance, cost, which])
