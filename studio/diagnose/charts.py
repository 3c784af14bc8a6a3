"""Sweeps → Plotly figures and words as plain values. Pure, in the language of studio.ui.charts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from calibri.analysis.diagnose import Cell
from calibri.calibration.scale_names import group_of, words_for
from calibri.interval import Interval
from calibri.words import signed
from studio.ui.charts import DIVERGING, Figure, layout
from studio.ui.theme import BASE

OBJECTIVE = "objective"  # the choice that means: all rewards together
FAINT = 0.1  # the map's ends where nothing differs by more, so that noise does not look like an effect
MARK = "#1c1c1c"  # on every colour of the map, in both themes
UNSURE: Final = "not told apart"


def shorten(name: str) -> str:
    """A reward's name without its world's."""
    return name.removeprefix("tabletop-")


def write_value(value: float) -> str:
    """A value as the axis shows it."""
    return "0.00 (bypass)" if value == 0 else f"{value:.2f}"


def make_key(name: str, value: float) -> str:
    """A cell as a choice of a list."""
    return f"{name}|{value}"


def pick(cell: Cell, reward: str) -> Interval:
    """The difference of a cell in one reward, or in all together."""
    return cell.objective if reward == OBJECTIVE else cell.rewards[reward]


def write_unit(reward: str) -> str:
    return "in spreads of the base" if reward == OBJECTIVE else f"in units of {shorten(reward)}"


def describe_interval(interval: Interval) -> str:
    """`+0.42 [+0.30, +0.54], better than the base`."""
    apart = "from" if interval.verdict == UNSURE else "than"
    ends = f"[{signed(interval.low)}, {signed(interval.high)}]"
    return f"{signed(interval.mean)} {ends}, {interval.verdict} {apart} the base"


def measure_height(rows: int) -> int:
    """Pixels of a heat map with so many values."""
    return max(290, 110 + 30 * rows)


def find_end(sizes: Sequence[float]) -> float:
    """Where the map ends: at the largest difference, unless a few would make all others grey."""
    return max(FAINT, min(max(sizes), 4 * median(sizes))) if sizes else FAINT


def heat_figure(
    cells: Sequence[Cell], names: Sequence[str], values: Sequence[float], reward: str = OBJECTIVE
) -> Figure:
    """Difference from the base: depth to the right, the value of the one scale upwards. A hollow circle
    marks a cell whose interval holds 0. Places that are not measured stay empty.
    """
    found = {(cell.name, cell.value): pick(cell, reward) for cell in cells}
    hover = [[_hover(name, value, found.get((name, value)), reward) for name in names] for value in values]
    means = [[found[n, v].mean if (n, v) in found else None for n in names] for v in values]
    rows = [write_value(value) for value in values]
    marks = [
        (row, column)
        for row, value in enumerate(values)
        for column, name in enumerate(names)
        if (name, value) in found and found[name, value].verdict == UNSURE
    ]
    circles: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [names[column] for _, column in marks],
        "y": [rows[row] for row, _ in marks],
        "marker": {"symbol": "circle-open", "size": 9, "color": MARK, "line": {"width": 1.5}},
        "customdata": [[names[column], values[row]] for row, column in marks],
        "hovertext": [hover[row][column] for row, column in marks],
        "hoverinfo": "text",
        "showlegend": False,
    }
    key = {  # the legend lies on the page, whose colour the theme decides
        **circles,
        "name": "not told apart from the base",
        "marker": {**circles["marker"], "color": BASE},
        "showlegend": True,
    } | {"x": [None], "y": [None], "customdata": [], "hovertext": []}
    heat = {
        "x": list(names),
        "y": rows,
        "z": means,
        "hovertext": hover,
        "customdata": [[[name, value] for name in names] for value in values],
        **_colours([abs(mean) for row in means for mean in row if mean is not None], reward),
    }
    return {
        "data": [heat, circles, key],
        "layout": _heat_layout(names, rows),
        "words": _sum_up(cells, len(names) * len(values), reward),
    }


def _hover(name: str, value: float, interval: Interval | None, reward: str) -> str:
    head = f"{words_for(name)}<br>scale {write_value(value)}"
    if interval is None:
        return f"{head}<br>not measured yet"
    return (
        f"{head}<br><b>{describe_interval(interval)}</b>"
        f"<br>{write_unit(reward)}; 95 %, paired, n = {interval.n} pictures"
    )


def _colours(sizes: Sequence[float], reward: str) -> dict[str, Any]:
    end = find_end(sizes)
    cut = "<br>(ends: or more)" if any(size > end for size in sizes) else ""
    title = {"text": f"minus base,<br>{write_unit(reward)}{cut}", "side": "top", "font": {"size": 11}}
    return {
        "type": "heatmap",
        "zmin": -end,
        "zmax": end,
        "colorscale": DIVERGING,
        "xgap": 2,
        "ygap": 2,
        "hoverinfo": "text",
        "colorbar": {"title": title, "thickness": 12, "tickformat": "+.2f"},
    }


def _heat_layout(names: Sequence[str], rows: Sequence[str]) -> dict[str, Any]:
    firsts = [i for i, n in enumerate(names) if i == 0 or group_of(n) != group_of(names[i - 1])]
    return layout(
        x="depth, from the first block to the last",
        y="value of this one scale",
        height=measure_height(len(rows)),
        xaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(names),
            "range": [-0.5, len(names) - 0.5],
            "tickvals": [names[i] for i in firsts],
            "ticktext": [group_of(names[i]) for i in firsts],
            "tickangle": -45,
        },
        yaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": rows,
            "range": [-0.5, len(rows) - 0.5],
            "showgrid": False,
        },
        legend={"y": 1.02, "yanchor": "bottom"},
        margin={"t": 44},
    )


def _sum_up(cells: Sequence[Cell], total: int, reward: str) -> str:
    if not cells:
        return "No cell is measured yet."
    verdicts = [pick(cell, reward).verdict for cell in cells]
    best = max(cells, key=lambda cell: pick(cell, reward).mean)
    return (
        f"{len(cells)} of {total} cells measured: {verdicts.count('better')} better than the base, "
        f"{verdicts.count('worse')} worse, {verdicts.count(UNSURE)} not told apart. "
        f"The best is {best.name} × {best.value:.2f} with {signed(pick(best, reward).mean)}."
    )


def rank_cells(cells: Sequence[Cell], reward: str = OBJECTIVE) -> list[tuple[str, str]]:
    """(words, key) of all cells, the best first."""
    ordered = sorted(cells, key=lambda cell: -pick(cell, reward).mean)
    return [
        (f"{c.name} × {c.value:.2f}: {describe_interval(pick(c, reward))}", make_key(c.name, c.value))
        for c in ordered
    ]


def describe_cell(cell: Cell) -> str:
    """What a cell does to each reward, as sentences of plain text."""
    head = f"{words_for(cell.name)} at {write_value(cell.value)}"
    parts = [f"{head}: {describe_interval(cell.objective)}, {write_unit(OBJECTIVE)}"]
    parts += [f"{shorten(name)} {describe_interval(interval)}" for name, interval in cell.rewards.items()]
    return ". ".join(parts) + f". 95 %, paired, n = {cell.objective.n}."
