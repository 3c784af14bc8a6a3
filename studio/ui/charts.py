"""Records → Plotly figures as plain dictionaries. Pure: no Gradio, no files, no state.

A figure is `{"data": [...], "layout": {...}, "words": str}`: `words` is what a screen reader says of it. The
light and dark inks are set in the browser (chart.js beside this file), so that one figure serves both themes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calibri.calibration.scale_names import parse_names
from calibri.words import signed
from studio.ui.theme import BASE, CALIBRATED, LAYER_COLOURS

Figure = dict[str, Any]

SCALE_RANGE = (0.5, 1.5)  # the diverging map and its axis are the same on all pages
DIVERGING: list[tuple[float, str]] = [
    (0.0, "#2b5f9e"),
    (0.5, "#d9d9d9"),
    (1.0, "#b8432b"),
]  # cool below 1, warm above


def layout(*, x: str, y: str, height: int = 260, **more: Any) -> dict[str, Any]:
    """The one layout of all charts. `x` and `y` are axis titles with their units."""
    made: dict[str, Any] = {
        "height": height,
        "margin": {"l": 56, "r": 12, "t": 10, "b": 44},
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "xaxis": {"title": {"text": x}, "automargin": True, "showgrid": False},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "uirevision": "keep",
    }
    for key, value in more.items():
        made[key] = {**made[key], **value} if isinstance(made.get(key), dict) else value
    return made


def diverging(scale: float, opacity: float = 1.0) -> str:
    """The colour of a scale's value on the map that all pages share, as `rgba(r, g, b, opacity)`."""
    low, high = SCALE_RANGE
    place = (min(max(scale, low), high) - low) / (high - low)
    (_, start), (_, middle), (_, end) = DIVERGING
    a, b, share = (start, middle, 2 * place) if place < 0.5 else (middle, end, 2 * place - 1)
    parts = ((int(a[i : i + 2], 16), int(b[i : i + 2], 16)) for i in (1, 3, 5))
    mixed = ", ".join(str(round(x + share * (y - x))) for x, y in parts)
    return f"rgba({mixed}, {opacity:g})"


def vector_figure(
    names: Sequence[str], values: Sequence[float], other: Sequence[float] | None = None, other_title: str = ""
) -> Figure:
    """The vector as bars from 1.00, in order of depth. `values`: (n,) scales; `other`: (n,) to compare
    with, as marks."""
    far = max([0.5] + [abs(v - 1.0) for v in (*values, *(other or ()))])
    scales = parse_names(tuple(names))
    bars: Figure = {
        "type": "bar",
        "x": list(names),
        "y": [v - 1.0 for v in values],
        "base": 1.0,
        "marker": {
            "color": [diverging(v, 0.2 if s.stream == "txt" else 1.0) for s, v in zip(scales, values)],
            "line": {"color": [LAYER_COLOURS.get(s.layer, BASE) for s in scales], "width": 1.5},
        },
        "hovertext": [
            f"{s.words}<br><b>{value:.2f}</b> ({signed(value - 1)})" for s, value in zip(scales, values)
        ],
        "hoverinfo": "text",
        "name": "these scales",
        "showlegend": other is not None,
    }
    data = [bars]
    if other is not None:
        marks: Figure = {
            "type": "scatter",
            "mode": "markers",
            "x": list(names),
            "y": list(other),
            "marker": {"symbol": "line-ew-open", "size": 14, "color": CALIBRATED, "line": {"width": 3}},
            "hovertext": [f"{s.words}<br>{other_title}: <b>{v:.2f}</b>" for s, v in zip(scales, other)],
            "hoverinfo": "text",
            "name": other_title,
        }
        data.append(marks)
    firsts = [s for i, s in enumerate(scales) if i == 0 or s.group != scales[i - 1].group]
    changed = sum(abs(v - 1.0) >= 0.005 for v in values)
    middle = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
    return {
        "data": data,
        "layout": layout(
            x="depth, from the first block to the last",
            y="scale",
            height=230,
            xaxis={
                "type": "category",
                "tickvals": [s.name for s in firsts],
                "ticktext": [s.group for s in firsts],
                "tickangle": -45,
            },
            yaxis={"range": [1 - 1.08 * far, 1 + 1.08 * far], "tickformat": ".2f"},
            shapes=[{**middle, "line": {"color": BASE, "width": 1}}],
            bargap=0.15,
        ),
        "words": f"{len(values)} scales, {changed} of them not 1.00, "
        f"from {min(values):.2f} to {max(values):.2f}."
        if len(values)
        else "No scales.",
    }
