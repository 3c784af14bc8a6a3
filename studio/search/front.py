"""The front of a search on its page: a chart, and which of its points is opened, compared or saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from calibri.search.front import on_front
from calibri.search.records import PointRecord, share_words
from studio.search.runs import Run
from studio.ui.charts import Figure, layout
from studio.ui.elements import chart, hint
from studio.ui.errors import guard
from studio.ui.theme import BASE, CALIBRATED

WORDS = (
    "Each point is a calibration; they trade one reward for another. Click one, or choose it below, then "
    "open, compare or save it. Gains are over the base on held-out pairs, with 95 % intervals."
)


@dataclass(frozen=True)
class FrontParts:
    """`point`: `RUN/NUMBER` of the point that is chosen."""

    place: gr.Column
    chart: gr.HTML
    point: gr.Dropdown

    @property
    def all(self) -> list[Any]:
        return [self.place, self.chart, self.point]


def lay_out_front() -> FrontParts:
    """The parts inside the current column; hidden until there is a front."""
    with gr.Column(visible=False, elem_id="search-front-result") as place:
        gr.HTML(hint(WORDS))
        drawn = chart(elem_id="chart-front", height=380)
        point = gr.Dropdown([], label="Point of the front", elem_id="search-point")
    return FrontParts(place, drawn, point)


def beat_of(run: Run) -> str:
    """Changes whenever the front that is shown does."""
    return f"{run.id}:{len(run.points)}:{run.over}" if run.over and run.points else "none"


def show(run: Run | None) -> list[Any]:
    """The values of FrontParts.all."""
    if run is None or beat_of(run) == "none":
        return [gr.Column(visible=False), None, gr.Dropdown([], value=None)]
    best = best_of(run)
    kept = next((p.number for p in run.points if p.vector == list(run.result.vector)), 0) if run.result else 0
    choices = [
        (point_words(point, is_best), f"{run.id}/{point.number}")
        for point, is_best in zip(run.points, best, strict=True)
    ]
    chosen = f"{run.id}/{kept}" if kept else choices[0][1]
    return [gr.Column(visible=True), front_figure(run), gr.Dropdown(choices, value=chosen)]


def number_of(run_id: object, choice: object) -> int:
    """The number of the point that is chosen; 0 for a choice that belongs to another search, or to none."""
    name, _, number = choice.rpartition("/") if isinstance(choice, str) else ("", "", "")
    return int(number) if name == run_id and number.isdigit() else 0


@guard
def click(main: str, event: gr.EventData) -> Any:
    """The point of the chart that was clicked, for the list of points."""
    data = event._data.get("data") if isinstance(event._data, dict) else None
    return f"{main}/{data}" if isinstance(data, int) and data > 0 else gr.skip()


def best_of(run: Run) -> list[bool]:
    """Which of a run's points are on the front."""
    terms = run.config.rewards
    gains = [[np.sign(term.weight) * p.gains[term.name].mean for term in terms] for p in run.points]
    return [bool(best) for best in on_front(np.array(gains))]


def point_words(point: PointRecord, best: bool) -> str:
    """A point in the list."""
    return f"{point.number} · {share_words(point.shares)}{'' if best else ' · beaten by another point'}"


def front_figure(run: Run) -> Figure:
    """Gains of the first two rewards over the base, in the rewards' units; a third one as colour."""
    names = [term.name for term in run.config.rewards][:3]
    best = best_of(run)
    on = [point for point, is_best in zip(run.points, best, strict=True) if is_best]
    off = [point for point, is_best in zip(run.points, best, strict=True) if not is_best]
    data = [_trace(on, names, "on the front", "circle")]
    if len(names) == 2:
        ordered = sorted(on, key=lambda point: point.gains[names[0]].mean)
        x, y = ([round(p.gains[name].mean, 5) for p in ordered] for name in names)
        line = {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip", "showlegend": False}
        data.insert(0, line | {"line": {"color": CALIBRATED, "width": 1, "dash": "dot"}})
    else:
        scale = {"showscale": True, "colorbar": {"title": {"text": names[2]}, "thickness": 12}}
        every = [p.gains[names[2]].mean for p in run.points]
        scale |= {"colorscale": "Cividis", "cmin": min(every), "cmax": max(every)}
        data[0]["marker"] |= scale | {"color": [round(p.gains[names[2]].mean, 5) for p in on]}
    if off:
        data.append(_trace(off, names, "beaten by another point", "circle-open"))
    data.append(
        {"type": "scatter", "mode": "markers", "x": [0], "y": [0], "name": "base", "hoverinfo": "name"}
        | {"marker": {"symbol": "x", "size": 11, "color": BASE}}
    )
    more = f", colour {names[2]}" if len(names) == 3 else ""
    return {
        "data": data,
        "layout": layout(
            x=f"gain of {names[0]}",
            y=f"gain of {names[1]}",
            height=380,
            margin={"t": 34},
            uirevision=run.id,
        ),
        "words": f"{len(on)} of {len(run.points)} points are on the front: "
        f"{names[0]} across, {names[1]} up{more}.",
    }


def _trace(points: list[PointRecord], names: list[str], words: str, symbol: str) -> dict[str, Any]:
    gains = [[point.gains[name] for point in points] for name in names]
    axes = {
        axis: [round(gain.mean, 5) for gain in row] for axis, row in zip(("x", "y"), gains[:2], strict=True)
    }
    errors = {
        f"error_{axis}": {"array": [round(gain.high - gain.mean, 5) for gain in row]}
        | {"thickness": 1, "width": 0, "color": BASE}
        for axis, row in zip(("x", "y"), gains[:2], strict=True)
    }
    return {
        "type": "scatter",
        "mode": "markers+text",
        **axes,
        **errors,
        "text": [str(point.number) for point in points],
        "textposition": "top right",
        "customdata": [point.number for point in points],
        "hovertext": [
            "<br>".join(
                [f"<b>point {p.number}</b>, {share_words(p.shares)}"]
                + [f"{name} {gain.text()}" for name, gain in p.gains.items()]
            )
            for p in points
        ],
        "hoverinfo": "text",
        "name": words,
        "marker": {"size": 11, "symbol": symbol, "color": CALIBRATED, "line": {"width": 1.5}},
    }
