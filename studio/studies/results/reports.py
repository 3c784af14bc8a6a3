"""A study's report as Markdown and as one HTML file: everything a reader needs to judge and to repeat it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from calibri.preference import NoData, Rate, SignTest, inflation
from studio.studies.results.analysis import Analysis, headline
from studio.studies.storage.snapshots import versions
from studio.studies.storage.study_store import StudyArm
from studio.ui.theme import ARM_COLOURS, BASE

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def _rate(rate: Rate | NoData | None) -> str:
    return "–" if rate is None else str(rate)


def _number(value: float | NoData) -> str:
    return "no data" if isinstance(value, NoData) else f"{value:.3f}"


def _p(test: SignTest | NoData) -> str:
    if isinstance(test, NoData):
        return "no data"
    p = f"{test.p:.3f}" if test.p >= 0.001 else f"{test.p:.1e}"
    return f"{test.for_x} : {test.for_y} ({test.even} even), p = {p}"


def facts(analysis: Analysis) -> Table:
    """What was asked of whom, with what."""
    study = analysis.study
    rows = [
        ["study", f"{study.name} ({study.id})"],
        ["state", study.status],
        ["opened, closed (UTC)", f"{_time(study.opened)}, {_time(study.closed)}"],
        ["protocol", f"{study.protocol.preset}, sha256 {study.protocol.hash}"],
        ["seed", str(study.seed)],
        [
            "votes read",
            f"{analysis.kept} of {analysis.total}"
            + (f" ({analysis.filter.words})" if analysis.filter.words else ""),
        ],
        ["raters", f"{len(analysis.raters)}, {len(analysis.flagged)} flagged"],
        ["taken back, left out", f"{analysis.undone}, {analysis.invalid}"],
        ["versions", ", ".join(f"{k} {v}" for k, v in versions().items())],
    ]
    return ("", ""), rows


def _time(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "–"


def arms_table(analysis: Analysis) -> Table:
    rows = [[a.label, a.kind, a.backbone, _settings(a), a.calibration_hash or "–"] for a in analysis.arms]
    return ("arm", "kind", "backbone", "settings", "calibration, sha256"), rows


def _settings(arm: StudyArm) -> str:
    size = (
        f"{arm.width or 'own'} × {arm.height or 'own'} px"
        if arm.width or arm.height
        else "the backbone's size"
    )
    return f"{arm.steps} steps, guidance {arm.guidance:g}, {size}"


def results_table(analysis: Analysis, question: str) -> Table:
    """The main table: one row a pair of arms."""
    rows = [
        {
            "arm": t.arm,
            "against": t.other,
            "win rate, 95 % interval": _rate(t.headline),
            "plain interval": _rate(t.plain),
            "without ties": _rate(t.strict),
            "wins / ties / losses": f"{t.tally.wins} / {t.tally.ties} / {t.tally.losses}",
            "both bad / skips": f"{t.tally.both_bad} / {t.tally.skips}",
            "raters / prompts": f"{t.tally.raters} / {t.tally.prompts}",
            "majorities of prompts": _p(t.sign),
            "left side": _rate(t.left),
        }
        for t in analysis.tables[question]
    ]
    return list(rows[0]), [list(row.values()) for row in rows]


def consensus_table(analysis: Analysis, question: str) -> Table | None:
    found = [(t, t.consensus) for t in analysis.tables[question] if t.consensus is not None]
    if not found:
        return None
    rows = []
    for t, c in found:
        share = "–" if c.share_kept is None else f"{100 * c.share_kept:.0f} % ({c.kept} of {c.eligible})"
        true = (
            f"{100 * inflation(c.unfiltered.value, c.k)[0]:.1f} %" if isinstance(c.unfiltered, Rate) else "–"
        )
        rows.append([t.arm, t.other, _rate(c.rate), share, _rate(c.unfiltered), true])
    head = (
        "arm",
        "against",
        f"unanimous pairs (k = {found[0][1].k})",
        "pairs kept",
        "all votes",
        "what chance alone would make of it",
    )
    return head, rows


def categories_table(analysis: Analysis, question: str) -> Table | None:
    rows = [
        [t.arm, t.other, name, _rate(rate), str(n)]
        for t in analysis.tables[question]
        for name, rate, n in t.categories
    ]
    return (("arm", "against", "category", "win rate, 95 % interval", "votes"), rows) if rows else None


def strengths_table(analysis: Analysis, question: str) -> Table | None:
    fit = analysis.strengths.get(question)
    if fit is None:
        return None
    if isinstance(fit, NoData):
        return ("arm", "strength"), [["all", f"no data ({fit.reason})"]]
    return ("arm", "strength, log odds"), [
        [s.arm, f"{s.value:+.2f} [{s.low:+.2f}, {s.high:+.2f}]"] for s in fit.arms
    ]


def quality_table(analysis: Analysis) -> Table:
    rows = [
        ["agreement between raters (Krippendorff's alpha, nominal)", _number(analysis.alpha)],
        ["left side chosen", _rate(analysis.left)],
        ["plainly better picture chosen (gold pairs)", _rate(analysis.gold)],
        ["same answer when shown again (repeats)", _rate(analysis.repeats)],
    ]
    return ("quality", ""), rows


def raters_table(analysis: Analysis) -> Table:
    """One row a rater."""
    rows = []
    for r in analysis.raters:
        median = "–" if r.median_ms is None else f"{r.median_ms / 1000:.1f} s"
        checks = [_rate(r.left), _rate(r.gold), _rate(r.repeats)]
        rows.append([r.rater[:8], str(r.votes), median, *checks, "; ".join(r.flags) or "–"])
    return ("rater", "answers", "median time", "left", "gold", "repeats", "flags"), rows


def remarks(analysis: Analysis) -> list[str]:
    """What a careful reader must be told."""
    told = [
        "Win rates count a tie as half a win; both-bad and skip do not count. Their interval is the two-way "
        "cluster bootstrap over prompts and raters; the plain one, Wilson's, takes votes as independent.",
    ]
    if analysis.study.status == "open":
        told.append("The study is still open: these are not its final results.")
    if analysis.looks:
        told.append(f"Results were looked at {len(analysis.looks)} times while the study was open.")
    if analysis.study.protocol.sampling == "adaptive":
        told.append(
            "Pairs were chosen adaptively, which biases pooled win rates: read the strengths instead."
        )
    if analysis.study.protocol.consensus_k or analysis.filter.consensus:
        k = analysis.filter.consensus or analysis.study.protocol.consensus_k or 3
        told.append(
            f"Keeping only unanimous pairs inflates: with {k} raters a true 55 % becomes "
            f"{100 * inflation(0.55, k)[0]:.1f} %, and {100 * inflation(0.55, k)[1]:.0f} % of pairs remain."
        )
    if analysis.filter.words:
        told.append(
            f"A filter is on: {analysis.filter.words}. {analysis.kept} of {analysis.total} votes are read."
        )
    if analysis.flagged and not analysis.filter.without_flagged:
        told.append(f"{len(analysis.flagged)} flagged raters are included; nobody is deleted.")
    return told


def sections(analysis: Analysis) -> list[tuple[str, list[str], list[Table]]]:
    """(title, sentences, tables) in the order of reading."""
    made: list[tuple[str, list[str], list[Table]]] = []
    for q in analysis.study.protocol.questions:
        if q.id not in analysis.tables:
            continue
        tables = [results_table(analysis, q.id)]
        extra = (
            consensus_table(analysis, q.id),
            strengths_table(analysis, q.id),
            categories_table(analysis, q.id),
        )
        tables += [t for t in extra if t is not None]
        made.append((q.text, [headline(t) for t in analysis.tables[q.id]], tables))
    made.append(("Raters", [], [quality_table(analysis), raters_table(analysis)]))
    made.append(("The study", [analysis.study.protocol.instruction], [facts(analysis), arms_table(analysis)]))
    made.append(("How to read this", remarks(analysis), []))
    return made


def to_markdown(analysis: Analysis) -> str:
    """The report as Markdown."""
    lines = [f"# {_md(analysis.study.name)}", ""]
    for title, sentences, tables in sections(analysis):
        lines += [f"## {_md(title)}", ""]
        for sentence in sentences:
            lines += [_md(sentence), ""]
        for head, rows in tables:
            lines.append("| " + " | ".join(_md(h) for h in head) + " |")
            lines.append("|" + "---|" * len(head))
            lines += ["| " + " | ".join(_md(cell) for cell in row) + " |" for row in rows]
            lines.append("")
    lines += ["## Protocol", "", "```json", _pretty(analysis), "```", ""]
    return "\n".join(lines)


def _md(text: str) -> str:
    return html.escape(text.replace("\n", " "), quote=False).replace("|", "\\|")


def _pretty(analysis: Analysis) -> str:
    return json.dumps(analysis.study.protocol.model_dump(mode="json"), indent=1, ensure_ascii=False)


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;color:#1c1c1c}"
    "table{border-collapse:collapse;margin:10px 0;display:block;overflow-x:auto}"
    "td,th{border:1px solid #d4d4d4;padding:4px 8px;text-align:left;vertical-align:top;"
    "font-variant-numeric:tabular-nums}th{background:#efefef}"
    "pre{background:#f6f6f6;padding:10px;overflow-x:auto}p.lead{font-size:17px;font-weight:600}"
)


def to_html(analysis: Analysis) -> str:
    """The report as one HTML file without scripts: it can be mailed, printed and archived."""
    e = html.escape
    body = [f"<h1>{e(analysis.study.name)}</h1>"]
    for title, sentences, tables in sections(analysis):
        body.append(f"<h2>{e(title)}</h2>")
        question = next((q.id for q in analysis.study.protocol.questions if q.text == title), None)
        style = " class='lead'" if question else ""
        body += [f"<p{style}>{e(s)}</p>" for s in sentences]
        if question:
            body.append(forest_svg(analysis, question))
        body += [table_html(t) for t in tables]
    body.append(f"<h2>Protocol</h2><pre>{e(_pretty(analysis))}</pre>")
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{e(analysis.study.name)}</title>"
        f"<style>{STYLE}</style><body>{''.join(body)}</body></html>"
    )


def table_html(table: Table) -> str:
    """A table with every cell escaped."""
    head, rows = table
    top = "".join(f"<th scope='col'>{html.escape(h)}</th>" for h in head)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def forest_svg(analysis: Analysis, question: str) -> str:
    """Win rates with whiskers, drawn without a script."""
    tables = analysis.tables[question]
    height, left, width = 44 * len(tables) + 44, 330, 520

    def at(share: float) -> float:
        return left + width * share

    parts = [
        f"<svg viewBox='0 0 {left + width + 40} {height}' width='100%' role='img' aria-label='win rates'>"
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        ink = f"stroke='{BASE}' stroke-dasharray='4 3'" if tick == 0.5 else "stroke='#e0e0e0'"
        parts.append(f"<line x1='{at(tick)}' x2='{at(tick)}' y1='6' y2='{height - 26}' {ink}/>")
        parts.append(_words(at(tick), height - 8, f"{100 * tick:.0f} %"))
    for i, table in enumerate(tables):
        y = 26 + 44 * i
        parts.append(_words(left - 12, y - 3, table.arm[:44], "end", "bold"))
        parts.append(_words(left - 12, y + 13, f"over {table.other}"[:48], "end"))
        rate = table.headline
        if isinstance(rate, NoData):
            parts.append(_words(at(0.5), y + 4, "no data"))
            continue
        colour = ARM_COLOURS.get(analysis.kind_of(table.arm), BASE)
        whisker = f"x1='{at(rate.low):.1f}' x2='{at(rate.high):.1f}' y1='{y}' y2='{y}'"
        parts.append(f"<line {whisker} stroke='{colour}' stroke-width='3'/>")
        title = f"<title>{html.escape(str(rate))}</title>"
        parts.append(f"<circle cx='{at(rate.value):.1f}' cy='{y}' r='6' fill='{colour}'>{title}</circle>")
    return "".join(parts) + "</svg>"


def _words(x: float, y: float, text: str, anchor: str = "middle", weight: str = "normal") -> str:
    style = f"font-size='13' font-weight='{weight}' text-anchor='{anchor}'"
    return f"<text x='{x}' y='{y}' {style}>{html.escape(text)}</text>"
