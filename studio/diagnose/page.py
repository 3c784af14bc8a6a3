"""Diagnose: one scale at a time, bypassed or multiplied, and what that does to rewards and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from calibri.analysis.settings import SweepSettings
from calibri.errors import CalibriError
from calibri.files import Unreadable
from studio.core import Core
from studio.diagnose import form
from studio.diagnose.charts import OBJECTIVE, make_key, rank_cells
from studio.diagnose.fields import (
    NO_CELL,
    NO_COST,
    NO_SWEEP,
    CellFields,
    SettingsFields,
    SweepFields,
    lay_out_cell,
    lay_out_settings,
    lay_out_sweep,
    list_offers,
)
from studio.diagnose.store import ALIVE, Sweep
from studio.diagnose.sweeps import Sweeps
from studio.diagnose.view import (
    describe_cost,
    describe_key,
    draw_map,
    draw_state,
    find_measured,
    find_sweep,
    list_sweeps,
    list_views,
)
from studio.machine.offers import describe_needs, fits, usual_rewards
from studio.rendering.prompt_files import describe_prompts, read_prompt_file
from studio.rendering.shots import Shot, facts
from studio.rendering.view import guidance_slider, steps_slider
from studio.ui.elements import (
    aside,
    caption,
    empty,
    lead,
    list_unreadable,
    offers,
    serve_enlarged,
    show_remark,
)
from studio.ui.errors import guard, leave_cancelled
from studio.ui.events import (
    DIRECT,
    IN_ORDER,
    QUEUED,
    RENDERS,
    WATCHES,
    go_to,
    tell_progress,
    visitor_state,
    when_loaded,
    when_ready,
)

TITLE, PATH = "Diagnose", "/diagnose"
LEAD = (
    "Which blocks matter? A sweep changes one scale at a time, to 0 (the block is bypassed) or to another "
    "value, and measures what that does on the same prompts and noise. Effects do not add up: the best of "
    "each block is a start for a search, not a result."
)
PUT_AWAY, BRING_BACK = "Put this example away", "Show the example again"


# values of components


def show_state(sweep: Sweep | None, unreadable: Sequence[Unreadable] = (), away: bool = False) -> list[Any]:
    """Values of `SweepFields.state`. `unreadable`: sweeps that cannot be read. `away`: examples are put
    away."""
    stop = sweep is not None and sweep.state in ALIVE
    resume = sweep is not None and sweep.state in ("interrupted", "failed")
    words = draw_state(sweep) if sweep is not None else empty(NO_SWEEP)
    words += list_unreadable(unreadable)
    example = sweep is not None and sweep.example
    both = gr.Button(PUT_AWAY if example else BRING_BACK, visible=example or away)
    return [words, gr.Button(interactive=stop), gr.Button(interactive=resume), both]


def show_map(sweeps: Sweeps, sweep: Sweep | None, view: str) -> list[Any]:
    """Values of `SweepFields.map`."""
    views = list_views(sweep)
    chosen = view if view in [choice for _, choice in views] else OBJECTIVE
    cells = sweeps.cells(sweep.id) if sweep is not None else []
    return [
        draw_map(sweeps, sweep, chosen),
        offers(views, view, chosen, gr.Radio),
        gr.Dropdown(rank_cells(cells, chosen)),
        gr.Button(interactive=bool(cells)),
    ]


def show_pictures(shots: Sequence[Shot]) -> list[Any]:
    """Values of `CellFields.seen`: (base, cell, caption) for each prompt; what is missing stays empty."""
    parts: list[Any] = []
    for base, mine in zip(shots[::2], shots[1::2]):
        about = [f"“{mine.ask.prompt}”", f"seed {mine.ask.seed}", *facts(mine)]
        parts += [
            serve_enlarged(base.image),
            gr.Image(value=serve_enlarged(mine.image), label=mine.arm.title),
            caption("calibrated", mine.arm.title, about, mine.rewards, base.rewards),
        ]
    return parts + [None, None, ""] * (form.SHOWN - len(shots) // 2)


def show_places(prompts: int) -> list[Any]:
    """The row of pictures and its columns, for so many prompts."""
    columns = [gr.Column(visible=number < prompts) for number in range(form.SHOWN)]
    return [gr.Row(visible=prompts > 0), *columns]


class Handlers:
    """What the page answers."""

    def __init__(self, core: Core, sweeps: Sweeps) -> None:
        self.core, self.sweeps = core, sweeps

    def tell_cost(self, *asked: Any) -> str:
        """What the sweep that the form describes would take, or what is wrong with it."""
        if self.core.host.backbone is None:
            return show_remark(NO_COST)
        try:
            settings = form.read_settings(self.core.host, *asked)
            if not self.core.settings.demo:
                form.measure_speed(self.core.host, self.sweeps, settings)
            return self._draw_cost(settings, asked[-1])
        except CalibriError as error:
            return show_remark(str(error))

    def _draw_cost(self, settings: SweepSettings, typed: object) -> str:
        """What a sweep takes, what its rewards need, and what is said of its prompts."""
        backbone, rewards = self.core.host.wait_ready(), self.core.rewards
        ready = {state.name for state in rewards.states() if state.phase == "ready"}
        needing = [term.name for term in settings.rewards if term.name not in ready]
        remarks = [
            *describe_needs(needing, rewards.loading, backbone.device.type == "cuda"),
            *describe_prompts(backbone, typed, settings.prompts, "search"),
        ]
        cost = show_remark(describe_cost(self.sweeps, backbone, settings))
        return cost + "".join(aside(remark) for remark in remarks)

    def tick(self, sweep_id: object) -> list[str]:
        """Three short texts; a part of the page is drawn again when its text changes."""
        sweep = find_sweep(self.sweeps, sweep_id)
        done = f"{sweep.id}:{sweep.done}" if sweep is not None else ""
        grown = f"{done}:{len(self.sweeps.all())}"
        return [str(self.sweeps.revision), grown, str(self.sweeps.pace.revision)]

    def redraw_state(self, sweep_id: object) -> list[Any]:
        found, away = find_sweep(self.sweeps, sweep_id), len(self.sweeps.away) > 0
        return show_state(found, self.sweeps.unreadable(), away)

    def redraw_map(self, sweep_id: object, view: str) -> list[Any]:
        return show_map(self.sweeps, find_sweep(self.sweeps, sweep_id), view)

    def list_titles(self) -> Any:
        return gr.Dropdown(list_sweeps(self.sweeps))

    @guard
    def start(self, request: gr.Request, *asked: Any) -> Any:
        self._check_organiser(request)
        made = self.sweeps.start(form.read_settings(self.core.host, *asked))
        return gr.Dropdown(list_sweeps(self.sweeps), value=made.id)

    @guard
    def stop(self, sweep_id: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        self.sweeps.stop(sweep_id)
        return self.redraw_state(sweep_id)

    @guard
    def put_away(self, sweep_id: object, request: gr.Request) -> Any:
        """Put the example away that is shown, or bring all of them back where none is."""
        self._check_organiser(request)
        found = find_sweep(self.sweeps, sweep_id)
        if found is not None and found.example:
            self.sweeps.put_away(found.id)
        else:
            self.sweeps.bring_back()
        return gr.Dropdown(list_sweeps(self.sweeps), value=form.pick_sweep(self.sweeps))

    @guard
    def resume(self, sweep_id: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        self.sweeps.resume(sweep_id)
        return self.redraw_state(sweep_id)

    def _check_organiser(self, request: gr.Request) -> None:
        self.core.rights.organisers_only(request)

    @guard
    def click_map(self, sweep_id: str, event: gr.EventData) -> list[Any]:
        """The key of the cell, and the same in the list where it is measured."""
        sweep = self.sweeps.get(sweep_id)
        data = event._data.get("data") if isinstance(event._data, dict) else None
        key = make_key(data[0], float(data[1])) if isinstance(data, list) and len(data) == 2 else ""
        form.find_cell(sweep, key)
        return [key, gr.Dropdown(value=key if find_measured(self.sweeps, sweep, key) is not None else None)]

    @guard
    def open_cell(
        self, visitor_id: object, sweep_id: str, key: str, progress: gr.Progress = gr.Progress()
    ) -> Iterator[list[Any]]:
        """Values of `CellFields.outputs`: the words first, then the pictures."""
        if not key:
            self.core.visitors.of(visitor_id).stop("cell")
            yield [empty(NO_CELL), *show_places(0), *show_pictures([])]
            return
        sweep = self.sweeps.get(sweep_id)
        about = show_remark(describe_key(self.sweeps, sweep, key))
        head = [about, *show_places(min(form.SHOWN, sweep.settings.pairs))]
        yield [*head, *show_pictures([])]
        yield from leave_cancelled(
            lambda: [
                *head,
                *show_pictures(
                    form.render_cell(self.core, visitor_id, sweep, key, **tell_progress(progress))
                ),
            ],
            len(head) + 3 * form.SHOWN,
        )

    @guard
    def use_best(self, visitor_id: object, sweep_id: str) -> str:
        return form.open_best(self.core, self.sweeps, visitor_id, sweep_id).title

    def fill(self, _: object, *asked: Any) -> list[Any]:
        """Rewards that fit this backbone, steps and guidance as it is used, the cost, and the sweep to begin
        with."""
        spec = self.core.host.wait_ready().spec
        held = [str(term) for term in asked[0] or ()]
        fitting = [term for term in held if fits(term.partition(":")[0], spec.name)]
        rewards = fitting or usual_rewards(spec.name, self.core.rewards.loading)
        steps, guidance = spec.steps, spec.cfg or 1.0
        mine = [rewards, asked[1], steps, asked[3], guidance, *asked[5:]]
        return [
            gr.Dropdown(list_offers(self.core), value=rewards),
            steps_slider(steps),
            guidance_slider(guidance),
            self.tell_cost(*mine),
            gr.Dropdown(list_sweeps(self.sweeps), value=form.pick_sweep(self.sweeps)),
        ]


def build(core: Core, sweeps: Sweeps) -> None:
    """Lay out the page inside the current Blocks."""
    handlers, visitor = Handlers(core, sweeps), visitor_state()
    lead(LEAD, __file__, "diagnose.css")
    settings, shown, cell = lay_out_settings(core), lay_out_sweep(), lay_out_cell()
    key = gr.Textbox("", visible="hidden")
    _wire_sweep(handlers, settings, shown, key)
    _wire_cell(handlers, visitor, shown, cell, key)
    settings.prompt_file.upload(guard(read_prompt_file), settings.prompt_file, settings.prompts, **QUEUED)
    when_loaded(visitor)
    ready = [settings.rewards, settings.steps, settings.guidance, shown.cost, shown.which]
    when_ready(core.host, visitor, handlers.fill, settings.inputs, ready)


def _wire_sweep(on: Handlers, asked: SettingsFields, shown: SweepFields, key: gr.Textbox) -> None:
    pulse, grown, paced = (gr.Textbox("", visible="hidden") for _ in range(3))
    which, both = shown.which, [shown.which, shown.view]
    changes = [asked.rewards.change, asked.pairs.release, asked.steps.release, asked.granularity.input]
    changes += [asked.guidance.release, asked.values.change, asked.prompts.change, paced.change]
    gr.on(changes, on.tell_cost, asked.inputs, shown.cost, **IN_ORDER)

    gr.Timer(1.5).tick(on.tick, which, [pulse, grown, paced], **WATCHES)
    pulse.change(on.redraw_state, which, shown.state, **WATCHES)
    grown.change(on.redraw_map, both, shown.map, **WATCHES)
    grown.change(on.list_titles, None, which, **WATCHES)
    which.change(
        lambda sweep_id, view: [*on.redraw_state(sweep_id), *on.redraw_map(sweep_id, view), ""],
        both,
        [*shown.state, *shown.map, key],
        **WATCHES,
    )
    shown.view.input(lambda s, v: on.redraw_map(s, v)[::2], both, [shown.heat, shown.cell], **IN_ORDER)
    shown.start.click(on.start, asked.inputs, which, **QUEUED)
    shown.stop.click(on.stop, which, shown.state, **QUEUED)
    shown.resume.click(on.resume, which, shown.state, **QUEUED)
    shown.away.click(on.put_away, which, which, **QUEUED).then(on.redraw_state, which, shown.state, **DIRECT)


def _wire_cell(
    on: Handlers, visitor: gr.BrowserState, shown: SweepFields, cell: CellFields, key: gr.Textbox
) -> None:
    go = gr.Textbox("", visible="hidden")
    shown.heat.select(on.click_map, shown.which, [key, shown.cell], **QUEUED)
    shown.cell.input(lambda chosen: chosen or "", shown.cell, key, **IN_ORDER)
    inputs = [visitor, shown.which, key]
    key.change(on.open_cell, inputs, cell.outputs, show_progress_on=[cell.seen[1]], **RENDERS)
    shown.best.click(on.use_best, [visitor, shown.which], go, **QUEUED).success(
        None, None, None, js=go_to("scales"), api_visibility="private"
    )
