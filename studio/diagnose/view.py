"""What the page Diagnose says of a sweep: its cost and how it stands, in words and as HTML."""

from __future__ import annotations

import html

from calibri.words import duration, grouped
from studio.diagnose.charts import OBJECTIVE, short
from studio.diagnose.store import ALIVE, Sweep, SweepSettings, images_of
from studio.diagnose.sweeps import Sweeps
from studio.machine.host import ModelHost


def cost_words(host: ModelHost, sweeps: Sweeps, settings: SweepSettings) -> str:
    """What a sweep will take here, before it starts."""
    backbone = host.wait_ready()
    scales = len(backbone.layout(settings.granularity).names)
    images = images_of(scales, len(settings.values), settings.pairs)
    cells = scales * len(settings.values)
    words = (
        f"{scales} scales × {len(settings.values)} values = {grouped(cells)} cells, "
        f"each on {settings.pairs} prompts: {grouped(images)} pictures"
    )
    each = sweeps.pace.seconds(backbone.spec.name, settings.nfe)
    if each is None:
        return f"{words}. How long that takes on this machine is not known yet."
    return f"{words}, about {duration(images * each)} on this machine."


def status_words(sweep: Sweep | None) -> str:
    """How a sweep stands, as plain text."""
    if sweep is None:
        return ""
    cells = f"{grouped(sweep.done)} of {grouped(sweep.total)} cells"
    if sweep.state == "queued":
        return f"Waits for the sweep under way. {cells} are measured."
    if sweep.state in ("running", "stopping"):
        verb = "Measuring" if sweep.state == "running" else "Stopping after this batch"
        images = (
            f", {grouped(sweep.images)} of {grouped(sweep.images_total)} pictures" if sweep.images else ""
        )
        left = f", {duration(sweep.seconds_left)} left" if sweep.seconds_left is not None else ""
        return f"{verb}: {cells}{images}{left}."
    if sweep.state == "done":
        return f"Done: {grouped(sweep.total)} cells, each on {sweep.settings.pairs} prompts."
    if sweep.state == "failed":
        return f"Failed after {cells}. {sweep.error}"
    return f"Stopped after {cells}. Resume goes on from there."


def status_html(sweep: Sweep | None) -> str:
    """The same with a bar."""
    if sweep is None:
        return "<div class='sweep-status'></div>"
    done, total = sweep.done, sweep.total
    if sweep.state in ALIVE and sweep.images_total:
        left = sweep.images_total - sweep.images
        done, total = sweep.total * sweep.settings.pairs - left, sweep.total * sweep.settings.pairs
    bar = f"<progress value='{max(done, 0)}' max='{total}' aria-label='progress'></progress>"
    words = html.escape(status_words(sweep))
    return (
        f"<div class='sweep-status' data-state='{sweep.state}'>{bar}<span role='status'>{words}</span></div>"
    )


def views(sweep: Sweep | None) -> list[tuple[str, str]]:
    """(words, choice) of what the heat map can show."""
    rewards = [] if sweep is None else [(short(t.name), t.name) for t in sweep.settings.rewards]
    return [("all rewards together", OBJECTIVE), *(rewards if len(rewards) > 1 else [])]
