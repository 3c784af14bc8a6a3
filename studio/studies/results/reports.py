"""A study's report as Markdown and as one HTML file: all that a reader needs to judge and to repeat it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from calibri.preference import NoData, Rate, SignTest, inflation
from studio.studies.results.analysis import Analysis, headline
from studio.studies.results.examples import Examples
from studio.studies.storage.snapshots import versions
from studio.studies.storage.study_store import StudyArm
from studio.ui.templates import fill_template
from studio.ui.theme import ARM_COLOURS, BASE

NO_EXAMPLES = Examples()
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Section:
    """One part of the report. `forest`: rows (arm, other, rate or None, colour) of its chart."""

    title: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    forest: Sequence[tuple[str, str, Rate | None, str]] = ()


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
    """The study, its protocol, and how many votes were read."""
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
    """One row an arm."""
    rows = [[a.label, a.kind, a.backbone, _settings(a), a.calibration_hash or "–"] for a in analysis.arms]
    return ("arm", "kind", "backbone", "settings", "calibration, sha256"), rows


def _settings(arm: StudyArm) -> str:
    own = not (arm.width or arm.height)
    size = "the backbone's size" if own else f"{arm.width or 'own'} × {arm.height or 'own'} px"
    loras = f", LoRA {arm.loras}" if arm.loras else ""
    embedded = f", embedded guidance {arm.embedded:g}" if arm.embedded is not None else ""
    negative = f", against “{arm.negative}”" if arm.negative else ""
    return f"{arm.steps} steps, guidance {arm.guidance:g}, {size}{loras}{embedded}{negative}"


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
    """What a careful reader must know."""
    notes = [
        "Win rates count a tie as half a win; both-bad and skip do not count. Their interval is the two-way "
        "cluster bootstrap over prompts and raters; the plain one, Wilson's, takes votes as independent."
    ]
    if analysis.study.status == "open":
        notes.append("The study is still open: these are not its final results.")
    if analysis.looks:
        notes.append(f"Results were looked at {len(analysis.looks)} times while the study was open.")
    if analysis.study.protocol.sampling != "even":
        notes.append(
            "Pairs were chosen by what the votes had told, which biases pooled win rates: read the strengths "
            "instead."
        )
    if analysis.study.protocol.consensus_k or analysis.filter.consensus:
        k = analysis.filter.consensus or analysis.study.protocol.consensus_k or 3
        notes.append(
            f"Keeping only unanimous pairs inflates: with {k} raters a true 55 % becomes "
            f"{100 * inflation(0.55, k)[0]:.1f} %, and {100 * inflation(0.55, k)[1]:.0f} % of pairs remain."
        )
    if analysis.filter.words:
        notes.append(
            f"A filter is on: {analysis.filter.words}. {analysis.kept} of {analysis.total} votes are read."
        )
    if analysis.flagged and not analysis.filter.without_flagged:
        notes.append(f"{len(analysis.flagged)} flagged raters are included; nobody is deleted.")
    return notes


def sections(analysis: Analysis) -> list[Section]:
    """The parts of the report in the order of reading."""
    made: list[Section] = []
    for q in analysis.study.protocol.questions:
        if q.id not in analysis.tables:
            continue
        extra = (consensus_table, strengths_table, categories_table)
        more = [table for make in extra if (table := make(analysis, q.id)) is not None]
        found = analysis.tables[q.id]
        forest = [
            (
                t.arm,
                t.other,
                None if isinstance(t.headline, NoData) else t.headline,
                ARM_COLOURS.get(analysis.kind_of(t.arm), BASE),
            )
            for t in found
        ]
        tables = [results_table(analysis, q.id), *more]
        made.append(Section(q.text, [headline(t) for t in found], tables, forest))
    instruction = [analysis.study.protocol.instruction]
    made.append(Section("Raters", [], [quality_table(analysis), raters_table(analysis)]))
    made.append(Section("The study", instruction, [facts(analysis), arms_table(analysis)]))
    made.append(Section("How to read this", remarks(analysis), []))
    return made


def to_markdown(analysis: Analysis) -> str:
    """The report as Markdown."""
    lines = [f"# {_md(analysis.study.name)}", ""]
    for section in sections(analysis):
        lines += [f"## {_md(section.title)}", ""]
        for sentence in section.sentences:
            lines += [_md(sentence), ""]
        for head, rows in section.tables:
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


def to_html(analysis: Analysis, examples: Examples = NO_EXAMPLES) -> str:
    """The report as one HTML file without scripts: it can be mailed, printed and archived."""
    return fill_template(
        "studies/results/report.html",
        study=analysis.study,
        sections=sections(analysis),
        examples=examples,
        protocol=_pretty(analysis),
        grey=BASE,
    )


def table_html(table: Table) -> Markup:
    """A table with every cell escaped."""
    head, rows = table
    return Markup(fill_template("studies/results/table.html", head=head, rows=rows))
