"""Picture grids of two settings: from what was typed to pictures in columns and rows. No Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from calibri.analysis.axes import Axis, read_axis
from calibri.analysis.grid import Grid, Point
from calibri.backbones.layouts import GRANULARITIES
from calibri.errors import RenderError
from calibri.words import slug
from studio.compare.comparison import describe_backbone
from studio.compare.form import Form, read_order
from studio.compare.png_settings import leave_folders_out, write_png
from studio.core import Core
from studio.rendering.arms import WORDS, Arm, Choice, kind_of, resolve_arms
from studio.rendering.asks import Ask
from studio.rendering.shots import Calls, Shot, shoot_all

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration
    from studio.visitors import Visitor

WORK = "grid"  # of a visitor, to be stopped
ONE_ROW = ""  # the setting that means: no rows


@dataclass(frozen=True)
class Side:
    """What is typed for one side. `kind`: a setting, or ONE_ROW; `scale`: a name, for that setting; `arms`:
    choices of arms, for theirs."""

    kind: Any
    values: Any = ""
    scale: Any = ""
    arms: Any = ()


@dataclass(frozen=True)
class PictureGrid:
    """A rendered grid. `shots`: row after row. `made_on`: as settings name the backbone."""

    grid: Grid
    shots: list[Shot]
    made_on: dict[str, Any]

    @property
    def rows(self) -> list[list[Shot]]:
        wide = len(self.grid.columns.values)
        return [self.shots[i : i + wide] for i in range(0, len(self.shots), wide)]


def make_grid(
    core: Core, visitor: object, form: Form, arm: object, sides: Sequence[Side], **calls: Unpack[Calls]
) -> PictureGrid:
    """Render every cell in one go. `form`: its prompt, seed, steps and the like count where no side changes
    them; `arm`: a choice, likewise.

    An older grid of this visitor is called off. Raises RenderError (FormError for a field of the form) for
    what cannot be asked, HostError, LimitError, RenderCancelled when stopped, Overtaken by a newer one.
    """
    alone = replace(form, prompts="", seeds="", arms=(Choice(str(arm or "base")),))
    found = core.visitors.of(visitor)
    axes, arms = read_sides(core, found, sides)
    with found.working(WORK) as calls["cancel"]:
        backbone = core.host.wait_ready(cancel=calls["cancel"], on_wait=calls.get("on_wait"))
        order = read_order(alone, backbone, core.settings.demo)
        [ask] = order.asks
        start = _start(core, found, ask, order.arms[0], axes)
        grid = Grid(start, axes[0], axes[1] if len(axes) > 1 else None, arms)
        points = grid.points(backbone.layout, backbone.spec)
        shots = shoot_all(core, [_as_shot(point, ask) for point in points], score=False, **calls)
    return PictureGrid(grid, shots, describe_backbone(backbone))


def read_sides(
    core: Core, visitor: Visitor, sides: Sequence[Side]
) -> tuple[list[Axis], dict[str, Calibration | None]]:
    """The axes, and the calibration of each arm on them by its name. Raises RenderError for what does not
    fit, and for an arm that there is not."""
    axes: list[Axis] = []
    arms: dict[str, Calibration | None] = {}
    for side in sides:
        if side.kind == ONE_ROW:
            continue
        if side.kind == "arm":
            chosen = [Choice(what) for what in side.arms or () if isinstance(what, str)]
            named = _name_arms(resolve_arms(core, chosen, visitor))
            arms |= named
            axes.append(read_axis("arm", list(named)))
        else:
            axes.append(read_axis(str(side.kind), _as_text(side.values), _as_text(side.scale)))
    if not axes:
        raise RenderError("expected a setting for the columns, got none")
    return axes, arms


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name_arms(found: Sequence[Arm]) -> dict[str, Calibration | None]:
    named: dict[str, Calibration | None] = {}
    for arm in found:
        _check_there(arm)
        name = arm.name
        if named.get(name, arm.calibration) != arm.calibration:  # two of one title
            name = f"{name} ({len(named)})"
        named[name] = arm.calibration
    return named


def _check_there(arm: Arm) -> None:
    if arm.missing:
        raise RenderError(f"arm: {arm.missing[:1].lower()}{arm.missing[1:].rstrip('.')}")


def _start(core: Core, visitor: Visitor, ask: Ask, choice: Choice, axes: Sequence[Axis]) -> Point:
    """What every picture has that no side changes."""
    arm = Arm("base", WORDS["base"])
    if all(axis.kind != "arm" for axis in axes):
        [arm] = resolve_arms(core, [choice], visitor)
        _check_there(arm)
    return Point(ask.prompt, ask.seed, ask.steps, ask.guidance, ask.embedded, arm.name, arm.calibration)


def _as_shot(point: Point, ask: Ask) -> tuple[Arm, Ask]:
    """What the studio's renders take."""
    kind = kind_of(point.calibration) if point.calibration is not None else "base"
    return Arm(kind, WORDS[kind], point.calibration), replace(
        ask,
        prompt=point.prompt,
        seed=point.seed,
        steps=point.steps,
        guidance=point.guidance or 1.0,
        embedded=point.embedded,
    )


def list_scales(core: Core) -> list[str]:
    """The names of all scales that a side can change, blocks first; empty while no backbone is loaded."""
    backbone = core.host.backbone
    if backbone is None:
        return []
    return list(dict.fromkeys(name for each in GRANULARITIES for name in backbone.layout(each).names))


def make_sheet(made: PictureGrid) -> bytes:
    """The contact sheet as a PNG file that carries its settings, without folders of this machine."""
    from calibri.analysis.sheet import draw_sheet

    pictures = [shot.image for shot in made.shots if shot.image is not None]
    name = str(made.made_on.get("backbone", ""))
    labels = [axis.labels for axis in made.grid.axes]
    sheet = draw_sheet(pictures, *labels, caption=made.grid.write_caption(name))
    return write_png(sheet, describe_sheet(made))


def describe_sheet(made: PictureGrid) -> dict[str, Any]:
    """The settings of a sheet, as JSON values."""
    first, settings = made.shots[0], made.grid.settings()
    size = first.image.size if first.image is not None else (None, None)
    sides: Mapping[str, Any] = settings["grid"]
    clean = {"arms": leave_folders_out(sides["arms"])} if "arms" in sides else {}
    return {
        **settings,
        "calibration": leave_folders_out(settings["calibration"]),
        "negative_prompt": first.ask.negative,
        "width": size[0],
        "height": size[1],
        "nfe": sum(shot.nfe for shot in made.shots),
        **made.made_on,
        **first.painted_by,
        "grid": {**sides, **clean},
    }


def name_sheet(made: PictureGrid) -> str:
    """`a-red-cube-steps-guidance.png`."""
    about = "-".join(axis.scale or axis.kind for axis in made.grid.axes)
    return f"{slug(made.grid.start.prompt, 'grid', 40)}-{slug(about, 'grid', 40)}.png"
