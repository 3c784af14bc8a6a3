"""Results of studies → Plotly figures as plain dictionaries. Pure, in the language of studio.ui.charts."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from calibri.preference import NoData, Rate, RaterReport
from calibri.words import count
from studio.studies.results.analysis import Analysis
from studio.ui.charts import Figure, layout
from studio.ui.theme import ARM_COLOURS, BASE, CALIBRATED

SYMBOLS = {"base": "square", "calibrated": "circle", "ensemble": "diamond"}
DOTTED = {"type": "line", "line": {"color": BASE, "dash": "dot"}}
EVEN = {**DOTTED, "yref": "paper", "y0": 0, "y1": 1, "x0": 50, "x1": 50}
ROWS = {"type": "category", "title": {"text": ""}}


def forest(analysis: Analysis, question: str, *, met_only: bool = False) -> Figure:
    """Win rates in percent with their intervals: one row a pair of arms, and one a category below it.

    `met_only`: leave out pairs of arms without votes.
    """
    rows: list[tuple[str, Rate | NoData, str, bool]] = []
    for table in analysis.tables.get(question, ()):
        if met_only and not table.tally.total:
            continue
        kind = analysis.kind_of(table.arm)
        name = f"<b>{_lines(table.arm, 44)}</b><br>over {_lines(table.other, 44)}"
        rows.append((name, table.headline, kind, True))
        rows += [(f"  {_safe(name)}", rate, kind, False) for name, rate, _ in table.categories]
    names = [_unique(name, i) for i, (name, *_) in enumerate(rows)]
    data = []
    for i, (_, rate, kind, whole) in enumerate(rows):
        if isinstance(rate, NoData):
            data.append(_word(names[i], "no data", rate.reason))
            continue
        words = f"{rate}, {rate.verdict}<br>{rate.n} votes; {round(100 * rate.level)} %, {rate.method}"
        value, low, high = (100 * share for share in (rate.value, rate.low, rate.high))
        data.append(_whisker(names[i], value, low, high, kind, words, whole=whole))
    told = "; ".join(f"{t.arm} over {t.other}: {t.headline}" for t in analysis.tables.get(question, ()))
    return {
        "data": data,
        "layout": layout(
            x="win rate, % (ties half)",
            y="",
            height=max(140, 90 + sum(18 + 15 * (1 + name.count("<br>")) for name, *_ in rows)),
            xaxis={"range": [0, 100], "showgrid": True},
            yaxis={**ROWS, "categoryorder": "array", "categoryarray": names[::-1]},
            shapes=[EVEN],
        ),
        "words": f"Win rates. {told or 'No data.'}",
    }


def _whisker(
    row: str, value: float, low: float, high: float, kind: str, words: str, *, whole: bool = True
) -> dict[str, Any]:
    """One mark with its interval. `whole`: filled, else hollow and thinner."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [value],
        "y": [row],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value],
            "arrayminus": [value - low],
            "thickness": 2.5 if whole else 1.5,
            "width": 6,
        },
        "marker": {
            "symbol": SYMBOLS.get(kind, "circle") + ("" if whole else "-open"),
            "size": 12 if whole else 9,
            "color": ARM_COLOURS.get(kind, CALIBRATED),
        },
        "hovertext": [words],
        "hoverinfo": "text",
        "showlegend": False,
    }


def _word(row: str, word: str, reason: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "text",
        "x": [50],
        "y": [row],
        "text": [word],
        "textfont": {"color": BASE},
        "hovertext": [reason],
        "hoverinfo": "text",
        "showlegend": False,
    }


def matrix(analysis: Analysis, question: str) -> Figure | None:
    """How often the arm of a row is preferred to that of a column; None where no pair of arms has votes."""
    labels = [arm.label for arm in analysis.arms]
    rates = {(t.arm, t.other): t.headline for t in analysis.tables.get(question, ())}
    cells = [[_cell(rates, row, column) for column in labels] for row in labels]
    z, text, hover = ([[cell[part] for cell in line] for line in cells] for part in range(3))
    if not any(value is not None for line in z for value in line):
        return None
    names = [_lines(label) for label in labels]
    blank = [  # a heatmap writes nothing on cells without a value
        {"x": names[j], "y": names[i], "text": word, "showarrow": False, "font": {"color": BASE}}
        for i, line in enumerate(cells)
        for j, (value, word, _) in enumerate(line)
        if value is None and word
    ]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": names,
                "y": names,
                "z": z,
                "text": text,
                "texttemplate": "%{text}",
                "hovertext": hover,
                "hoverinfo": "text",
                "zmin": 0,
                "zmid": 50,
                "zmax": 100,
                "colorscale": [[0, "#c98b00"], [0.5, "#e6e6e6"], [1, "#0072B2"]],
                "colorbar": {"title": {"text": "%"}, "thickness": 10},
                "xgap": 2,
                "ygap": 2,
            }
        ],
        "layout": layout(
            x="against",
            y="preferred arm",
            height=170 + 50 * len(labels),
            xaxis={"type": "category", "side": "top", "tickangle": 0},
            yaxis={"type": "category", "autorange": "reversed"},
            margin={"t": 60},
            annotations=blank,
        ),
        "words": "How often each arm is preferred to each other. "
        + "; ".join(words for line in cells for *_, words in line if words),
    }


def _cell(
    rates: Mapping[tuple[str, str], Rate | NoData], row: str, column: str
) -> tuple[float | None, str, str]:
    """(percent, text, hover words) of one cell of the matrix."""
    mine, rate = rates.get((row, column)), rates.get((row, column), rates.get((column, row)))
    if row == column or rate is None:
        return None, "", ""
    if isinstance(rate, NoData):
        return None, "no data", rate.reason
    value, low, high = (100 * share for share in (rate.value, rate.low, rate.high))
    if mine is None:
        value, low, high = 100 - value, 100 - high, 100 - low
    words = f"{_safe(row)} over {_safe(column)}: {value:.1f} % [{low:.1f}, {high:.1f}], n = {rate.n}"
    return value, f"{value:.0f} %", words


def strengths(analysis: Analysis, question: str) -> Figure | None:
    """Bradley–Terry strengths with intervals; None for two arms or without votes."""
    fit = analysis.strengths.get(question)
    if fit is None or isinstance(fit, NoData):
        return None
    data = []
    for s in fit.arms:
        interval = f"{s.value:+.2f} [{s.low:+.2f}, {s.high:+.2f}]"
        words = f"{_safe(s.arm)}: {interval}<br>{fit.votes} votes; {fit.method}"
        data.append(_whisker(_lines(s.arm), s.value, s.low, s.high, analysis.kind_of(s.arm), words))
    return {
        "data": data,
        "layout": layout(
            x="strength, log odds (mean of arms is 0)",
            y="",
            height=100 + 50 * len(fit.arms),
            yaxis={**ROWS, "autorange": "reversed"},
            xaxis={"zeroline": True, "showgrid": True},
        ),
        "words": "Strengths: " + ", ".join(f"{s.arm} {s.value:+.2f}" for s in fit.arms),
    }


def over_time(rows: Sequence[dict[str, Any]]) -> Figure:
    """Number of votes against time (UTC)."""
    times = sorted(row["time"] for row in rows)
    step = max(1, math.ceil(len(times) / 500))  # enough points for any screen
    kept = [i for i in range(len(times)) if i % step == 0 or i == len(times) - 1]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "line": {"shape": "hv", "color": CALIBRATED},
                "x": [times[i].isoformat(timespec="seconds") for i in kept],
                "y": [i + 1 for i in kept],
                "name": "votes",
                "showlegend": False,
            }
        ],
        "layout": layout(
            x="time, UTC", y="votes", height=220, xaxis={"type": "date"}, yaxis={"rangemode": "tozero"}
        ),
        "words": count(len(times), "vote")
        + (f", from {times[0]:%d %b %H:%M} to {times[-1]:%d %b %H:%M} UTC" if times else ""),
    }


def raters(reports: Sequence[RaterReport]) -> Figure:
    """Each rater's median time and share of left choices; flagged raters are hollow diamonds."""
    data = []
    for flagged, name, symbol, colour in (
        (False, "no flag", "circle", CALIBRATED),
        (True, "flagged", "diamond-open", "#C8553D"),
    ):
        mine = [
            (r, r.left)
            for r in reports
            if bool(r.flags) == flagged and r.median_ms is not None and isinstance(r.left, Rate)
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [r.median_ms / 1000 for r, _ in mine if r.median_ms is not None],
                "y": [100 * left.value for _, left in mine],
                "marker": {
                    "symbol": symbol,
                    "size": [6 + 2 * math.sqrt(r.votes) for r, _ in mine],
                    "color": colour,
                },
                "hovertext": [
                    f"rater {r.rater[:6]}: {r.votes} votes, left {left}"
                    + "".join(f"<br>{flag}" for flag in r.flags)
                    for r, left in mine
                ],
                "hoverinfo": "text",
            }
        )
    return {
        "data": data,
        "layout": layout(
            x="median time of an answer, s",
            y="left chosen, %",
            height=280,
            yaxis={"range": [-3, 103], "showgrid": True},
            xaxis={"rangemode": "tozero"},
            shapes=[{**DOTTED, "xref": "paper", "x0": 0, "x1": 1, "y0": 50, "y1": 50}],
        ),
        "words": f"{count(len(reports), 'rater')}, {sum(bool(r.flags) for r in reports)} flagged.",
    }


def _safe(text: str) -> str:
    """Plotly reads a few tags in its texts, so labels are escaped."""
    return html.escape(text, quote=False)


def _lines(label: str, width: int = 18) -> str:
    """A label on as many lines as it needs: long ones would leave no room for the chart."""
    return "<br>".join(_safe(line) for line in textwrap.wrap(label, width) or [label])


def _unique(name: str, place: int) -> str:
    return name + "\u200b" * place  # zero-width: categories of two pairs of arms may have one name
