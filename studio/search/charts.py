"""Runs → Plotly figures as plain dictionaries. Pure: no Gradio, no files, no state.

x is images used, so that searches compare; generations are in the hover text. A curve has at most MOST
points. Drawn are generations 0, s, 2s, … with s a power of two: when more arrive, the points that are drawn
stay where they are, and when s doubles every second one goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from calibri.calibration.scale_names import layer_of, words_for
from calibri.search.guard import judge_spreads
from studio.ui.charts import DIVERGING, Figure, layout
from studio.ui.theme import ATTENTION, BASE, CALIBRATED, ENSEMBLE, FUSED, LAYER_COLOURS, MLP

if TYPE_CHECKING:
    from calibri.interval import Interval
    from studio.search.runs import Run

G = TypeVar("G")

MOST = 2000  # points of one curve
ALL = 20_000  # points of one figure with a curve for each scale
COLUMNS = 256  # of a heat map
RUN_COLOURS = (CALIBRATED, MLP, ENSEMBLE, ATTENTION, FUSED, "#CC79A7")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
IMAGES = "images used"
EMPTY = "No generation yet."


def stride(count: int, most: int = MOST) -> int:
    """The smallest power of two s for which 0, s, 2s, … below `count` are at most `most` numbers."""
    step = 1
    while (count + step - 1) // step > most:
        step *= 2
    return step


def thin_out(generations: Sequence[G], most: int = MOST) -> list[G]:
    """The generations that are drawn."""
    return list(generations[:: stride(len(generations), most)])


def drawn_key(runs: Sequence[Run]) -> str:
    """Changes whenever a figure of these runs would. Charts are sent again only then."""
    counts = [(run.id, len(run.generations), len(run.validations)) for run in runs]
    return "|".join(f"{name}:{(count - 1) // stride(count)}:{checks}" for name, count, checks in counts)


def round_short(value: float) -> float:
    """Four significant digits: what a screen can show, in a third of the bytes."""
    return float(f"{value:.4g}")


def _colour(index: int) -> str:
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def _fade(colour: str, opacity: float) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r}, {g}, {b}, {opacity:g})"


def _curve(x: list[int], y: Sequence[float], name: str, **more: Any) -> dict[str, Any]:
    mode = "lines" if len(x) > 1 else "lines+markers"  # no line runs through one point
    trace = {"type": "scatter", "mode": mode, "x": x, "y": [round_short(value) for value in y]}
    return {**trace, "name": name, **more}


def reward_figure(runs: Sequence[Run]) -> Figure:
    """Best candidate, mean over candidates with its interval, the base, and validation with its interval."""
    single = len(runs) == 1
    win = bool(runs) and all(run.config.objective == "win-rate" for run in runs)
    base = 0.5 if win else 0.0
    return {
        "data": [trace for i, run in enumerate(runs) for trace in _gain_traces(run, i, single)],
        "layout": layout(
            x=IMAGES,
            y="win rate against the base" if win else "gain over the base, in its spreads",
            height=340 if single else 380,
            margin={"l": 56, "r": 12, "t": 34 if single else 84, "b": 44},
            uirevision="|".join(run.id for run in runs),
            shapes=[
                {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": base, "y1": base}
                | {"line": {"color": BASE, "width": 2}}
            ],
            annotations=[
                {"text": "base", "xref": "paper", "x": 1, "y": base, "xanchor": "right", "yanchor": "top"}
                | {"showarrow": False, "font": {"size": 11}}
            ],
        ),
        "words": _gain_words(runs),
    }


def _gain_traces(run: Run, index: int, single: bool) -> list[dict[str, Any]]:
    """Of one run: the band, the best candidate, the mean, the validations."""
    colour, steps = _colour(index), thin_out(run.generations)
    x = [s.images for s in steps]
    gains = [s.bucket_mean for s in steps]
    group = {} if single else {"legendgroup": run.id}  # each group of a legend has a line of its own
    first = "" if single else f"{run.title}: "
    traces = []
    if single:
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        traces = [
            _curve(x, [g.low for g in gains], "low", **edge),
            _curve(x, [g.high for g in gains], "high", fill="tonexty", fillcolor=_fade(colour, 0.16), **edge),
        ]
    traces += [
        _curve(
            x,
            [s.best for s in steps],
            f"{first}best candidate",
            line={"color": _fade(colour, 0.55), "width": 1, "dash": "dot"},
            customdata=[s.generation + 1 for s in steps],
            hovertemplate="best candidate of generation %{customdata}<br><b>%{y}</b><extra></extra>",
            visible=True if single else "legendonly",
            **group,
        ),
        _curve(
            x,
            [g.mean for g in gains],
            f"{first}mean of candidates",
            line={"color": colour, "width": 1.5 if single else 2, "dash": DASHES[index % len(DASHES)]},
            customdata=[[s.generation + 1, *_interval(s.bucket_mean)] for s in steps],
            hovertemplate="mean of generation %{customdata[0]}<br><b>%{y}</b> "
            "[%{customdata[1]}, %{customdata[2]}], 95 % over its pairs<extra></extra>",
            **group,
        ),
    ]
    if run.validations:
        traces += [_validations(run, colour, first, group), *_judges(run, index, first, single)]
    return traces


def _interval(gain: Interval) -> list[float]:
    return [round_short(gain.low), round_short(gain.high)]


def _validations(run: Run, colour: str, first: str, group: dict[str, str]) -> dict[str, Any]:
    marks = run.validations[:: stride(len(run.validations))]
    gains = [v.objective for v in marks]
    return _curve(
        [v.images for v in marks],
        [g.mean for g in gains],
        f"{first}validation",
        mode="lines+markers",
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [round_short(g.high - g.mean) for g in gains],
            "arrayminus": [round_short(g.mean - g.low) for g in gains],
            "thickness": 1.5,
            "width": 3,
        },
        customdata=[[v.generation, *_interval(v.objective), v.objective.n] for v in marks],
        hovertemplate="validation after generation %{customdata[0]}<br><b>%{y}</b> "
        "[%{customdata[1]}, %{customdata[2]}], 95 %, paired, on %{customdata[3]} pairs<extra></extra>",
        marker={"symbol": "diamond", "size": 8, "color": colour},
        line={"color": colour, "width": 1},
        **group,
    )


def _judges(run: Run, index: int, first: str, single: bool) -> list[dict[str, Any]]:
    """A line for each judge: what it says of the point reached, in spreads of the base as the reward is."""
    marks = run.validations[:: stride(len(run.validations))]
    traces = []
    for place, (name, spread) in enumerate(judge_spreads(run.validations).items()):
        told = [v for v in marks if name in v.judged]
        gains = [v.rewards[name] for v in told]
        traces.append(
            _curve(
                [v.images for v in told],
                [gain.mean / spread for gain in gains],
                f"{first}{name} (judge)",
                mode="lines+markers",
                marker={"symbol": "x-thin-open", "size": 7, "color": _colour(index + 1 + place)},
                line={"color": _colour(index + 1 + place), "width": 1.5, "dash": "longdash"},
                customdata=[[v.generation, gain.text()] for v, gain in zip(told, gains, strict=True)],
                hovertemplate=f"{name}, a judge, after generation %{{customdata[0]}}<br><b>%{{y}}</b> "
                "spreads of the base<br>%{customdata[1]} in its own units, 95 %<extra></extra>",
                visible=True if single else "legendonly",
                **({} if single else {"legendgroup": run.id}),
            )
        )
    return traces


def _gain_words(runs: Sequence[Run]) -> str:
    sentences = []
    for run in runs:
        if (last := run.last) is None:
            continue
        words = f"{run.title}: {len(run.generations)} generations, {last.images} images, "
        words += f"mean of the last one {last.bucket_mean.mean:+.2f}"
        if run.validations:
            words += f", last validation {run.validations[-1].objective.text(2)}"
            words += "".join(f", {fall.name} falls" for fall in run.falls)
        sentences.append(words + ".")
    return " ".join(sentences) or EMPTY


def step_figure(runs: Sequence[Run]) -> Figure:
    """Sigma (left) and axis ratio of the distribution (right)."""
    data: list[dict[str, Any]] = []
    for i, run in enumerate(runs):
        steps = thin_out(run.generations)
        x, numbers = [s.images for s in steps], [s.generation + 1 for s in steps]
        group = {"legendgroup": run.id} if len(runs) > 1 else {}
        first = f"{run.title}: " if len(runs) > 1 else ""
        for name, values, look in (
            ("sigma", [s.sigma for s in steps], {"line": {"color": _colour(i), "width": 2}}),
            (
                "axis ratio",
                [s.axis_ratio for s in steps],
                {"line": {"color": _colour(i), "width": 1.5, "dash": "dot"}, "yaxis": "y2"},
            ),
        ):
            hover = f"{name} after generation %{{customdata}}<br><b>%{{y}}</b><extra></extra>"
            data.append(
                _curve(x, values, first + name, customdata=numbers, hovertemplate=hover, **look, **group)
            )
    last = runs[0].last if runs else None
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
        "words": f"Sigma {last.sigma:.3g}, axis ratio {last.axis_ratio:.3g}." if last else EMPTY,
    }


def _scales_of(run: Run) -> list[tuple[int, str, str]]:
    """(place in the vector, label, layer) of every scale; output weights are left out."""
    labels = run.sessions[0].labels if run.sessions else []
    named = [(place, label, label.partition(": ")[2] or label) for place, label in enumerate(labels)]
    return [(place, label, layer_of(name)) for place, label, name in named if name != "weight"]


def _hover_name(label: str) -> str:
    member, _, name = label.rpartition(": ")
    return f"member {member}, {words_for(name)}" if member else words_for(name)


LAYERS = {"attn": "attention", "attn2": "attention", "mlp": "MLP", "fused": "fused", "block": "whole block"}


def spread_figure(run: Run) -> Figure:
    """The standard deviation of each scale, coloured by its layer."""
    scales = _scales_of(run)
    steps = thin_out(run.generations, min(MOST, max(64, ALL // max(1, len(scales)))))
    x, numbers = [s.images for s in steps], [s.generation + 1 for s in steps]
    data, named = [], set()
    for place, label, layer in scales:
        words = LAYERS.get(layer, layer)
        data.append(
            _curve(
                x,
                [s.spread[place] for s in steps],
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
    last = run.last
    words = (
        f"{len(scales)} scales, spread from {min(last.spread):.3g} to {max(last.spread):.3g}." if last else ""
    )
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
        "words": words or EMPTY,
    }


def mean_figure(run: Run) -> Figure:
    """Heat map of the mean vector: a row for each scale in order of depth, a column for each generation that
    is drawn."""
    scales = _scales_of(run)
    steps = thin_out(run.generations, COLUMNS)
    reach = max(abs(bound - 1) for bound in run.config.bounds)
    low, high = 1 - reach, 1 + reach  # as wide on both sides: white is 1
    heat = {
        "type": "heatmap",
        "x": [s.images for s in steps],
        "y": [label for _, label, _ in scales],
        "z": [[round(s.mean[place], 3) for s in steps] for place, _, _ in scales],
        "zmin": low,
        "zmax": high,
        "zmid": 1.0,
        "colorscale": DIVERGING,
        "colorbar": {"title": {"text": "scale"}, "thickness": 12, "tickformat": ".2f"},
        "hovertemplate": "%{y}<br>after %{x} images: <b>%{z:.2f}</b><extra></extra>",
    }
    words = "scale, first block on top"
    return {
        "data": [heat],
        "layout": layout(
            x=IMAGES,
            y=words,
            height=max(280, min(640, 90 + 14 * len(scales))),
            uirevision=run.id,
            yaxis={"title": {"text": words, "standoff": 12}, "autorange": "reversed", "type": "category"},
        ),
        "words": f"The mean of {len(scales)} scales over {len(run.generations)} generations."
        if steps
        else EMPTY,
    }
