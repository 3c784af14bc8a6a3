"""Results of studies → Plotly figures as plain dictionaries. Pure, in the language of studio.ui.charts."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from calibri.preference import NoData, PairTable, Rate, RaterReport
from studio.studies.results.analysis import Analysis
from studio.ui.charts import Figure, layout
from studio.ui.theme import ARM_COLOURS, BASE, CALIBRATED

SYMBOLS = {"base": "square", "calibrated": "circle", "ensemble": "diamond"}
EVEN = {
    "type": "line",
    "yref": "paper",
    "y0": 0,
    "y1": 1,
    "x0": 50,
    "x1": 50,
    "line": {"color": BASE, "dash": "dot"},
}


def forest(analysis: Analysis, question: str, *, met_only: bool = False) -> Figure:
    """Win rates with their intervals, one row a pair of arms, and one a category below it. In percent.
    `met_only`: leave out arms that have not met.
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
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [100 * rate.value],
                "y": [names[i]],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (rate.high - rate.value)],
                    "arrayminus": [100 * (rate.value - rate.low)],
                    "thickness": 2.5 if whole else 1.5,
                    "width": 6,
                },
                "marker": {
                    "symbol": SYMBOLS.get(kind, "circle") + ("" if whole else "-open"),
                    "size": 12 if whole else 9,
                    "color": ARM_COLOURS.get(kind, CALIBRATED),
                },
                "hovertext": [
                    f"{rate}, {rate.verdict}<br>{rate.n} votes; {round(100 * rate.level)} %, {rate.method}"
                ],
                "hoverinfo": "text",
                "showlegend": False,
            }
        )
    words = "; ".join(f"{t.arm} over {t.other}: {t.headline}" for t in analysis.tables.get(question, ()))
    return {
        "data": data,
        "layout": layout(
            x="win rate, % (ties half)",
            y="",
            height=max(140, 90 + sum(18 + 15 * (1 + name.count("<br>")) for name, *_ in rows)),
            xaxis={"range": [0, 100], "showgrid": True},
            yaxis={
                "type": "category",
                "categoryorder": "array",
                "categoryarray": names[::-1],
                "title": {"text": ""},
            },
            shapes=[EVEN],
        ),
        "words": f"Win rates. {words or 'No data.'}",
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
    """How often the arm of a row is preferred to that of a column. Cells without votes say so; None where all
    are.
    """
    labels = [arm.label for arm in analysis.arms]
    found: dict[tuple[str, str], PairTable] = {}
    for table in analysis.tables.get(question, ()):
        found[table.arm, table.other] = table
    z: list[list[float | None]] = []
    text: list[list[str]] = []
    hover: list[list[str]] = []
    for row in labels:
        line: list[tuple[float | None, str, str]] = []
        for column in labels:
            mine, theirs = found.get((row, column)), found.get((column, row))
            rate = mine.headline if mine else theirs.headline if theirs else None
            if row == column or rate is None:
                line.append((None, "", ""))
            elif isinstance(rate, NoData):
                line.append((None, "no data", rate.reason))
            else:
                value = 100 * (rate.value if mine else 1 - rate.value)
                low, high = (rate.low, rate.high) if mine else (1 - rate.high, 1 - rate.low)
                interval = f"[{100 * low:.1f}, {100 * high:.1f}], n = {rate.n}"
                words = f"{_safe(row)} over {_safe(column)}: {value:.1f} % {interval}"
                line.append((value, f"{value:.0f} %", words))
        z.append([v for v, _, _ in line])
        text.append([t for _, t, _ in line])
        hover.append([h for _, _, h in line])
    if not any(value is not None for row_of in z for value in row_of):
        return None
    names = [_lines(label) for label in labels]
    blank = [  # a heatmap writes nothing on cells without a value
        {"x": names[j], "y": names[i], "text": word, "showarrow": False, "font": {"color": BASE}}
        for i, row_of in enumerate(z)
        for j, (value, word) in enumerate(zip(row_of, text[i]))
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
        + "; ".join(h for row in hover for h in row if h),
    }


def strengths(analysis: Analysis, question: str) -> Figure | None:
    """Bradley–Terry strengths with intervals; None for two arms or without votes."""
    fit = analysis.strengths.get(question)
    if fit is None or isinstance(fit, NoData):
        return None
    data = []
    for strength in fit.arms:
        kind = analysis.kind_of(strength.arm)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [strength.value],
                "y": [_lines(strength.arm)],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [strength.high - strength.value],
                    "arrayminus": [strength.value - strength.low],
                    "thickness": 2.5,
                    "width": 6,
                },
                "marker": {
                    "size": 12,
                    "color": ARM_COLOURS.get(kind, CALIBRATED),
                    "symbol": SYMBOLS.get(kind, "circle"),
                },
                "hovertext": [
                    f"{_safe(strength.arm)}: {strength.value:+.2f} "
                    f"[{strength.low:+.2f}, {strength.high:+.2f}]<br>{fit.votes} votes; {fit.method}"
                ],
                "hoverinfo": "text",
                "showlegend": False,
            }
        )
    return {
        "data": data,
        "layout": layout(
            x="strength, log odds (mean of arms is 0)",
            y="",
            height=100 + 50 * len(fit.arms),
            yaxis={"type": "category", "autorange": "reversed", "title": {"text": ""}},
            xaxis={"zeroline": True, "showgrid": True},
        ),
        "words": "Strengths: " + ", ".join(f"{s.arm} {s.value:+.2f}" for s in fit.arms),
    }


def over_time(rows: Sequence[dict[str, Any]]) -> Figure:
    """Votes so far against time (UTC)."""
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
        "words": f"{len(times)} votes"
        + (f", from {times[0]:%d %b %H:%M} to {times[-1]:%d %b %H:%M} UTC" if times else ""),
    }


def raters(reports: Sequence[RaterReport]) -> Figure:
    """Each rater's median time and share of left choices; flagged ones are hollow diamonds."""
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
            shapes=[
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "y0": 50,
                    "y1": 50,
                    "line": {"color": BASE, "dash": "dot"},
                }
            ],
        ),
        "words": f"{len(reports)} raters, {sum(bool(r.flags) for r in reports)} flagged.",
    }


def answers(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """How often each answer was given on real pairs."""
    return Counter(row["winner"] for row in rows if row["kind"] == "real")


def _safe(text: str) -> str:
    """Plotly reads a few tags in its texts: an arm's label is never one."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _lines(label: str, width: int = 18) -> str:
    """A label on as many lines as it needs: long ones would leave no room for the chart."""
    return "<br>".join(_safe(line) for line in textwrap.wrap(label, width) or [label])


def _unique(name: str, place: int) -> str:
    return name + "\u200b" * place  # zero-width: categories of two pairs of arms may have one name
