"""Figures over several searches: their points as parallel coordinates, and which scales mattered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from calibri.calibration.scale_names import layer_of, words_for
from studio.ui.charts import Figure, layout
from studio.ui.theme import BASE, CALIBRATED, LAYER_COLOURS

if TYPE_CHECKING:
    from calibri.search.importance import Importance
    from studio.search.runs import Run

MOST_AXES = 24  # scales with an axis of their own; of more, those that differ most between the searches
MOST_BARS = 40


def gain_of(run: Run) -> float:
    """On held-out prompts where it was judged, else of the last validation, else of the last generation."""
    if run.over and run.result is not None and run.result.objective is not None:
        return run.result.objective.mean
    if run.validations:
        return run.validations[-1].objective.mean
    return run.generations[-1].bucket_mean.mean


def parallel_figure(runs: Sequence[Run]) -> Figure | None:
    """One line a search through the scales of its point, coloured by its gain. None for fewer than two."""
    if len(runs) < 2:
        return None
    labels = runs[0].sessions[0].labels
    points = [[float(value) for value in run.point()] for run in runs]
    ranges = [max(column) - min(column) for column in zip(*points)]
    kept = sorted(sorted(range(len(labels)), key=lambda i: -ranges[i])[:MOST_AXES])
    gains = [round(gain_of(run), 3) for run in runs]
    flat = [value for point in points for value in point]
    low, high = min([0.5, *flat]), max([1.5, *flat])
    axes = [
        {"label": labels[i], "values": [round(p[i], 3) for p in points], "range": [low, high]} for i in kept
    ]
    gain_axis = {"label": "gain", "values": gains, "tickformat": "+.2f"}
    titles = "; ".join(f"{run.title} {gain:+.2f}" for run, gain in zip(runs, gains))
    left_out = len(labels) - len(kept)
    more = f" The {left_out} scales that differ least are left out." if left_out else ""
    return {
        "data": [
            {
                "type": "parcoords",
                "line": {
                    "color": gains,
                    "colorscale": [[0, BASE], [1, CALIBRATED]],
                    "showscale": True,
                    "colorbar": {"title": {"text": "gain"}, "thickness": 12, "tickformat": "+.2f"},
                },
                "dimensions": [*axes, gain_axis],
                "labelangle": -60,
                "labelside": "bottom",
            }
        ],
        "layout": layout(
            x="", y="", height=340, margin={"l": 40, "r": 20, "t": 16, "b": 96}, uirevision="parallel"
        ),
        "words": f"The scales of {len(runs)} searches, a line for each, with their gains: {titles}.{more}",
    }


def importance_figure(found: Importance, of: str) -> Figure:
    """Bars of the importance of each scale, the most important first, with the range of their shuffles."""
    order = sorted(range(len(found.labels)), key=lambda i: -found.mean[i])[:MOST_BARS][::-1]
    layers = [layer_of(found.labels[i].partition(": ")[2] or found.labels[i]) for i in order]
    explained = max(0.0, found.explained)
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [round(found.mean[i], 4) for i in order],
                "y": [found.labels[i] for i in order],
                "marker": {"color": [LAYER_COLOURS.get(layer, BASE) for layer in layers]},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [round(found.high[i] - found.mean[i], 4) for i in order],
                    "arrayminus": [round(found.mean[i] - found.low[i], 4) for i in order],
                    "thickness": 1,
                    "width": 2,
                },
                "hovertext": [
                    f"{words_for(found.labels[i].partition(': ')[2] or found.labels[i])}<br>"
                    f"<b>{found.mean[i]:.3f}</b> [{found.low[i]:.3f}, {found.high[i]:.3f}], "
                    "middle 90 % of its shuffles"
                    for i in order
                ],
                "hoverinfo": "text",
            }
        ],
        "layout": layout(
            x="importance: share of the scores' variance lost when shuffled",
            y="",
            height=max(240, 90 + 15 * len(order)),
            margin={"l": 110, "r": 12, "t": 40, "b": 44},
            xaxis={"rangemode": "tozero"},
            yaxis={"type": "category", "tickfont": {"size": 10}, "dtick": 1},
            title={
                "text": f"{of}, {found.count} candidates; the fit explains {100 * explained:.0f} %",
                "font": {"size": 12},
                "x": 0.02,
            },
        ),
        "words": f"Permutation importance over {of}: most of all "
        + ", ".join(f"{found.labels[i]} {found.mean[i]:.2f}" for i in order[::-1][:3])
        + f". The fit explains {100 * explained:.0f} % of what the candidates' scores differ by.",
    }
