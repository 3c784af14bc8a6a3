"""Sweeps → Plotly figures and words as plain values. Pure, in the language of studio.ui.charts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from calibri.analysis.diagnose import Cell
from calibri.calibration.scale_names import group_of, words_for
from calibri.interval import Interval
from calibri.words import signed
from studio.ui.charts import DIVERGING, Figure, layout
from studio.ui.theme import BASE

OBJECTIVE = "objective"  # the choice that means: all rewards together
FAINT = 0.1  # the map's ends where nothing differs by more, so that noise does not shout
MARK = "#1c1c1c"  # on every colour of the map, in both themes


def short(name: str) -> str:
    """A reward's name without its world's."""
    return name.removeprefix("tabletop-")


def row_of(value: float) -> str:
    """A value as the axis writes it."""
    return "0.00 (bypass)" if value == 0 else f"{value:.2f}"


def of(cell: Cell, reward: str) -> Interval:
    """The difference of a cell in one reward, or in all together."""
    return cell.objective if reward == OBJECTIVE else cell.rewards[reward]


def unit(reward: str) -> str:
    return "in spreads of the base" if reward == OBJECTIVE else f"in units of {short(reward)}"


def told(interval: Interval) -> str:
    """`+0.42 [+0.30, +0.54], better than the base`."""
    verdict = "not told apart from the base"
    if interval.verdict != "not told apart":
        verdict = f"{interval.verdict} than the base"
    ends = f"[{signed(interval.low)}, {signed(interval.high)}]"
    return f"{signed(interval.mean)} {ends}, {verdict}"


def tall(rows: int) -> int:
    """Pixels of a heat map with so many values."""
    return max(290, 110 + 30 * rows)


def reach(sizes: Sequence[float]) -> float:
    """Where the map ends: at the largest difference, unless a few would make all others grey."""
    if not sizes:
        return FAINT
    return max(FAINT, min(max(sizes), 4 * median(sizes)))


def heat_figure(
    cells: Sequence[Cell], names: Sequence[str], values: Sequence[float], reward: str = OBJECTIVE
) -> Figure:
    """Difference from the base: depth to the right, the value of the one scale upwards. A hollow circle
    marks a cell whose interval holds 0. Places that are not measured stay empty.
    """
    found = {(cell.name, cell.value): cell for cell in cells}
    z: list[list[float | None]] = []
    hover: list[list[str]] = []
    data: list[list[list[object]]] = []
    marks: list[tuple[str, float]] = []
    for value in values:
        z.append([])
        hover.append([])
        data.append([[name, value] for name in names])
        for name in names:
            head = f"{words_for(name)}<br>scale {row_of(value)}"
            cell = found.get((name, value))
            if cell is None:
                z[-1].append(None)
                hover[-1].append(f"{head}<br>not measured yet")
                continue
            interval = of(cell, reward)
            z[-1].append(interval.mean)
            text = f"{head}<br><b>{told(interval)}</b>"
            hover[-1].append(f"{text}<br>{unit(reward)}; 95 %, paired, n = {interval.n} pictures")
            if interval.verdict == "not told apart":
                marks.append((name, value))
    far = reach([abs(v) for row in z for v in row if v is not None])
    cut = any(abs(v) > far for row in z for v in row if v is not None)
    firsts = [i for i, n in enumerate(names) if i == 0 or group_of(n) != group_of(names[i - 1])]
    rows = [row_of(value) for value in values]
    heat = {
        "type": "heatmap",
        "x": list(names),
        "y": rows,
        "z": z,
        "zmin": -far,
        "zmax": far,
        "colorscale": DIVERGING,
        "xgap": 2,
        "ygap": 2,
        "hovertext": hover,
        "hoverinfo": "text",
        "customdata": data,
        "colorbar": {
            "title": {
                "text": f"minus base,<br>{unit(reward)}" + ("<br>(ends: or more)" if cut else ""),
                "side": "top",
                "font": {"size": 11},
            },
            "thickness": 12,
            "tickformat": "+.2f",
        },
    }
    circles = {
        "type": "scatter",
        "mode": "markers",
        "x": [name for name, _ in marks],
        "y": [row_of(value) for _, value in marks],
        "marker": {"symbol": "circle-open", "size": 9, "color": MARK, "line": {"width": 1.5}},
        "customdata": [[name, value] for name, value in marks],
        "hovertext": [hover[list(values).index(v)][list(names).index(n)] for n, v in marks],
        "hoverinfo": "text",
        "showlegend": False,
    }
    key = {  # the legend lies on the page, whose colour the theme decides
        **circles,
        "name": "not told apart from the base",
        "x": [None],
        "y": [None],
        "marker": {**circles["marker"], "color": BASE},
        "customdata": [],
        "hovertext": [],
        "showlegend": True,
    }
    return {
        "data": [heat, circles, key],
        "layout": layout(
            x="depth, from the first block to the last",
            y="value of this one scale",
            height=tall(len(values)),
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
        ),
        "words": _words(cells, len(names) * len(values), reward),
    }


def _words(cells: Sequence[Cell], total: int, reward: str) -> str:
    if not cells:
        return "No cell is measured yet."
    verdicts = [of(cell, reward).verdict for cell in cells]
    best = max(cells, key=lambda cell: of(cell, reward).mean)
    return (
        f"{len(cells)} of {total} cells measured: {verdicts.count('better')} better than the base, "
        f"{verdicts.count('worse')} worse, {verdicts.count('not told apart')} not told apart. "
        f"The best is {best.name} × {best.value:.2f} with {signed(of(best, reward).mean)}."
    )


def key_of(name: str, value: float) -> str:
    """A cell as a choice of a list."""
    return f"{name}|{value}"


def cells_by_gain(cells: Sequence[Cell], reward: str = OBJECTIVE) -> list[tuple[str, str]]:
    """(words, key) of all cells, the best first."""
    ordered = sorted(cells, key=lambda cell: -of(cell, reward).mean)
    return [(f"{c.name} × {c.value:.2f}: {told(of(c, reward))}", key_of(c.name, c.value)) for c in ordered]


def cell_words(cell: Cell) -> str:
    """What a cell does to each reward, as sentences of plain text."""
    parts = [f"{words_for(cell.name)} at {row_of(cell.value)}: {told(cell.objective)}, {unit(OBJECTIVE)}"]
    parts += [f"{short(name)} {told(interval)}" for name, interval in cell.rewards.items()]
    return ". ".join(parts) + f". 95 %, paired, n = {cell.objective.n}."
