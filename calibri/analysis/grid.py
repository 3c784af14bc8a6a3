"""XY grids: pictures of one prompt and noise, with any two settings changed along the two sides.

What changes along a side is an axis. Where both axes touch the calibration they apply in this order: the arm,
its strength, then single scales.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from calibri.analysis.axes import MOST_CELLS, Axis, Kind
from calibri.backbones.layouts import GRANULARITIES, Granularity, Layout
from calibri.calibration.artifact import Calibration
from calibri.errors import RenderError
from calibri.sampling.request import RenderRequest
from calibri.words import count

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec
    from calibri.sampling.renderer import Renderer
    from calibri.sampling.request import Rendered

LayoutOf = Callable[[Granularity], Layout]


@dataclass(frozen=True)
class Point:
    """What one picture is rendered with. `arm`: its name; without a calibration it is the base."""

    prompt: str
    seed: int
    steps: int
    guidance: float | None = None
    embedded: float | None = None
    arm: str = "base"
    calibration: Calibration | None = None

    def request(self, **settings: Any) -> RenderRequest:
        """What the renderer takes. `settings`: what is the same for all: height, width, negative_prompt,
        loras."""
        is_ensemble = self.calibration is not None and self.calibration.is_ensemble
        return RenderRequest.of(
            self.prompt,
            self.seed,
            self.steps,
            calibration=self.calibration,
            guidance=None if is_ensemble else self.guidance,  # an ensemble has its own in its weights
            embedded_guidance=self.embedded,
            **settings,
        )


@dataclass(frozen=True)
class Grid:
    """Columns and rows over a point. `rows`: None for one row. `arms`: name → calibration, None for the base;
    needed where an axis is of arms. Raises RenderError for what does not make a grid."""

    start: Point
    columns: Axis
    rows: Axis | None = None
    arms: Mapping[str, Calibration | None] | None = None

    def __post_init__(self) -> None:
        axes = self.axes
        if self.rows is not None and (axes[0].kind, axes[0].scale) == (axes[1].kind, axes[1].scale):
            raise RenderError(f"expected two different settings, got {axes[0].title.lower()} twice")
        if self.size > MOST_CELLS:
            sides = " × ".join(str(len(axis.values)) for axis in axes)
            raise RenderError(f"expected at most {MOST_CELLS} pictures in a grid, got {sides} = {self.size}")
        kinds, made = {axis.kind for axis in axes}, self._list_calibrations()
        if "strength" in kinds and not any(made):
            raise RenderError("strength: expected a calibration, got the base, whose scales are all 1")
        if "guidance" in kinds and all(each is not None and each.is_ensemble for each in made):
            raise RenderError(
                "guidance: expected the base or a calibration of one member, got an ensemble, which has its "
                "guidance in its weights"
            )

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (self.columns,) if self.rows is None else (self.columns, self.rows)

    @property
    def size(self) -> int:
        """Pictures."""
        return len(self.columns.values) * (len(self.rows.values) if self.rows is not None else 1)

    def _list_calibrations(self) -> list[Calibration | None]:
        """Of all arms that the grid shows."""
        for axis in self.axes:
            if axis.kind == "arm":
                return [self._find_arm(name) for name in axis.values]
        return [self.start.calibration]

    def _find_arm(self, name: str) -> Calibration | None:
        arms = self.arms or {}
        if name not in arms:
            raise RenderError(f"arm: expected one of {', '.join(arms) or 'none'}, got {name[:40]!r}")
        return arms[name]

    def points(self, layout_of: LayoutOf, spec: BackboneSpec | None = None) -> list[Point]:
        """Every cell, row after row. `layout_of`: of the backbone, `Backbone.layout`. `spec`: to refuse what
        this backbone does not read. Raises RenderError or LayoutError."""
        reads_none = spec is not None and spec.guidance is None
        if spec is not None and reads_none and any(a.kind == "embedded-guidance" for a in self.axes):
            raise RenderError(
                f"embedded guidance: expected a distilled model, got {spec.name}, which reads none"
            )
        return [self._place(layout_of, changes) for changes in self._list_changes()]

    def _list_changes(self) -> Iterator[list[tuple[Axis, Any]]]:
        beside: list[list[tuple[Axis, Any]]] = [[]]
        if self.rows is not None:
            beside = [[(self.rows, value)] for value in self.rows.values]
        for row in beside:
            for value in self.columns.values:
                yield sorted([(self.columns, value), *row], key=lambda each: _rank(each[0].kind))

    def _place(self, layout_of: LayoutOf, changes: list[tuple[Axis, Any]]) -> Point:
        point = self.start
        for axis, value in changes:
            known = point.calibration
            if axis.kind == "arm":
                point = replace(point, arm=value, calibration=self._find_arm(value))
            elif axis.kind == "strength":
                point = replace(point, calibration=None if known is None else strengthen(known, value))
            elif axis.kind == "scale":
                point = replace(point, calibration=set_scale(known, axis.scale, value, layout_of))
            else:
                point = replace(point, **{_FIELDS.get(axis.kind, axis.kind): value})
        return point

    def settings(self) -> dict[str, Any]:
        """What a sheet carries, as JSON values: its start as a picture's settings name it, the two sides, and
        the calibration of each arm on them."""
        start, arms = self.start, self.arms or {}
        named = [name for axis in self.axes if axis.kind == "arm" for name in axis.values]
        sides = {
            side: {"of": axis.kind, "values": list(axis.values)}
            | ({"scale": axis.scale} if axis.scale else {})
            for side, axis in zip(("columns", "rows"), self.axes)
        }
        return {
            "prompt": start.prompt,
            "seed": start.seed,
            "steps": start.steps,
            "guidance": start.guidance,
            "embedded_guidance": start.embedded,
            "calibration": _as_json(start.calibration),
            "grid": {**sides, **({"arms": {name: _as_json(arms[name]) for name in named}} if named else {})},
        }

    def write_caption(self, *more: str) -> str:
        """What all its pictures share, in a line. `more`: the backbone and the like."""
        start, changed, own = self.start, {axis.kind for axis in self.axes}, self.start.embedded
        shared: list[tuple[Kind, str]] = [
            ("prompt", f"“{start.prompt}”"),
            ("seed", f"seed {start.seed}"),
            ("steps", count(start.steps, "step")),
            ("guidance", f"guidance {start.guidance:g}" if start.guidance not in (None, 1) else ""),
            ("embedded-guidance", "" if own is None else f"embedded guidance {own:g}"),
            ("arm", start.arm),
        ]
        return " · ".join(filter(None, [*(words for kind, words in shared if kind not in changed), *more]))


def _as_json(calibration: Calibration | None) -> Any:
    return None if calibration is None else json.loads(calibration.to_json())


_FIELDS = {"embedded-guidance": "embedded"}  # of Point, where the kind has another name
_LATER: tuple[Kind, ...] = ("arm", "strength", "scale")  # what touches the calibration, in this order


def _rank(kind: Kind) -> int:
    return _LATER.index(kind) if kind in _LATER else -1


def strengthen(calibration: Calibration, strength: float) -> Calibration:
    """The same with every scale at 1 + strength · (scale − 1): 0 is the base, 1 the calibration. Output
    weights of an ensemble stay."""
    members = tuple(
        member.model_copy(update={"scales": tuple(1 + strength * (scale - 1) for scale in member.scales)})
        for member in calibration.members
    )
    return calibration.changed(members=members)


def set_scale(calibration: Calibration | None, name: str, value: float, layout_of: LayoutOf) -> Calibration:
    """A calibration (None: the base) with one scale at a value, in all its members. A name of a coarser
    granularity sets all that it ties. Raises RenderError for a name that no granularity has."""
    found = next((each for each in map(layout_of, GRANULARITIES) if name in each.names), None)
    if found is None:
        layer = layout_of("layer")
        raise RenderError(
            f"scale: expected a name such as {layer.names[0]!r} or {layer.names[-1]!r}, got {name[:60]!r}"
        )
    start = Calibration.base(found) if calibration is None else calibration
    finer = max(start.granularity, found.granularity, key=GRANULARITIES.index)
    layout = layout_of(finer)
    made, tied = start.on_layout(layout), set(found.groups[found.index(name)])
    places = {i for i, sites in enumerate(layout.groups) if tied.issuperset(sites)}
    members = tuple(
        member.model_copy(
            update={"scales": tuple(value if i in places else each for i, each in enumerate(member.scales))}
        )
        for member in made.members
    )
    return made.changed(members=members)


def render_grid(
    renderer: Renderer,
    grid: Grid,
    *,
    on_step: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    **settings: Any,
) -> list[Rendered]:
    """Every cell's picture, row after row, in the renderer's batches. `settings`: as `Point.request`."""
    backbone = renderer.backbone
    points = grid.points(backbone.layout, backbone.spec)
    return renderer.render([point.request(**settings) for point in points], on_step=on_step, cancel=cancel)
