"""What is asked of the renderer, and what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from calibri.backbones.layouts import Granularity, Layout
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.phases import vary, weights_by_step
from calibri.errors import LayoutError, RenderError
from calibri.ranges import LARGEST_SEED, MOST_STEPS

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone
    from calibri.backbones.lora import LoraUse


@dataclass(frozen=True)
class RenderRequest:
    """One picture.

    `seed`: of the noise, which belongs to this picture alone. `steps`: sampling steps. `members`: None for
    the base. Their scales are those of `layout`; without a layout, of the calibration's `granularity` and
    `names`; without these, one for each site. `height`, `width`: pixels, None for the backbone's.
    `guidance`: classifier-free guidance g of a request with at most one member, as two members with weights
    g and 1 − g; None or 1 is none. `negative_prompt`: what negative members see. `embedded_guidance`: of
    distilled models, None for the backbone's. `loras`: which of the backbone's LoRAs are on, each with its
    strength; None are all as they were loaded, () is none.
    """

    prompt: str
    seed: int
    steps: int
    members: tuple[Member, ...] | None = None
    layout: Layout | None = None
    height: int | None = None
    width: int | None = None
    guidance: float | None = None
    negative_prompt: str = ""
    embedded_guidance: float | None = None
    granularity: Granularity | None = None
    names: tuple[str, ...] | None = None
    loras: tuple[LoraUse, ...] | None = None

    @classmethod
    def of(
        cls,
        prompt: str,
        seed: int,
        steps: int,
        calibration: Calibration | None = None,
        guidance: float | None = None,
        **settings: Any,
    ) -> RenderRequest:
        """A request for a calibration, or for the base. `settings`: height, width, negative_prompt …"""
        if calibration is not None:
            settings |= {
                "members": calibration.members,
                "granularity": calibration.granularity,
                "names": calibration.names,
            }
        return cls(prompt, seed, steps, guidance=guidance, **settings)


@dataclass(frozen=True)
class Rendered:
    """One picture (RGB). `nfe`: transformer evaluations spent on it. `seconds`: its share of its batch's
    time, by members."""

    image: Image
    request: RenderRequest
    nfe: int
    seconds: float


@dataclass(frozen=True)
class Term:
    """One member as the transformer gets it. `scales`: (n_sites,) float32. `by_step`: its weight at each step
    where that is not always the same."""

    scales: np.ndarray
    weight: float
    positive: bool
    by_step: tuple[float, ...] | None = None

    def weight_at(self, step: int) -> float:
        """At a step, counted from 0."""
        return self.weight if self.by_step is None else self.by_step[step]

    def evaluations(self, steps: int) -> int:
        """At how many of so many steps it counts."""
        return steps if self.by_step is None else sum(weight != 0 for weight in self.by_step)


@dataclass(frozen=True)
class Job:
    """A checked request: its place in the caller's list, its size in pixels, and its members that count.

    `guidance`: of pipelines that guide by themselves, None for none. `loras`: those that are on.
    """

    place: int
    request: RenderRequest
    height: int
    width: int
    terms: tuple[Term, ...]
    guidance: float | None = None
    loras: tuple[LoraUse, ...] = ()

    @property
    def nfe(self) -> int:
        return sum(term.evaluations(self.request.steps) for term in self.terms)


def check_request(request: RenderRequest, place: int, backbone: Backbone) -> Job:
    """The request as a job. Raises RenderError or LayoutError that names what does not fit."""
    if not isinstance(request.prompt, str) or not isinstance(request.negative_prompt, str):
        raise RenderError(f"prompt: expected text, got {type(request.prompt).__name__}")
    _whole("seed", request.seed, 0, LARGEST_SEED)
    _whole("steps", request.steps, 1, MOST_STEPS)
    for name in ("guidance", "embedded_guidance"):
        value = getattr(request, name)
        if value is not None and not math.isfinite(value):
            raise RenderError(f"{name}: expected a finite number, got {value}")
    spec, step = backbone.spec, backbone.adapter.size_step
    sizes = (request.height or spec.height, request.width or spec.width)
    for name, size in zip(("height", "width"), sizes, strict=True):
        _whole(name, size, step, 2**14)
        if size % step:
            raise RenderError(f"{name}: expected a multiple of {step} pixels, got {size}")
    own = request.guidance if backbone.adapter.guides_itself else None
    loras = backbone.loras.resolve(request.loras)
    return Job(place, request, *sizes, _terms(request, backbone), own, loras)


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise RenderError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")


def _terms(request: RenderRequest, backbone: Backbone) -> tuple[Term, ...]:
    members = request.members
    if members is None:
        terms = [Term(np.ones(len(backbone.sites), dtype=np.float32), 1.0, True)]
    elif not members:
        raise RenderError("members: expected at least one; None renders the base")
    else:
        by_step: list[tuple[float, ...] | None] = [None] * len(members)
        if vary(members):
            by_step = [tuple(row) for row in weights_by_step(members, request.steps).tolist()]
        terms = [
            Term(_site_scales(member, request, backbone), member.weight, member.condition == "positive", row)
            for member, row in zip(members, by_step, strict=True)
        ]
    strength = request.guidance
    if backbone.adapter.guides_itself:
        if not all(term.positive for term in terms):
            raise RenderError(
                f"{backbone.spec.name} guides with a transformer of its own: expected positive members, got "
                "a negative one. Give guidance instead"
            )
    elif strength is not None and strength != 1:
        if len(terms) > 1:
            raise RenderError("an ensemble has its guidance in its weights: leave guidance out")
        if not terms[0].positive:
            raise RenderError("guidance: expected a positive member, got a negative one")
        only = terms[0]  # it counts at every step: nothing else could
        terms = [
            Term(only.scales, strength * only.weight, True),
            Term(only.scales, (1 - strength) * only.weight, False),
        ]
    terms = [term for term in map(_settled, terms) if term.weight != 0 or term.by_step is not None]
    terms.sort(key=lambda term: not term.positive)  # a family may rescale to the first positive one
    if not terms:
        raise RenderError("all members have weight 0: there is nothing to render")
    return tuple(terms)


def _settled(term: Term) -> Term:
    """A term whose weight is the same at every step, told as such."""
    if term.by_step is None or len(set(term.by_step)) > 1:
        return term
    return replace(term, weight=term.by_step[0], by_step=None)


def _site_scales(member: Member, request: RenderRequest, backbone: Backbone) -> np.ndarray:
    layout = request.layout
    if layout is None and request.granularity is not None:
        layout = backbone.layout(request.granularity)
        if request.names is not None and request.names != layout.names:
            return _by_name(member, request.names, layout).astype(np.float32)
    if layout is not None:
        if layout.n_sites != len(backbone.sites):
            raise LayoutError(
                f"the layout drives {layout.n_sites} sites, {backbone.spec.name} has {len(backbone.sites)}"
            )
        return layout.expand(member.scales).astype(np.float32)
    values = np.asarray(member.scales, dtype=np.float32)
    if values.shape != (len(backbone.sites),):
        raise LayoutError(f"expected {len(backbone.sites)} scales, one for each site, got {len(values)}")
    return values


def _by_name(member: Member, names: tuple[str, ...], layout: Layout) -> np.ndarray:
    """Scales in another order than the layout's; LayoutError where the names are not the same."""
    calibration = Calibration(granularity=layout.granularity, names=names, members=(member,))
    return layout.expand(calibration.on_layout(layout).members[0].scales)
