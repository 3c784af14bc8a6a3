"""What the page Compare does, without the page: from a filled form to pictures. No Gradio."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from calibri.errors import RenderError
from studio.compare.form import Order, read_size
from studio.core import Core
from studio.rendering.arms import Choice, arm_of
from studio.rendering.asks import Ask
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, shoot_all

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone


def compare(
    core: Core,
    visitor: object,
    order: Order,
    *,
    on_step: Callable[..., None] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> Comparison:
    """Render every arm on every prompt and seed in one go, and put them first in the visitor's history.

    Raises RenderError for what cannot be asked, HostError where the model cannot serve, RenderCancelled when
    stopped.
    """
    if order.problems:
        raise RenderError(" ".join(order.problems.values()))
    found = core.visitors.of(visitor)
    cancelled = found.begin("compare")
    backbone = core.host.wait_ready(cancel=cancelled, on_wait=on_wait)
    for ask in order.asks[:1]:  # the form may have been checked before the backbone was there
        _, wrong = read_size(core, ask.width, ask.height)
        if wrong:
            raise RenderError(" ".join(wrong.values()))
    arms = [arm_of(core, found, choice) for choice in order.choices]
    wanted = [(arm, _own(ask, choice)) for ask in order.asks for arm, choice in zip(arms, order.choices)]
    shots = shoot_all(core, wanted, on_step=on_step, cancel=cancelled, on_wait=on_wait)
    rows = [shots[i : i + len(arms)] for i in range(0, len(shots), len(arms))]
    made = Comparison(order.asks[0], rows[0], rows[1:], choices=order.choices, made_on=_made_on(backbone))
    found.place(SharedPlace).history.appendleft(made)
    return made


def _own(ask: Ask, choice: Choice) -> Ask:
    """The ask with what this arm has of its own."""
    steps = ask.steps if choice.steps is None else int(choice.steps)
    guidance = ask.guidance if choice.guidance is None else float(choice.guidance)
    return replace(ask, steps=steps, guidance=guidance)


def _made_on(backbone: Backbone) -> dict[str, Any]:
    """The backbone as a PNG's settings name it."""
    from importlib import metadata

    return {
        "backbone": backbone.spec.name,
        "backbone_fingerprint": backbone.fingerprint,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "versions": {name: metadata.version(name) for name in ("torch", "diffusers")},
    }


def history_of(core: Core, visitor: object) -> deque[Comparison]:
    """The visitor's comparisons, the newest first."""
    return core.visitors.of(visitor).place(SharedPlace).history


def find(core: Core, visitor: object, key: object) -> Comparison | None:
    """The comparison of this id in the visitor's history."""
    history = history_of(core, visitor)
    return next((c for c in history if c.id == key), None)
