"""Who the visitor is, when a page is filled, and what its progress bar says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import gradio as gr
from gradio.context import Context

from calibri.errors import CalibriError
from studio.machine.host import ModelHost
from studio.ui.errors import guard
from studio.visitors import Visitors

#: Options of an event whose handler may fail. It goes through the queue: outside of the queue Gradio shows no
#: message, and the browser logs an error.
QUEUED: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
#: Options of an event that follows what somebody types or picks. One at a time, or an older answer could come
#: last; the last event that comes meanwhile is kept, while Gradio's default drops it.
IN_ORDER: dict[str, Any] = {**QUEUED, "concurrency_limit": 1, "trigger_mode": "always_last"}
#: Options of an event whose handler cannot fail: it skips the queue.
DIRECT: dict[str, Any] = {**QUEUED, "queue": False}
#: Options of an event that comes by itself and shows what there is. Its handler gets what the page sent,
#: unchecked: what the page names may have been deleted a moment before, which is no error of anybody's.
WATCHES: dict[str, Any] = {**DIRECT, "preprocess": False}
#: Options of an event that renders for a person. A newer one does not wait for those before it, it calls them
#: off.
RENDERS: dict[str, Any] = {
    "trigger_mode": "multiple",
    "concurrency_limit": 8,
    "concurrency_id": "people",
    "api_visibility": "private",
}

#: Copies a link to this page; its input is the query, such as "?run=…".
COPY_LINK = "(query) => { calibriCopyLink(query); }"

R = TypeVar("R")


class Reports(TypedDict):
    """What a render calls meanwhile, to tell a visitor."""

    on_step: Callable[..., None]
    on_wait: Callable[[int, str], None]


def current_blocks() -> gr.Blocks:
    """The Blocks under construction."""
    blocks = Context.root_block
    assert blocks is not None
    return blocks


def make_once(name: str, make: Callable[[], R]) -> R:
    """A component that a page has once: the first caller makes it, later callers get the same one."""
    blocks = current_blocks()
    kept: dict[tuple[str, str], Any] = blocks.__dict__.setdefault("of_pages", {})
    key = (blocks.current_page, name)
    if key not in kept:
        kept[key] = make()
    return kept[key]


def visitor_state() -> gr.BrowserState:
    """The visitor's id as their browser keeps it. Give it to handlers as an input; `when_loaded` fills it."""
    return make_once(
        "visitor", lambda: gr.BrowserState("", storage_key="calibri-visitor", secret="calibri-visitor")
    )


def switch_signal() -> gr.Textbox:
    """Changes when another backbone was loaded while the page is open. The model bar sets it."""
    return make_once("switched", lambda: gr.Textbox("", visible="hidden", elem_id="switched"))


def when_switched(handler: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Call `handler(*inputs) -> values of outputs` when another backbone was loaded under an open page."""
    _fill_when(switch_signal().change, guard(handler), inputs, outputs)


def when_loaded(
    visitor: gr.BrowserState,
    handler: Callable[..., Sequence[Any]] = lambda visitor_id: (),
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
) -> None:
    """Call `handler(visitor_id, *inputs) -> values of outputs` when the page opens, with an id for all."""

    def on_open(visitor_id: object, *values: Any) -> Any:
        known = visitor_id if Visitors.is_id(visitor_id) else Visitors.new_id()
        filled = handler(known, *values)
        return [known, *filled] if outputs else known

    fill(on_open, [visitor, *inputs], [visitor, *outputs], queue=False)


def fill(
    handler: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], *, queue: bool = True
) -> None:
    """Call `handler(*inputs) -> values of outputs` when the page opens.

    Its fields stay closed until the answer is there, which would overwrite what was typed before it.
    """
    _fill_when(current_blocks().load, handler, inputs, outputs, queue=queue)


def _fill_when(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    queue: bool = False,
    then: str = "",
) -> None:
    """`fill` at any event. `then`: a script that runs when the values are there."""
    event(
        handler,
        list(inputs),
        list(outputs),
        js="(...values) => { calibriFilling.begin(); return values; }",
        queue=queue,
        **QUEUED,
    ).then(None, js=f"() => {{ calibriFilling.end(); {then} }}", **QUEUED)


def when_ready(
    host: ModelHost,
    visitor: gr.BrowserState,
    handler: Callable[..., Sequence[Any]],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Call `handler(visitor_id, *inputs) -> values of outputs` once a backbone is loaded.

    And again for each one that is loaded later, while the page is open.
    """
    timer, found = gr.Timer(0.7), gr.Textbox("", visible="hidden")

    def look(visitor_id: object) -> list[Any]:
        if host.backbone is None or not Visitors.is_id(visitor_id):
            return [gr.skip(), gr.skip()]
        return [gr.Timer(active=False), host.backbone.spec.name]

    # Asked for in two steps: the handler must read the fields as they are when they close, not when the timer
    # ticked, or it would overwrite what was typed meanwhile.
    timer.tick(look, visitor, [timer, found], **DIRECT)
    _fill_when(found.change, handler, [visitor, *inputs], outputs, then="calibriFilling.ready();")
    when_switched(handler, [visitor, *inputs], outputs)


def take_file(path: object) -> Path:
    """The file that was sent. Raises CalibriError where there is none."""
    if not isinstance(path, str) or not path:
        raise CalibriError("Expected a file, got none. Choose one first.")
    return Path(path)


def read_address() -> dict[str, str]:
    """The query of the address of the page that sent this thread's event; empty outside of an event."""
    from gradio.context import LocalContext

    request = LocalContext.request.get(None)
    return dict(request.query_params) if request is not None else {}


def go_to(place: str) -> str:
    """A script that opens another page of the studio."""
    return f"() => {{ window.location.assign('{place}'); }}"


def tell_progress(progress: gr.Progress, verb: str = "Rendering") -> Reports:
    """What fills the progress bar: `on_step` with the step of all steps, `on_wait` with who is before."""

    def on_step(step: int, steps: int, *_: Any, **__: Any) -> None:
        progress((step, steps), desc=f"{verb}, step {step} of {steps}")

    def on_wait(ahead: int, holder: str) -> None:
        progress(0.0, desc=wait_words(ahead, holder))  # without a share Gradio shows no words

    return {"on_step": on_step, "on_wait": on_wait}


def wait_words(ahead: int, holder: str) -> str:
    """What a visitor reads while somebody else has the model."""
    if holder.startswith("loading"):
        return f"{holder[0].upper()}{holder[1:]}, then it is your turn"
    if ahead <= 1:
        return f"Waiting: the model is busy with {holder or 'another visitor'}; you are next"
    return f"Waiting: {ahead} people are ahead of you"
