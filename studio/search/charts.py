"""Runs → Plotly figures as plain dictionaries. Pure: no Gradio, no files, no state.

x is images used, so that searches compare; generations are in the hover text. A curve has at most MOST
points. The kept ones are generations 0, s, 2s, … with s a power of two: when more arrive, those that are
drawn stay where they are, and when s doubles every second one goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calibri.calibration.scale_names import layer_of, words_for
from studio.ui.charts import DIVERGING, SCALE_RANGE, Figure, layout
from studio.ui.theme import ATTENTION, BASE, CALIBRATED, ENSEMBLE, FUSED, LAYER_COLOURS, MLP

if TYPE_CHECKING:
    from studio.search.runs import Run, Step

MOST = 2000  # points of one curve
ALL = 20_000  # points of one figure with a curve for each scale
COLUMNS = 256  # of a heat map
RUN_COLOURS = (CALIBRATED, MLP, ENSEMBLE, ATTENTION, FUSED, "#CC79A7")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
IMAGES = "images used"


def stride(count: int, most: int = MOST) -> int:
    """The smallest power of two s for which 0, s, 2s, … below `count` are at most `most` numbers."""
    step = 1
    while (count + step - 1) // step > most:
        step *= 2
    return step


def kept(steps: Sequence[Step], most: int = MOST) -> list[Step]:
    """The generations that are drawn."""
    return list(steps[:: stride(len(steps), most)])


def drawn_key(runs: Sequence[Run]) -> str:
    """Changes whenever a figure of these runs would. Charts are sent again only then."""
    parts = [f"{r.id}:{(len(r.steps) - 1) // stride(len(r.steps))}:{len(r.validations)}" for r in runs]
    return "|".join(parts)


def short(value: float) -> float:
    """Four significant digits: what a screen can show, in a third of the bytes."""
    return float(f"{value:.4g}")


def _colour(index: int) -> str:
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def _faint(colour: str, opacity: float) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r}, {g}, {b}, {opacity:g})"


def _curve(x: list[Any], y: list[float], name: str, **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, **more}


def reward_figure(runs: Sequence[Run]) -> Figure:
    """Best candidate, mean over candidates with its interval, the base, and validation with its interval."""
    data: list[dict[str, Any]] = []
    single = len(runs) == 1
    for i, run in enumerate(runs):
        colour, steps = _colour(i), kept(run.steps)
        x = [s.images for s in steps]
        numbers = [s.generation + 1 for s in steps]
        group = {} if single else {"legendgroup": run.id}  # groups of a legend stand below each other
        first = "" if single else f"{run.title}: "
        if single:
            data += _band(x, steps, colour, group)
        data.append(
            _curve(
                x,
                [short(s.best) for s in steps],
                f"{first}best candidate",
                line={"color": _faint(colour, 0.55), "width": 1, "dash": "dot"},
                customdata=numbers,
                hovertemplate="best candidate of generation %{customdata}<br><b>%{y}</b><extra></extra>",
                visible=True if single else "legendonly",
                **group,
            )
        )
        data.append(
            _curve(
                x,
                [short(s.mean_gain) for s in steps],
                f"{first}mean of candidates",
                line={"color": colour, "width": 1.5 if single else 2, "dash": DASHES[i % len(DASHES)]},
                customdata=[[s.generation + 1, short(s.low), short(s.high)] for s in steps],
                hovertemplate="mean of generation %{customdata[0]}<br><b>%{y}</b> "
                "[%{customdata[1]}, %{customdata[2]}], 95 % over its pairs<extra></extra>",
                **group,
            )
        )
        if run.validations:
            data.append(_validation(run, colour, first, group))
    win = [run.config.objective == "win-rate" for run in runs]
    base = 0.5 if win and all(win) else 0.0
    unit = "win rate against the base" if win and all(win) else "gain over the base, in its spreads"
    return {
        "data": data,
        "layout": layout(
            x=IMAGES,
            y=unit,
            height=340 if single else 380,
            margin={"l": 56, "r": 12, "t": 34 if single else 84, "b": 44},
            uirevision="|".join(run.id for run in runs),
            shapes=[_level(base)],
            annotations=[
                {
                    "text": "base",
                    "xref": "paper",
                    "x": 1,
                    "y": base,
                    "xanchor": "right",
                    "yanchor": "top",
                    "showarrow": False,
                    "font": {"size": 11},
                }
            ],
        ),
        "words": _reward_words(runs),
    }


def _level(y: float) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"color": BASE, "width": 2},
    }


def _band(x: list[int], steps: Sequence[Step], colour: str, group: dict[str, str]) -> list[dict[str, Any]]:
    edge = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **group}
    return [
        _curve(x, [short(s.low) for s in steps], "low", **edge),
        _curve(
            x,
            [short(s.high) for s in steps],
            "high",
            fill="tonexty",
            fillcolor=_faint(colour, 0.16),
            **edge,
        ),
    ]


def _validation(run: Run, colour: str, first: str, group: dict[str, str]) -> dict[str, Any]:
    marks = run.validations[:: stride(len(run.validations))]
    means = [short(v.objective.mean) for v in marks]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [v.images for v in marks],
        "y": means,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [short(v.objective.high - v.objective.mean) for v in marks],
            "arrayminus": [short(v.objective.mean - v.objective.low) for v in marks],
            "thickness": 1.5,
            "width": 3,
        },
        "customdata": [
            [v.generation, short(v.objective.low), short(v.objective.high), v.objective.n] for v in marks
        ],
        "hovertemplate": "validation after generation %{customdata[0]}<br><b>%{y}</b> "
        "[%{customdata[1]}, %{customdata[2]}], 95 %, paired, on %{customdata[3]} pairs<extra></extra>",
        "name": f"{first}validation",
        "marker": {"symbol": "diamond", "size": 8, "color": colour},
        "line": {"color": colour, "width": 1},
        **group,
    }


def _reward_words(runs: Sequence[Run]) -> str:
    if not runs or not any(run.steps for run in runs):
        return "No generation yet."
    told = []
    for run in runs:
        if run.steps:
            last = run.steps[-1]
            words = f"{run.title}: {len(run.steps)} generations, {last.images} images, "
            words += f"mean of the last one {last.mean_gain:+.2f}"
            if run.validations:
                words += f", last validation {run.validations[-1].objective.text(2)}"
            told.append(words + ".")
    return " ".join(told)


def step_figure(runs: Sequence[Run]) -> Figure:
    """Sigma (left) and axis ratio of the distribution (right)."""
    data: list[dict[str, Any]] = []
    for i, run in enumerate(runs):
        steps = kept(run.steps)
        x, numbers = [s.images for s in steps], [s.generation + 1 for s in steps]
        first = "" if len(runs) == 1 else f"{run.title}: "
        shared: dict[str, Any] = {"customdata": numbers}
        if len(runs) > 1:
            shared["legendgroup"] = run.id
        data.append(
            _curve(
                x,
                [short(s.sigma) for s in steps],
                f"{first}sigma",
                line={"color": _colour(i), "width": 2},
                hovertemplate="sigma after generation %{customdata}<br><b>%{y}</b><extra></extra>",
                **shared,
            )
        )
        data.append(
            _curve(
                x,
                [short(s.axis_ratio) for s in steps],
                f"{first}axis ratio",
                yaxis="y2",
                line={"color": _colour(i), "width": 1.5, "dash": "dot"},
                hovertemplate="axis ratio after generation %{customdata}<br><b>%{y}</b><extra></extra>",
                **shared,
            )
        )
    last = runs[0].steps[-1] if runs and runs[0].steps else None
    return {
        "data": data,
        "layout": layout(
            x=IMAGES,
            y="sigma, the step size",
            height=280,
            margin={"l": 56, "r": 56, "t": 34 if len(runs) < 2 else 64, "b": 44},
            uirevision="|".join(run.id for run in runs),
            yaxis={"rangemode": "tozero"},
            yaxis2={
                "title": {"text": "axis ratio, longest to shortest"},
                "overlaying": "y",
                "side": "right",
                "showgrid": False,
                "automargin": True,
                "tickformat": ".3~g",
                "nticks": 5,
            },
        ),
        "words": f"Sigma {last.sigma:.3g}, axis ratio {last.axis_ratio:.3g}."
        if last
        else "No generation yet.",
    }


def _scales_of(run: Run) -> list[tuple[int, str, str]]:
    """(place in the vector, name, layer) of every scale; output weights are left out."""
    labels = run.sessions[0].labels if run.sessions else []
    found = []
    for place, label in enumerate(labels):
        name = label.partition(": ")[2] or label
        if name != "weight":
            found.append((place, label, layer_of(name)))
    return found


def _hover_name(label: str) -> str:
    member, _, name = label.rpartition(": ")
    return f"member {member}, {words_for(name)}" if member else words_for(name)


LAYERS = {"attn": "attention", "attn2": "attention", "mlp": "MLP", "fused": "fused", "block": "whole block"}


def spread_figure(run: Run) -> Figure:
    """The standard deviation of each scale, coloured by its layer."""
    scales = _scales_of(run)
    steps = kept(run.steps, min(MOST, max(64, ALL // max(1, len(scales)))))
    x, numbers = [s.images for s in steps], [s.generation + 1 for s in steps]
    data, named = [], set()
    for place, label, layer in scales:
        words = LAYERS.get(layer, layer)
        data.append(
            _curve(
                x,
                [short(s.spread[place]) for s in steps],
                words,
                legendgroup=words,
                showlegend=words not in named,
                line={"color": LAYER_COLOURS.get(layer, BASE), "width": 1},
                customdata=numbers,
                hovertemplate=f"{_hover_name(label)}<br>spread after generation %{{customdata}}: "
                "<b>%{y}</b><extra></extra>",
            )
        )
        named.add(words)
    last = run.steps[-1].spread if run.steps else []
    return {
        "data": data,
        "layout": layout(
            x=IMAGES,
            y="spread of each scale",
            height=280,
            margin={"l": 56, "r": 12, "t": 34, "b": 44},
            uirevision=run.id,
            yaxis={"rangemode": "tozero"},
        ),
        "words": f"{len(scales)} scales, spread from {min(last):.3g} to {max(last):.3g}."
        if len(last)
        else "No generation yet.",
    }


def mean_figure(run: Run) -> Figure:
    """Heat map of the mean vector: a row for each scale in order of depth, a column a kept generation."""
    scales = _scales_of(run)
    steps = kept(run.steps, COLUMNS)
    low, high = SCALE_RANGE
    names = [label for _, label, _ in scales]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [s.images for s in steps],
                "y": names,
                "z": [[round(s.mean[place], 3) for s in steps] for place, _, _ in scales],
                "zmin": low,
                "zmax": high,
                "zmid": 1.0,
                "colorscale": DIVERGING,
                "colorbar": {"title": {"text": "scale"}, "thickness": 12, "tickformat": ".2f"},
                "hovertemplate": "%{y}<br>after %{x} images: <b>%{z:.2f}</b><extra></extra>",
            }
        ],
        "layout": layout(
            x=IMAGES,
            y="scale, first block on top",
            height=max(280, min(640, 90 + 14 * len(names))),
            uirevision=run.id,
            yaxis={
                "title": {"text": "scale, first block on top", "standoff": 12},
                "autorange": "reversed",
                "type": "category",
            },
        ),
        "words": f"The mean of {len(names)} scales over {len(run.steps)} generations."
        if steps
        else "No generation yet.",
    }
