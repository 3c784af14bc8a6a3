"""Pieces that several pages share: pictures, captions, hints, charts."""

from __future__ import annotations

import json
from abc import ABCMeta
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup, escape
from PIL import Image

from calibri.errors import CalibriError
from calibri.files import Unreadable
from calibri.words import count, without_paths
from studio.ui.glossary import explain
from studio.ui.picture_files import serve
from studio.ui.templates import fill_template


@cache
def read_beside(module: str, name: str) -> str:
    """The text of a script or a style that lies beside a module: `read_beside(__file__, "chart.js")`."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


def lead(text: str, module: str, style: str, **options: Any) -> gr.HTML:
    """What a page is for, in a sentence or two, with the style that lies beside its module."""
    markup = f"<style>{read_beside(module, style)}</style><div class='lead'>{explain(text)}</div>"
    return gr.HTML(markup, elem_id="lead", **options)


def primary_button(text: str, elem_id: str, **options: Any) -> gr.Button:
    """The one button of a page that does what the page is for: Ctrl+Enter presses it."""
    return gr.Button(text, variant="primary", elem_id=elem_id, elem_classes="primary-action", **options)


# pictures

SHOWN = 384  # px: the side at which a small picture is shown


def enlarge(image: Image.Image) -> Image.Image:
    """A small picture at a whole multiple of its size, sharp, at most SHOWN px; larger ones as they are."""
    factor = SHOWN // max(image.size)
    if factor < 2:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)


def serve_enlarged(image: Image.Image | None) -> str | None:
    """The path of the enlarged picture as a file that browsers fetch; None for None."""
    return serve(enlarge(image)) if image is not None else None


def picture(
    arm: str, *, value: Image.Image | None = None, elem_id: str, label: str, alt: str = ""
) -> gr.Image:
    """A picture on neutral grey, framed in the colour of its arm. Its place is kept while it is empty.

    Gradio's download icon is not there: it would save the enlarged picture, without settings.
    """
    return gr.Image(
        value=value,
        label=label,
        elem_id=elem_id,
        elem_classes=["stage", f"arm-{arm}"],
        format="png",
        type="pil",
        interactive=False,
        height=SHOWN + 8,
        buttons=["fullscreen"],
        alt_text=alt or label,
    )


def caption(
    arm: str,
    title: str,
    facts: Sequence[str],
    rewards: Mapping[str, float] | None = None,
    base: Mapping[str, float] | None = None,
    note: str = "",
) -> str:
    """What stands under a picture: arm, facts such as steps, rewards with their distance from base."""
    reference = {} if base is None or arm == "base" else base
    rows = [
        (name, value, value - reference[name] if name in reference else None)
        for name, value in (rewards or {}).items()
    ]
    return fill_template("ui/caption.html", arm=arm, title=title, facts=facts, note=note, rows=rows)


def hint(markup: str) -> str:
    """A remark in a box. `markup` is HTML: the caller escapes what people typed."""
    return str(Markup("<div class='hint' role='status'>{}</div>").format(Markup(markup)))


def show_remark(text: str) -> str:
    """Plain text as a remark in a box; nothing for an empty text."""
    return hint(escape(text)) if text else ""


def aside(text: str) -> str:
    """Plain text in small grey letters; nothing for an empty text."""
    return str(Markup("<div class='aside'>{}</div>").format(text)) if text else ""


MOST_UNREADABLE = 20  # are listed


def list_unreadable(items: Sequence[Unreadable]) -> str:
    """What lies in a folder and cannot be read, and why; nothing where there is none."""
    shown = [(name[:80], without_paths(why)[:300]) for name, why in items[:MOST_UNREADABLE]]
    return fill_template(
        "ui/unreadable.html",
        summary=f"{count(len(items), 'entry', 'entries')} cannot be read",
        items=shown,
        more=max(0, len(items) - MOST_UNREADABLE),
    )


def empty(text: str) -> str:
    """What an empty place shows: what will appear there, and what makes it appear."""
    return str(Markup("<div class='empty'>{}</div>").format(text))


def offers(
    choices: Sequence[tuple[str, Any]], value: Any, fallback: Any = None, kind: type = gr.Dropdown
) -> Any:
    """New choices of a field that holds `value`.

    A value is sent only where `value` is no longer among them: an answer does not overwrite what was picked
    while it was on its way.
    """
    known = [choice for _, choice in choices]
    gone = [v for v in (value if isinstance(value, list) else [value]) if v not in (None, "", *known)]
    return kind(choices, value=fallback) if gone else kind(choices)


# charts


@cache
def plotly_path() -> str:
    """plotly.js from plotly.py's own wheel: no other host is asked for it."""
    from importlib.util import find_spec

    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise CalibriError("plotly is not installed.")
    return str(Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js")


def as_json(value: Any) -> str | None:
    """A value as JSON text; None and texts as they are."""
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))


#: HTML whose script reads its value as JSON text. Gradio's page copies an object piece by piece, many times:
#: seconds for the charts of a long search. It does not copy a text. Made without a `class` statement, for
#: which Gradio would write a stub file beside this module.
Scripted: type[gr.HTML] = ABCMeta.__new__(
    type(gr.HTML),
    "Scripted",
    (gr.HTML,),
    {"__module__": __name__, "postprocess": lambda self, value: as_json(value)},
)


def chart(figure: Mapping[str, Any] | None = None, *, elem_id: str, height: int = 260) -> gr.HTML:
    """A Plotly chart that keeps zoom and legend when its figure changes. Its value is a Figure.

    A click on a point triggers `.select` with an EventData of x, y, curve, point and data.
    """
    return Scripted(
        value=as_json(figure or None),
        elem_id=elem_id,
        apply_default_css=False,
        js_on_load=read_beside(__file__, "chart.js"),
        # The library's place stands in the element: an update that skips an HTML component empties its props.
        html_template=str(
            Markup(
                "<div class='chart' role='img' data-library='{}' style='min-height:{}px;width:100%'></div>"
            ).format(plotly_path(), height)
        ),
    )
