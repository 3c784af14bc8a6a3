"""What the page Compare does, without the page: from a filled form to pictures. No Gradio."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Unpack

from calibri.errors import RenderError
from studio.compare.form import Form, ask_for, read_order
from studio.core import Core
from studio.rendering.arms import resolve_arms
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Calls, Comparison, shoot_all

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone


def compare(core: Core, visitor: object, form: Form, **calls: Unpack[Calls]) -> Comparison:
    """Render every arm on every prompt and seed in one go, and put them first in the visitor's history.

    An older render of this visitor is called off. Raises FormError for what cannot be asked, HostError where
    the model cannot serve, RenderCancelled when stopped, Overtaken by a newer render.
    """
    demo, loaded = core.settings.demo, core.host.backbone
    order = read_order(form, loaded, demo)
    found = core.visitors.of(visitor)
    with found.working("compare") as calls["cancel"]:
        backbone = core.host.wait_ready(cancel=calls["cancel"], on_wait=calls.get("on_wait"))
        if loaded is not backbone:  # the size was checked against another one or none
            order = read_order(form, backbone, demo)
        arms = resolve_arms(core, order.arms, found)
        asks = order.asks
        wanted = [(arm, ask_for(ask, choice)) for ask in asks for arm, choice in zip(arms, order.arms)]
        shots = shoot_all(core, wanted, **calls)
    rows = [shots[i : i + len(arms)] for i in range(0, len(shots), len(arms))]
    made = Comparison(asks[0], rows[0], rows[1:], choices=order.arms, made_on=describe_backbone(backbone))
    found.place(SharedPlace).remember(made)
    core.visitors.trim(visitor)
    return made


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """The backbone as a PNG's settings name it."""
    from importlib import metadata

    return {
        "backbone": backbone.spec.name,
        "backbone_fingerprint": backbone.fingerprint,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "versions": {name: metadata.version(name) for name in ("torch", "diffusers")},
    }


def get_history(core: Core, visitor: object) -> deque[Comparison]:
    """The visitor's comparisons, the newest first."""
    return core.visitors.place(visitor, SharedPlace).history


def find_comparison(core: Core, visitor: object, key: object) -> Comparison | None:
    """The comparison of this id in the visitor's history."""
    return next((made for made in get_history(core, visitor) if made.id == key), None)


def find_shown(
    core: Core, first: Comparison | None, visitor: object, shown: Any
) -> tuple[Comparison | None, int]:
    """The comparison that a page shows and its row; `first` where it is not known (any more).

    `shown`: [id, row], as the page sent it.
    """
    key, row = shown if isinstance(shown, list | tuple) and len(shown) == 2 else ("", 0)
    made = find_comparison(core, visitor, key) or first
    return made, row if made and isinstance(row, int) and 0 <= row < len(made.rows) else 0


def need_shown(core: Core, first: Comparison | None, visitor: object, shown: Any) -> tuple[Comparison, int]:
    """The same. Raises RenderError where there is no picture."""
    made, row = find_shown(core, first, visitor, shown)
    if made is None or not made.shots:
        raise RenderError("There is no picture here. Render first.")
    return made, row
