"""What the page Diagnose says of sweeps, their cost and their cells, in words and as HTML. No Gradio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibri.analysis.diagnose import Cell
from calibri.analysis.settings import SweepSettings
from calibri.words import count, duration, grouped
from studio.diagnose.charts import OBJECTIVE, describe_cell, heat_figure, make_key, shorten
from studio.diagnose.form import find_cell
from studio.diagnose.store import ALIVE, Sweep, count_images
from studio.diagnose.sweeps import Sweeps
from studio.ui.charts import Figure
from studio.ui.templates import fill_template

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone


def describe_cost(sweeps: Sweeps, backbone: Backbone, settings: SweepSettings) -> str:
    """What a sweep will take here, before it starts."""
    scales, values = len(backbone.layout(settings.granularity).names), len(settings.values)
    images = count_images(scales, values, settings.pairs)
    words = (
        f"{scales} scales × {values} values = {grouped(scales * values)} cells, "
        f"each on {settings.pairs} prompts: {grouped(images)} pictures"
    )
    each = sweeps.pace.seconds(backbone.spec.name, settings.nfe)
    if each is None:
        return f"{words}. How long that takes on this machine is not known yet."
    return f"{words}, about {duration(images * each)} on this machine."


def describe_state(sweep: Sweep) -> str:
    """How a sweep stands, as plain text."""
    cells = f"{grouped(sweep.done)} of {count(sweep.total, 'cell')}"
    if sweep.state in ("running", "stopping"):
        verb = "Measuring" if sweep.state == "running" else "Stopping after this batch"
        total = count(sweep.images_total, "picture")
        images = f", {grouped(sweep.images)} of {total}" if sweep.images else ""
        left = f", {duration(sweep.seconds_left)} left" if sweep.seconds_left is not None else ""
        return f"{verb}: {cells}{images}{left}."
    return {
        "queued": f"Waits for the sweep under way. {cells} are measured.",
        "done": f"Done: {count(sweep.total, 'cell')}, each on {count(sweep.settings.pairs, 'prompt')}.",
        "failed": f"Failed after {cells}. {sweep.error}",
        "interrupted": f"Stopped after {cells}. Press Resume to go on from there.",
    }[sweep.state]


def draw_state(sweep: Sweep) -> str:
    """The same as HTML, with a bar."""
    done, total = sweep.done, sweep.total
    if sweep.state in ALIVE and sweep.images_total:
        total *= sweep.settings.pairs
        done = max(total - sweep.images_total + sweep.images, 0)
    words = describe_state(sweep)
    return fill_template("diagnose/status.html", state=sweep.state, done=done, total=total, words=words)


def list_views(sweep: Sweep | None) -> list[tuple[str, str]]:
    """(words, choice) of what the heat map can show."""
    rewards = [] if sweep is None else [(shorten(t.name), t.name) for t in sweep.settings.rewards]
    return [("all rewards together", OBJECTIVE), *(rewards if len(rewards) > 1 else [])]


def list_sweeps(sweeps: Sweeps) -> list[tuple[str, str]]:
    """(title, id) of all sweeps, the newest first."""
    return [(sweep.title, sweep.id) for sweep in sweeps.all()]


def find_sweep(sweeps: Sweeps, sweep_id: object) -> Sweep | None:
    """The chosen sweep, or None where none is chosen or it is gone."""
    return next((sweep for sweep in sweeps.all() if sweep.id == sweep_id), None)


def draw_map(sweeps: Sweeps, sweep: Sweep | None, view: str = OBJECTIVE) -> Figure | None:
    """The heat map of a sweep, in one of its views; of all rewards together where it has no such view."""
    if sweep is None:
        return None
    view = view if view in [choice for _, choice in list_views(sweep)] else OBJECTIVE
    return heat_figure(sweeps.cells(sweep.id), sweep.note.names, sweep.settings.values, view)


def find_measured(sweeps: Sweeps, sweep: Sweep, key: object) -> Cell | None:
    """The measured cell of a key, or None while it is not measured."""
    return next((c for c in sweeps.cells(sweep.id) if make_key(c.name, c.value) == key), None)


def describe_key(sweeps: Sweeps, sweep: Sweep, key: object) -> str:
    """What is known of a cell, in plain text. Raises SearchError for what is no cell of this sweep."""
    name, value = find_cell(sweep, key)
    cell = find_measured(sweeps, sweep, key)
    return describe_cell(cell) if cell is not None else f"{name} × {value:.2f} is not measured yet."
