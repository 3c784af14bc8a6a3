"""Results: win rates of a study with honest intervals, who voted how, and files for the paper. For
organisers.
"""

from __future__ import annotations

import html
import shutil
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from calibri.errors import StudyError
from studio.core import Core
from studio.studies.results import charts as vote_charts
from studio.studies.results.analysis import ALL, Analysis, Filter, headline, people
from studio.studies.results.exports import FORMATS
from studio.studies.results.reports import (
    categories_table,
    consensus_table,
    quality_table,
    raters_table,
    remarks,
    results_table,
    strengths_table,
    table_html,
)
from studio.studies.studies import Studies
from studio.ui.elements import chart, empty, hint, offers
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER

TITLE, PATH = "Results", "/results"
MODEL_BAR = False
NOTHING = "Results of studies will stand here. Make one on the page Studies, or vote yourself in Quick vote."
HIDDEN = (
    "This study is open. Its results stay hidden until it is closed, so that nobody stops it at a lucky "
    "moment. To look now, tick the box above: that is noted, and the report says so."
)
REFUSED = "Results are for the organisers of this studio."
FILES = {
    "Report (HTML)": "html",
    "Report (Markdown)": "md",
    "Votes (CSV)": "csv",
    "Votes (Parquet)": "parquet",
    "Votes (JSONL)": "jsonl",
    "Chosen and rejected (JSONL)": "preferences",
    "The whole study (zip)": "zip",
}
assert set(FILES.values()) == {"html", "md", *FORMATS}


def offered(studies: Studies) -> list[tuple[str, str]]:
    """(words, id) of the studies that may have results, the newest first."""
    return [(f"{s.name} ({s.status})", s.id) for s in studies.store.all("open", "closed", "archived")]


def read(
    studies: Studies,
    study: str,
    question: str = "",
    category: str = "",
    without_flagged: bool = False,
    consensus: int | None = None,
    look: bool = False,
) -> Analysis | None:
    """The analysis, or None where it is still hidden. `look` into an open study is noted as an event."""
    known = studies.store.get(study)
    quick = known.protocol.preset == "quick"
    if known.status == "open" and not quick:
        if not look:
            return None
        studies.unblind(known.id, "results page")
    return studies.analysis(known.id, Filter(question, category, without_flagged, consensus or None))


def summary(analysis: Analysis) -> str:
    """The headline sentences, and the share of votes that is read."""
    parts = []
    for q in analysis.study.protocol.questions:
        if q.id in analysis.tables:
            sentences = "".join(f"<div>{html.escape(headline(t))}</div>" for t in analysis.tables[q.id])
            parts.append(f"<div class='lead'><b>{html.escape(q.text)}</b>{sentences}</div>")
    share = analysis.share_kept
    kept = (
        "No votes yet." if share is None else f"{analysis.kept} of {analysis.total} votes read ({share:.0%})"
    )
    counted = f"{kept}; {people(len(analysis.raters))}, {len(analysis.flagged)} flagged"
    if analysis.filter.words:
        counted += f". Filter: {analysis.filter.words}"
    return "".join(parts) + hint(html.escape(counted))


def tables(analysis: Analysis, question: str) -> str:
    """All tables of one question, and those on raters."""
    found = [
        f(analysis, question) for f in (results_table, consensus_table, strengths_table, categories_table)
    ]
    return "<div class='tables'>" + "".join(table_html(t) for t in found if t is not None and t[1]) + "</div>"


def on_raters(analysis: Analysis) -> str:
    notes = "".join(f"<li>{html.escape(r)}</li>" for r in remarks(analysis))
    rows = table_html(quality_table(analysis)) + table_html(raters_table(analysis))
    return f"<div class='tables'>{rows}<ul>{notes}</ul></div>"


def figures(studies: Studies, analysis: Analysis, question: str) -> list[Any]:
    """[forest, matrix, strengths, votes over time, raters]; None where there is nothing to draw."""
    many = len(analysis.arms) > 2
    return [
        vote_charts.forest(analysis, question),
        vote_charts.matrix(analysis, question) if many else None,
        vote_charts.strengths(analysis, question),
        vote_charts.over_time(studies.votes.rows(analysis.study.id)),
        vote_charts.raters(analysis.raters),
    ]


def export(studies: Studies, study: str, format: str, filter: Filter = ALL) -> str:
    """Write the file where the browser may fetch it, and return its path. Looking into an open study is
    noted. Reports are of the votes that the filter leaves; files of votes always hold all of them.
    """
    if format not in FILES.values():
        raise StudyError(f"Unknown format {format!r}.")
    studies.unblind(study, f"export {format}")
    path = studies.export(study, format, filter if format in ("html", "md") else ALL)
    folder = Path(
        tempfile.mkdtemp(prefix="calibri-export-")
    )  # the data folder itself is blocked for browsers
    return str(shutil.copy2(path, folder / path.name))


STYLE = (
    "<style>.tables table{border-collapse:collapse;display:block;overflow-x:auto;margin:6px 0 14px;"
    "font-size:13.5px;border:0!important;max-height:420px}"
    ".tables thead,.tables tbody,.tables tr{border:0!important;background:none!important}"
    ".tables td,.tables th{border:0!important;border-bottom:1px solid var(--border-color-primary)!important;"
    "padding:4px 14px 4px 2px!important;text-align:left;vertical-align:top;"
    "font-variant-numeric:tabular-nums;color:var(--body-text-color)}"
    ".tables th{font-weight:650;white-space:nowrap}"
    ".tables h4{margin:10px 0 2px;font-weight:650}.tables li{margin:4px 0 4px 18px;list-style:disc}</style>"
)


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks."""
    gr.HTML(STYLE, visible=True)
    with gr.Row(equal_height=True):
        study = gr.Dropdown([], label="Study", scale=3, elem_id="results-study", filterable=False)
        question = gr.Dropdown([], label="Question", scale=2, elem_id="results-question", filterable=False)
        category = gr.Dropdown([("All", "")], value="", label="Category", scale=1, elem_id="results-category")
        consensus = gr.Dropdown(
            [("All pairs", 0), ("At least 2 agree", 2), ("At least 3 agree", 3), ("At least 5 agree", 5)],
            value=0,
            label="Unanimous pairs",
            filterable=False,
            elem_id="results-consensus",
            scale=1,
        )
    with gr.Row(equal_height=True):
        without = gr.Checkbox(False, label="Without flagged raters", elem_id="results-flagged")
        look = gr.Checkbox(
            False, label="Look before the study is closed (this is noted)", elem_id="results-look"
        )
        refresh = gr.Button("Refresh", size="sm", min_width=90, elem_id="results-refresh")
    words = gr.HTML(empty(NOTHING), elem_id="results-words")
    with gr.Column(visible=False) as body:
        forest = chart(elem_id="results-forest", height=150)
        with gr.Row():
            with gr.Column(min_width=320):
                strengths = chart(elem_id="results-strengths", height=10)
            with gr.Column(min_width=320):
                matrix = chart(elem_id="results-matrix", height=10)
        detail = gr.HTML("", elem_id="results-tables")
        with gr.Accordion("Raters and how to read this", open=False):
            with gr.Row():
                with gr.Column(min_width=320):
                    quality = chart(elem_id="results-raters", height=280)
                with gr.Column(min_width=320):
                    time = chart(elem_id="results-time", height=200)
            about_raters = gr.HTML("")
    with gr.Row(equal_height=True):
        format = gr.Dropdown(
            list(FILES.items()),
            value="html",
            label="File (a report follows the filter, votes are always whole)",
            elem_id="results-format",
            scale=3,
            filterable=False,
        )
        make = gr.Button("Make the file", variant="primary", scale=1, elem_id="results-make")
    file = gr.File(label="The file", visible=False, interactive=False, elem_id="results-file")

    charts = [forest, matrix, strengths, time, quality]
    outputs = [question, category, words, *charts, detail, about_raters, body]
    inputs = [study, question, category, without, consensus, look]

    @guard
    def on_show(
        chosen: str | None,
        asked: str | None,
        only: str | None,
        clean: bool,
        agreed: int,
        early: bool,
        request: gr.Request,
    ) -> list[Any]:
        core.rights.study_organisers_only(core.rights.username(request))
        if not chosen:
            return [gr.skip(), gr.skip(), empty(NOTHING), *[None] * 5, "", "", gr.Column(visible=False)]
        known = studies.store.get(chosen)
        ids = [q.id for q in known.protocol.questions]
        picked, asked = asked or "?", asked if asked in ids else ids[0]  # "?": nothing yet, so one is sent
        pick = offers([(q.text, q.id) for q in known.protocol.questions], picked, asked)
        analysis = read(studies, chosen, "", only or "", clean, agreed, early)
        if analysis is None:
            progress = studies.store.progress(known)
            wanted = f" of {progress.wanted} wanted" if progress.wanted else ""
            told = f"{progress.showings} pairs{wanted} voted on by {people(progress.raters)} so far. {HIDDEN}"
            return [pick, gr.skip(), hint(html.escape(told)), *[None] * 5, "", "", gr.Column(visible=False)]
        kept = only
        if only and only not in analysis.categories:
            only, analysis = "", read(studies, chosen, "", "", clean, agreed, early) or analysis
        categories = offers([("All", ""), *((c, c) for c in analysis.categories)], kept, "")
        shown = [
            summary(analysis),
            *figures(studies, analysis, asked),
            tables(analysis, asked),
            on_raters(analysis),
            gr.Column(visible=True),
        ]
        return [pick, categories, *shown]

    gr.on(
        [
            study.input,
            question.input,
            category.input,
            without.input,
            consensus.input,
            look.input,
            refresh.click,
        ],
        on_show,
        inputs,
        outputs,
        **IN_ORDER,
    )

    @guard
    def on_load(request: gr.Request) -> list[Any]:
        if not core.rights.may_organise(core.rights.username(request)):
            return [gr.Dropdown([]), empty(REFUSED), *[gr.skip()] * 10]
        choices = offered(studies)
        wanted = request.query_params.get("study")
        first = wanted if wanted in [c[1] for c in choices] else choices[0][1] if choices else None
        shown = on_show(first, None, "", False, 0, False, request)
        return [gr.Dropdown(choices, value=first), shown[2], *shown[:2], *shown[3:]]

    Context.root_block.load(
        on_load,
        None,
        [study, words, question, category, *charts, detail, about_raters, body],
        show_progress="hidden",
        api_visibility="private",
    )

    @guard
    def on_make(
        chosen: str | None, wanted: str, only: str | None, clean: bool, agreed: int, request: gr.Request
    ) -> Any:
        core.rights.study_organisers_only(core.rights.username(request))
        if not chosen:
            raise StudyError("Choose a study first.")
        path = export(studies, chosen, wanted, Filter("", only or "", bool(clean), agreed or None))
        return gr.File(path, visible=True)

    make.click(on_make, [study, format, category, without, consensus], file, api_visibility="private")
