"""What the page Diagnose does, without the page: from a filled form to a sweep, its cost, and the pictures of
a cell. No Gradio."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from calibri.calibration.artifact import Calibration
from calibri.errors import SearchError
from calibri.rewards.base import RewardTerm
from studio.core import Core
from studio.diagnose.charts import key_of
from studio.diagnose.store import ALIVE, Sweep, SweepSettings, cell_calibration, check_fits
from studio.diagnose.sweeps import Sweeps
from studio.machine.host import ModelHost
from studio.rendering.arms import Arm
from studio.rendering.asks import Ask, one_line
from studio.rendering.shots import Shot, kept_shots
from studio.scales.edits import opened

SHOWN = 3  # prompts of a cell whose pictures are shown
VALUES = "0, 0.25, 0.5, 0.75, 1.25, 1.5"
MOST_PROMPTS = 256


def settings_of(
    host: ModelHost,
    rewards: Sequence[str],
    pairs: Any,
    steps: Any,
    granularity: Any,
    guidance: Any = 1.0,
    values: object = VALUES,
    prompts: object = "",
) -> SweepSettings:
    """The sweep that a form asks for, on the loaded backbone. `prompts`: one a line; none for the embedded
    world's own. Raises SearchError with what does not fit."""
    if host.status.phase == "loading":
        raise SearchError("The backbone is still loading. Start the sweep when it is ready.")
    backbone = host.wait_ready().spec.name
    terms = tuple(RewardTerm.parse(text) for text in rewards or ())
    if not terms:
        raise SearchError("Choose at least one reward.")
    if len({term.name for term in terms}) < len(terms):
        raise SearchError("A reward is chosen twice. Remove one of the two.")
    typed = list(dict.fromkeys(filter(None, map(one_line, str(prompts or "").splitlines()))))
    if len(typed) > MOST_PROMPTS:
        raise SearchError(f"{len(typed)} prompts were given; {MOST_PROMPTS} are the most.")
    whole = isinstance(pairs, int | float) and math.isfinite(pairs) and pairs == int(pairs)
    if not whole or not 2 <= pairs <= MOST_PROMPTS:
        raise SearchError(f"Prompts: expected a whole number from 2 to {MOST_PROMPTS}, came {pairs!r}.")
    if not typed:
        if backbone != "tabletop":
            raise SearchError(f"Type prompts that suit {backbone}, one a line, under “More settings”.")
        from calibri.tabletop.prompts import prompt_set

        typed = prompt_set("search", int(pairs), seed=0)
    try:
        scales = tuple(float(part) for part in str(values).replace(";", ",").split(",") if part.strip())
    except ValueError:
        raise SearchError(f"Values are numbers with commas between, came {str(values)[:40]!r}.") from None
    return SweepSettings.checked(
        granularity=granularity,
        rewards=terms,
        prompts=tuple(typed),
        pairs=int(pairs),
        steps=steps,
        guidance=None if guidance in (None, 1) else guidance,
        values=scales,
    )


def measure(host: ModelHost, sweeps: Sweeps, settings: SweepSettings) -> None:
    """Have the speed of this machine measured, where it is not known."""
    device = host.wait_ready().device.type
    loaders = {t.name: (lambda name=t.name: sweeps.load(name, device)) for t in settings.rewards}
    sweeps.pace.measure(settings.prompts[0], loaders, settings.steps)


def chosen(sweeps: Sweeps, kept: object = None) -> str | None:
    """The sweep a page opens with: the one it had, else what runs, else the newest."""
    known = sweeps.all()
    if any(s.id == kept for s in known):
        return str(kept)
    running = [s.id for s in known if s.state in ALIVE]
    return next(iter([*running, *(s.id for s in known)]), None)


# cells


def cell_at(sweep: Sweep, key: object) -> tuple[str, float]:
    """(name, value) of a cell from what a page sent. Raises SearchError for what is no cell of this sweep."""
    name, _, text = str(key).rpartition("|")
    for value in sweep.settings.values:
        if name in sweep.note.names and key_of(name, value) == f"{name}|{text}":
            return name, value
    raise SearchError("Choose a cell of the heat map.")


def pictures(core: Core, visitor: object, sweep: Sweep, key: object, **calls: Any) -> list[Shot]:
    """Base and cell on the sweep's first prompts, in turn. An older wish of this visitor is called off."""
    name, value = cell_at(sweep, key)
    cancelled: Callable[[], bool] = core.visitors.of(visitor).begin("cell")
    check_fits(sweep.note, core.host.wait_ready(cancel=cancelled))
    arm = Arm("calibrated", f"{name} × {value:.2f}", cell_calibration(sweep, name, value))
    wanted = []
    for pair in sweep.settings.drawn()[:SHOWN]:
        ask = Ask(pair.prompt, pair.seed, sweep.settings.steps, sweep.settings.guidance or 1.0)
        wanted += [(Arm("base", "Base"), ask), (arm, ask)]
    return kept_shots(core, wanted, cancel=cancelled, **calls)


def best_on_desk(core: Core, sweeps: Sweeps, visitor: object, sweep_id: object) -> Calibration:
    """Put the best of each scale on the visitor's desk. Raises SearchError where there is nothing better than
    the base, or another backbone is loaded."""
    found = sweeps.get(sweep_id)
    backbone = core.host.wait_ready()
    check_fits(found.note, backbone)
    start = sweeps.start_of(found.id, backbone.layout(found.settings.granularity))
    opened(core, visitor, start)
    return start
