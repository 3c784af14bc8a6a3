"""Who looks, when a page may be filled, and what is said while it waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gradio as gr
from gradio.context import Context

from studio.machine.host import ModelHost
from studio.ui.errors import guard
from studio.visitors import Visitors

#: Options of an event that may answer with a sentence: through the queue, because outside of it Gradio shows
#: no message, and the browser logs an error.
QUEUED: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
#: Of one that follows what somebody types or picks: one at a time, or an older answer could come last; and
#: what comes meanwhile is not dropped, as Gradio does by default.
IN_ORDER: dict[str, Any] = {**QUEUED, "concurrency_limit": 1, "trigger_mode": "always_last"}
#: Of one that cannot fail: straight to its handler.
DIRECT: dict[str, Any] = {**QUEUED, "queue": False}
#: Of one that renders for a person: a newer one does not wait for those before it, it calls them off.
RENDERS: dict[str, Any] = {
    "trigger_mode": "multiple",
    "concurrency_limit": 8,
    "concurrency_id": "people",
    "api_visibility": "private",
}

R = TypeVar("R")


def of_page(name: str, make: Callable[[], R]) -> R:
    """A component that a page has once, whoever needs it first: made by `make` and kept for the others."""
    blocks = Context.root_block
    kept: dict[tuple[str, str], Any] = blocks.__dict__.setdefault("of_pages", {})
    key = (blocks.current_page, name)
    if key not in kept:
        kept[key] = make()
    return kept[key]


def visitor_state() -> gr.BrowserState:
    """The visitor's id as their browser keeps it. Give it to handlers as an input; `when_loaded` fills it."""
    return of_page(
        "visitor", lambda: gr.BrowserState("", storage_key="calibri-visitor", secret="calibri-visitor")
    )


def switched() -> gr.Textbox:
    """Changes when another backbone was loaded while the page is open. The model bar sets it."""
    return of_page("switched", lambda: gr.Textbox("", visible="hidden", elem_id="switched"))


def when_switched(handler: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Call `handler(*inputs) -> values of outputs` when another backbone was loaded under an open page."""
    switched().change(
        guard(handler),
        list(inputs),
        list(outputs),
        **DIRECT,
    )


def when_loaded(
    visitor: gr.BrowserState,
    handler: Callable[..., Sequence[Any]] = lambda visitor_id: (),
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
) -> None:
    """Call `handler(visitor_id, *inputs) -> values of outputs` when the page opens, with an id for new
    visitors."""

    def opened(visitor_id: object, *values: Any) -> Any:
        known = visitor_id if Visitors.is_id(visitor_id) else Visitors.new_id()
        filled = handler(known, *values)
        return [known, *filled] if outputs else known

    fill(opened, [visitor, *inputs], [visitor, *outputs], queue=False)


def fill(
    handler: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], *, queue: bool = True
) -> None:
    """Call `handler(*inputs) -> values of outputs` when the page opens. Its fields stay closed until the
    answer is there: it would take the place of what was typed before it came."""
    Context.root_block.load(
        handler,
        list(inputs),
        list(outputs),
        js="(...values) => { calibriFilling.begin(); return values; }",
        queue=queue,
        **QUEUED,
    ).then(None, js="() => calibriFilling.end()", **QUEUED)


def when_ready(
    host: ModelHost,
    visitor: gr.BrowserState,
    handler: Callable[..., Sequence[Any]],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Call `handler(visitor_id, *inputs) -> values of outputs` as soon as the page is open and a backbone
    loaded, and again whenever another one was loaded."""
    timer = gr.Timer(0.7)

    def looked(visitor_id: object, *values: Any) -> list[Any]:
        if host.backbone is None or not Visitors.is_id(visitor_id):
            return [gr.skip()] * (len(outputs) + 1)
        return [gr.Timer(active=False), *handler(visitor_id, *values)]

    timer.tick(
        looked,
        [visitor, *inputs],
        [timer, *outputs],
        **DIRECT,
    )
    when_switched(handler, [visitor, *inputs], outputs)


def go_to(place: str) -> str:
    """A script that opens another page of the studio."""
    return f"() => {{ window.location.assign('{place}'); }}"


def tell_progress(progress: gr.Progress, verb: str = "Rendering") -> dict[str, Callable[..., None]]:
    """`on_step` and `on_wait` of a render that fill the progress bar."""
    return {"on_step": step_words(progress, verb), "on_wait": waiting(progress)}


def step_words(progress: gr.Progress, verb: str) -> Callable[..., None]:
    """An `on_step(step, steps)` that fills the progress bar."""

    def on_step(step: int, steps: int, *_: Any, **__: Any) -> None:
        progress((step, steps), desc=f"{verb}, step {step} of {steps}")

    return on_step


def waiting(progress: gr.Progress) -> Callable[[int, str], None]:
    """An `on_wait(ahead, holder)` that tells a visitor who is before them."""

    def on_wait(ahead: int, holder: str) -> None:
        progress(0.0, desc=wait_words(ahead, holder))  # without a share Gradio shows no words

    return on_wait


def wait_words(ahead: int, holder: str) -> str:
    """What a visitor reads while somebody else has the model."""
    if holder.startswith("loading"):
        return f"{holder[0].upper()}{holder[1:]}, then it is your turn"
    if ahead <= 1:
        return f"Waiting: the model is busy with {holder or 'another visitor'}; you are next"
    return f"Waiting: {ahead} are before you"
