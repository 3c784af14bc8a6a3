"""From what the page Diagnose was asked to sweeps, cells and their pictures. No Gradio."""

from __future__ import annotations

from functools import partial
from typing import Any

from calibri.analysis import settings as sweep_settings
from calibri.analysis.settings import SweepSettings
from calibri.calibration.artifact import Calibration
from calibri.errors import SearchError
from calibri.prompts import usual_prompts
from calibri.rewards.own import is_file_name
from studio.core import Core
from studio.diagnose.charts import make_key
from studio.diagnose.store import ALIVE, Sweep, check_fits, make_cell_calibration
from studio.diagnose.sweeps import Sweeps
from studio.machine.host import ModelHost
from studio.rendering.arms import Arm
from studio.rendering.asks import Ask
from studio.rendering.shots import Shot, shoot_cached
from studio.scales.edits import open_calibration

SHOWN = 3  # prompts of a cell whose pictures are shown
VALUES = ", ".join(f"{value:g}" for value in sweep_settings.VALUES)


def read_settings(
    host: ModelHost,
    rewards: Any,
    pairs: Any,
    steps: Any,
    granularity: Any,
    guidance: Any = 1.0,
    values: object = VALUES,
    prompts: object = "",
) -> SweepSettings:
    """The sweep that a form asks for, on the loaded backbone. `prompts`: a text as `read_typed` reads it; an
    empty one for the set that suits the backbone. Raises SearchError with what does not fit."""
    if host.status.phase == "loading":
        raise SearchError("The backbone is still loading. Start the sweep when it is ready.")
    backbone = host.wait_ready().spec.name
    typed = str(prompts or "").strip()
    made = SweepSettings.parse(
        granularity=granularity,
        rewards=rewards,
        prompts=typed or "those that suit the backbone",
        pairs=pairs,
        steps=steps,
        guidance=guidance,
        values=values,
    )
    for term in made.rewards:
        if is_file_name(term.name):  # refused again where it would be loaded
            raise SearchError(f"rewards: expected names of rewards, got a file: {term.name[:80]}")
    if typed:
        return made
    return made.model_copy(update={"prompts": tuple(usual_prompts(backbone, "search", made.pairs))})


def measure_speed(host: ModelHost, sweeps: Sweeps, settings: SweepSettings) -> None:
    """Measure in the background how fast this machine renders, unless that is known."""
    device = host.wait_ready().device.type
    loaders = {term.name: partial(sweeps.rewards.load, term.name, device) for term in settings.rewards}
    sweeps.pace.measure(settings.prompts[0], loaders, settings.steps)


def pick_sweep(sweeps: Sweeps) -> str | None:
    """The sweep that a page opens with: the one that runs, else the newest."""
    known = sorted(sweeps.all(), key=lambda sweep: sweep.state not in ALIVE)
    return known[0].id if known else None


def find_cell(sweep: Sweep, key: object) -> tuple[str, float]:
    """(name, value) of a cell from what a page sent. Raises SearchError for what is no cell of this sweep."""
    for name in sweep.note.names:
        for value in sweep.settings.values:
            if make_key(name, value) == key:
                return name, value
    raise SearchError("Choose a cell of the heat map.")


def render_cell(core: Core, visitor: object, sweep: Sweep, key: object, **calls: Any) -> list[Shot]:
    """Base and cell on the sweep's first prompts, in turn. Calls this visitor's earlier render off."""
    name, value = find_cell(sweep, key)
    cancelled = core.visitors.of(visitor).begin("cell")
    check_fits(sweep.note, core.host.wait_ready(cancel=cancelled))
    arm = Arm("calibrated", f"{name} × {value:.2f}", make_cell_calibration(sweep, name, value))
    wanted = []
    for pair in sweep.settings.draw_pairs()[:SHOWN]:
        ask = Ask(pair.prompt, pair.seed, sweep.settings.steps, sweep.settings.guidance or 1.0)
        wanted += [(Arm("base", "Base"), ask), (arm, ask)]
    return shoot_cached(core, wanted, cancel=cancelled, **calls)


def open_best(core: Core, sweeps: Sweeps, visitor: object, sweep_id: object) -> Calibration:
    """Put the best of each scale on the visitor's desk. Raises SearchError where nothing is better than the
    base, or another backbone is loaded."""
    found = sweeps.get(sweep_id)
    backbone = core.host.wait_ready()
    check_fits(found.note, backbone)
    start = sweeps.start_of(found.id, backbone.layout(found.settings.granularity))
    open_calibration(core, visitor, start)
    return start
