"""Pieces that several pages share: charts, captions, hints, and the one place where errors become words."""

from __future__ import annotations

import functools
import html
import inspect
import json
import logging
import secrets
from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.context import Context
from PIL import Image

from calibri.errors import CalibriError
from studio.machine.host import HostCancelled, ModelHost, without_paths
from studio.ui.charts import signed
from studio.visitors import Visitors

log = logging.getLogger(__name__)

#: Options of an event that may answer with a sentence: through the queue, because outside of it Gradio shows
#: no message, and the browser logs an error.
QUEUED: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
#: Of one that follows what somebody types or picks: one at a time, or an older answer could come last; and
#: what comes meanwhile is not dropped, as Gradio does by default.
IN_ORDER: dict[str, Any] = {**QUEUED, "concurrency_limit": 1, "trigger_mode": "always_last"}
#: Of one that cannot fail: straight to its handler.
DIRECT: dict[str, Any] = {**QUEUED, "queue": False}

P = ParamSpec("P")
R = TypeVar("R")


@cache
def read_beside(module: str, name: str) -> str:
    """The text of a script or a style that lies beside a module: `read_beside(__file__, "chart.js")`."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


def guard(handler: Callable[P, R]) -> Callable[P, R]:
    """Every page's handlers go through here: domain errors become a sentence, unknown ones a logged trace
    and an id."""

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streamed(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except gr.Error:
                raise
            except Exception as error:
                raise as_message(error) from None

        return streamed

    @functools.wraps(handler)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise as_message(error) from None

    return wrapped


def as_message(error: Exception) -> gr.Error:
    """What a visitor is shown for this error. Never a trace."""
    if was_cancelled(error):
        return gr.Error("Stopped.", title="Stopped", duration=3, print_exception=False)
    if isinstance(error, CalibriError):
        words = html.escape(without_paths(str(error)), quote=False)
        return gr.Error(words, title="That did not work", print_exception=False)
    token = secrets.token_hex(3)
    log.error("error %s", token, exc_info=error)
    return gr.Error(
        "Something unexpected happened. Try once more; if it stays, the server's log has the details "
        f"under {token}.",
        title="That did not work",
        print_exception=False,
    )


def was_cancelled(error: BaseException) -> bool:
    """Whether this error only says that its owner called the work off."""
    return isinstance(error, HostCancelled) or type(error).__name__ == "RenderCancelled"


# who looks, and when the page may be filled


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


# progress


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


# pictures

SHOWN = 384  # px: the side at which a small picture is shown


def enlarged(image: Image.Image) -> Image.Image:
    """A small picture at a whole multiple of its size, sharp, at most about SHOWN px wide. Larger ones stay
    as they are."""
    factor = SHOWN // max(image.size)
    if factor < 2:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)


def picture(
    arm: str, *, value: Image.Image | None = None, elem_id: str, label: str, alt: str = ""
) -> gr.Image:
    """A picture on neutral grey, framed in the colour of its arm. Its place is kept while it is empty."""
    return gr.Image(
        value=value,
        label=label,
        elem_id=elem_id,
        elem_classes=["stage", f"arm-{arm}"],
        format="png",
        type="pil",
        interactive=False,
        height=SHOWN + 8,
        buttons=["download", "fullscreen"],
        alt_text=alt or label,
    )


def three_digits(value: float) -> str:
    """A reward as LOOK writes it: three significant digits, at most three decimals, a real minus sign."""
    text = f"{value:.3f}" if abs(value) < 0.1 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min`, `2 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def caption(
    arm: str,
    title: str,
    facts: Sequence[str],
    rewards: Mapping[str, float] | None = None,
    base: Mapping[str, float] | None = None,
    note: str = "",
) -> str:
    """What stands under a picture: arm, facts such as steps, NFE and seconds, and rewards with their
    distance from base."""
    rows = ""
    for name, value in (rewards or {}).items():
        change = ""
        if base and name in base and arm != "base":
            change = signed(value - base[name])
        rows += (
            f"<tr><td>{html.escape(name)}</td><td class='n'>{three_digits(value)}</td>"
            f"<td class='n sub'>{change}</td></tr>"
        )
    return (
        f"<div class='caption'><div class='arm arm-{arm}'>{html.escape(title)}</div>"
        f"<div class='sub'>{html.escape(' · '.join(facts))}</div>"
        + (f"<div>{html.escape(note)}</div>" if note else "")
        + (f"<table aria-label='rewards'>{rows}</table>" if rows else "")
        + "</div>"
    )


def hint(markup: str) -> str:
    """A remark in a box. `markup` is HTML made here: what people typed is escaped by the caller."""
    return f"<div class='hint' role='status'>{markup}</div>"


def said(text: str) -> str:
    """Plain text as a remark in a box; nothing for an empty text."""
    return hint(html.escape(text)) if text else ""


def empty(text: str) -> str:
    """What stands where nothing is yet: what will appear, and what makes it appear."""
    return f"<div class='empty'>{html.escape(text)}</div>"


def offers(
    choices: Sequence[tuple[str, Any]], value: Any, fallback: Any = None, kind: type = gr.Dropdown
) -> Any:
    """New choices of a field that holds `value`, which is sent only where it is no longer among them: what
    was picked while the answer was on its way is not taken back."""
    known = [choice for _, choice in choices]
    gone = [v for v in (value if isinstance(value, list) else [value]) if v not in (None, "", *known)]
    return kind(choices, value=fallback) if gone else kind(choices)


# charts


@cache
def plotly_path() -> str:
    """plotly.js as plotly.py's own wheel brings it, so that no other host is asked for it."""
    from importlib.util import find_spec

    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise CalibriError("plotly is not installed.")
    return str(Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js")


def as_json(value: Any) -> str | None:
    """A value as JSON text; None and texts as they are."""
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))


#: HTML whose script reads its value as JSON text. Gradio's page copies an object piece by piece, again and
#: again: seconds for the charts of a long search. A text it leaves alone. Made by hand, because a `class`
#: statement would have Gradio write a stub file beside this module.
Scripted: type[gr.HTML] = ABCMeta.__new__(
    type(gr.HTML),
    "Scripted",
    (gr.HTML,),
    {"__module__": __name__, "postprocess": lambda self, value: as_json(value)},
)


def chart(figure: Mapping[str, Any] | None = None, *, elem_id: str, height: int = 260) -> gr.HTML:
    """A Plotly chart that keeps zoom and legend when its figure changes. Its value is a figure of
    studio.ui.charts; a click on a point triggers `.select` with an EventData of x, y, curve, point and
    data."""
    return Scripted(
        value=dict(figure) if figure else None,  # type: ignore[arg-type]
        elem_id=elem_id,
        apply_default_css=False,
        js_on_load=read_beside(__file__, "chart.js"),
        # The library's place stands in the element: an update that skips an HTML component empties its props.
        html_template=f"<div class='chart' role='img' data-library='{html.escape(plotly_path())}' "
        f"style='min-height:{height}px;width:100%'></div>",
    )


def wait_words(ahead: int, holder: str) -> str:
    """What a visitor reads while somebody else has the model."""
    if holder.startswith("loading"):
        return f"{holder[0].upper()}{holder[1:]}, then it is your turn"
    if ahead <= 1:
        return f"Waiting: the model is busy with {holder or 'another visitor'}; you are next"
    return f"Waiting: {ahead} are before you"
