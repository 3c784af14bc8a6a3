"""Results: win rates of a study with intervals, who voted how, and files for a paper. For organisers."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from calibri.errors import StudyError
from calibri.words import count
from studio.core import Core
from studio.studies import example
from studio.studies.pages import reward_card
from studio.studies.pages.board import draw_board
from studio.studies.results import charts as vote_charts
from studio.studies.results.analysis import ALL, Analysis, Filter, headline
from studio.studies.results.board import list_backbones, make_board
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
from studio.ui.elements import chart, empty, offers, read_beside, show_remark
from studio.ui.errors import guard
from studio.ui.events import COPY_LINK, DIRECT, IN_ORDER, QUEUED, fill
from studio.ui.templates import fill_template

TITLE, PATH = "Results", "/results"
MODEL_BAR = False
NOTHING = (
    "Results of studies will appear here. Press “Make the study and render it” on the page Studies, or vote "
    "yourself in Quick vote."
)
HIDDEN = (
    "This study is open. Its results stay hidden until it is closed, so that nobody stops it at a lucky "
    "moment. To look now, tick the box above: the look is recorded, and the report says so."
)
NO_BOARD = "Votes of the page Quick vote will appear here: all calibrations of a backbone on one board."
PUT_AWAY, BRING_BACK = "Put this example away", "Show the example again"
REFUSED = "Results are for the organisers of this studio."
FILES = {
    "Report (HTML)": "html",
    "Report (Markdown)": "md",
    "Votes (CSV)": "csv",
    "Votes (CSV for spreadsheets, with a byte-order mark)": "csv-bom",
    "Votes (Parquet)": "parquet",
    "Votes (JSONL)": "jsonl",
    "Chosen and rejected (JSONL)": "preferences",
    "The whole study (zip)": "zip",
}
LINK = f"(study) => {{ ({COPY_LINK})(study ? '?study=' + encodeURIComponent(study) : ''); }}"
assert set(FILES.values()) == {"html", "md", *FORMATS}
AGREEMENT = {"All pairs": 0, "At least 2 agree": 2, "At least 3 agree": 3, "At least 5 agree": 5}


@dataclass(frozen=True)
class Page:
    """The components of the page. `charts`: forest, matrix, strengths, votes over time, raters."""

    study: gr.Dropdown
    question: gr.Dropdown
    category: gr.Dropdown
    consensus: gr.Dropdown
    without: gr.Checkbox
    look: gr.Checkbox
    refresh: gr.Button
    link: gr.Button
    words: gr.HTML
    body: gr.Column
    charts: list[gr.HTML]
    detail: gr.HTML
    raters: gr.HTML
    format: gr.Dropdown
    make: gr.Button
    file: gr.File
    card: reward_card.Card
    example: gr.Button
    board: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        return [self.study, self.question, self.category, self.without, self.consensus, self.look]

    @property
    def outputs(self) -> list[Any]:
        return [self.question, self.category, self.words, *self.charts, self.detail, self.raters, self.body]


def lay_out(core: Core) -> Page:
    """Make the components inside the current Blocks."""
    gr.HTML(f"<style>{read_beside(__file__, 'tables.css')}</style>")
    study, question, category, consensus, without, look, refresh, link = _lay_out_filter()
    words = gr.HTML(empty(NOTHING), elem_id="results-words")
    with gr.Column(visible=False) as body:
        forest = chart(elem_id="results-forest", height=150)
        with gr.Row():
            with gr.Column(min_width=320):
                strengths = chart(elem_id="results-strengths", height=10)
            with gr.Column(min_width=320):
                matrix = chart(elem_id="results-matrix", height=10)
        detail = gr.HTML("", elem_id="results-tables")
        card = reward_card.lay_out(core)
        with gr.Accordion("Raters and how to read this", open=False):
            with gr.Row():
                with gr.Column(min_width=320):
                    quality = chart(elem_id="results-raters", height=280)
                with gr.Column(min_width=320):
                    time = chart(elem_id="results-time", height=200)
            raters = gr.HTML("")
    with gr.Row(equal_height=True):
        format = gr.Dropdown(
            list(FILES.items()),
            value="html",
            label="File (a report follows the filter; files of votes hold all of them)",
            elem_id="results-format",
            scale=3,
            filterable=False,
        )
        make = gr.Button("Make the file", variant="primary", scale=1, elem_id="results-make")
    file = gr.File(label="The file", visible=False, interactive=False, elem_id="results-file")
    charts = [forest, matrix, strengths, time, quality]
    with gr.Row():
        small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 190, "visible": False}
        away = gr.Button(PUT_AWAY, elem_id="results-example", **small)
    with gr.Accordion("All calibrations over all quick votes", open=False, elem_id="results-board"):
        board = gr.HTML("", elem_id="results-board-shown")
    top = (study, question, category, consensus, without, look, refresh, link)
    return Page(*top, words, body, charts, detail, raters, format, make, file, card, away, board)


def _lay_out_filter() -> tuple[Any, ...]:
    with gr.Row(equal_height=True):
        study = gr.Dropdown([], label="Study", scale=3, elem_id="results-study", filterable=False)
        question = gr.Dropdown([], label="Question", scale=2, elem_id="results-question", filterable=False)
        category = gr.Dropdown([("All", "")], value="", label="Category", scale=1, elem_id="results-category")
        consensus = gr.Dropdown(
            list(AGREEMENT.items()),
            value=0,
            label="Unanimous pairs",
            filterable=False,
            elem_id="results-consensus",
            scale=1,
        )
    with gr.Row(equal_height=True):
        without = gr.Checkbox(False, label="Without flagged raters", elem_id="results-flagged")
        early = "Look before the study is closed (this is recorded)"
        look = gr.Checkbox(False, label=early, elem_id="results-look")
        refresh = gr.Button("Refresh", size="sm", min_width=90, elem_id="results-refresh")
        link = gr.Button("Copy link", size="sm", min_width=90, elem_id="copy-study")
    return study, question, category, consensus, without, look, refresh, link


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks and connect it."""
    page, do = lay_out(core), Handlers(core, studies)
    gr.on(
        [*(part.input for part in page.inputs), page.refresh.click],
        guard(do.on_show),
        page.inputs,
        page.outputs,
        **IN_ORDER,
    )
    reward_card.wire(page.card, page.inputs, page.refresh, core, studies)
    fill(guard(do.on_load), [], [page.study, *page.outputs])
    page.link.click(None, page.study, None, js=LINK, api_visibility="private")
    fill(guard(do.on_board), [], [page.board])
    page.refresh.click(guard(do.on_board), None, page.board, **QUEUED)
    page.study.change(do.on_example, page.study, page.example, **DIRECT)
    page.example.click(guard(do.on_put_away), page.study, [page.study, *page.outputs], **QUEUED)
    asked = [page.study, page.format, page.category, page.without, page.consensus]
    page.make.click(guard(do.on_make), asked, page.file, api_visibility="private")


class Handlers:
    """What the page's events call. Each asks for the organiser's rights itself."""

    def __init__(self, core: Core, studies: Studies) -> None:
        self._core, self._studies = core, studies

    def on_show(
        self,
        chosen: str | None,
        question: str | None,
        category: str | None,
        without: bool,
        consensus: int,
        look: bool,
        request: gr.Request,
    ) -> list[Any]:
        """The values of `Page.outputs`."""
        self._core.rights.study_organisers_only(request)
        hidden = [*[None] * 5, "", "", gr.Column(visible=False)]
        if not chosen:
            return [gr.skip(), gr.skip(), empty(NOTHING), *hidden]
        known = self._studies.find(chosen)
        texts = {q.id: q.text for q in known.protocol.questions}
        asked = question if question in texts else next(iter(texts))
        # "?": no question is chosen yet, so that the first one is sent
        questions = offers([(text, key) for key, text in texts.items()], question or "?", asked)
        wanted = Filter("", category or "", without, consensus or None)
        analysis = read_results(self._studies, chosen, wanted, look=look)
        if analysis is None:
            progress = self._studies.store.progress(known)
            of = f" of {progress.wanted} wanted" if progress.wanted else ""
            who = count(progress.raters, "rater")
            return [
                questions,
                gr.skip(),
                show_remark(f"{progress.showings} pairs{of} voted on by {who} so far. {HIDDEN}"),
                *hidden,
            ]
        if category and category not in analysis.categories:  # of the study that was chosen before
            wanted = Filter("", "", without, consensus or None)
            analysis = read_results(self._studies, chosen, wanted, look=look) or analysis
        categories = offers([("All", ""), *((c, c) for c in analysis.categories)], category, "")
        return [
            questions,
            categories,
            draw_summary(analysis),
            *draw_figures(self._studies, analysis, asked),
            draw_tables(analysis, asked),
            draw_raters(analysis),
            gr.Column(visible=True),
        ]

    def on_load(self, request: gr.Request) -> list[Any]:
        """The study of the address, or else the newest one."""
        if not self._core.rights.may_organise(request):
            return [gr.Dropdown([]), gr.skip(), gr.skip(), empty(REFUSED), *[gr.skip()] * 8]
        choices = self._choices()
        ids = [choice for _, choice in choices]
        wanted = request.query_params.get("study")
        first = wanted if wanted in ids else next(iter(ids), None)
        shown = self.on_show(first, None, "", False, 0, False, request)
        return [gr.Dropdown(choices, value=first), *shown]

    def on_board(self, request: gr.Request) -> str:
        """The board of each backbone that was voted on in quick votes."""
        if not self._core.rights.may_organise(request):
            return ""
        boards = [
            (name, draw_board(make_board(self._studies, name, self._core.calibrations.entries(name))))
            for name in list_backbones(self._studies)
        ]
        drawn = [Markup("<h3>{}</h3>{}").format(name, Markup(board)) for name, board in boards]
        return str(Markup("").join(drawn)) or empty(NO_BOARD)

    def _choices(self) -> list[tuple[str, str]]:
        """(words, id): the newest first, the example last."""
        choices = self._studies.store.list_choices("open", "closed", "archived")
        example = self._studies.example
        if example is not None and example.study.id not in self._studies.away:
            choices.append((example.study.name, example.study.id))
        return choices

    def on_example(self, chosen: object) -> Any:
        """The button that puts the example away, or brings it back where it is away."""
        shown, away = self._studies.is_example(chosen), len(self._studies.away) > 0
        return gr.Button(PUT_AWAY if shown else BRING_BACK, visible=shown or away)

    def on_put_away(self, chosen: object, request: gr.Request) -> list[Any]:
        self._core.rights.study_organisers_only(request)
        if self._studies.is_example(chosen):
            self._studies.away.put(str(chosen))
        else:
            self._studies.away.clear()
        return self.on_load(request)

    def on_make(
        self,
        chosen: str | None,
        format: str,
        category: str | None,
        without: bool,
        consensus: int,
        request: gr.Request,
    ) -> Any:
        """The file that was asked for."""
        self._core.rights.study_organisers_only(request)
        if not chosen:
            raise StudyError("Choose a study first.")
        filter = Filter("", category or "", bool(without), consensus or None)
        return gr.File(make_file(self._studies, chosen, format, filter), visible=True)


def read_results(
    studies: Studies, study: str, filter: Filter = ALL, *, look: bool = False
) -> Analysis | None:
    """The analysis, or None where it is still hidden. `look` into an open study is recorded as an event."""
    known = studies.find(study)
    if known.hides_results:
        if not look:
            return None
        studies.unblind(known.id, "results page")
    return studies.analysis(known.id, filter)


def draw_summary(analysis: Analysis) -> str:
    """The headlines and the share of votes that is read."""
    found = [q for q in analysis.study.protocol.questions if q.id in analysis.tables]
    questions = [(q.text, [headline(t) for t in analysis.tables[q.id]]) for q in found]
    share = analysis.share_kept
    votes = "No votes yet."
    if share is not None:
        votes = f"{analysis.kept} of {analysis.total} votes read ({100 * share:.0f} %)"
    counted = f"{votes}; {count(len(analysis.raters), 'rater')}, {len(analysis.flagged)} flagged"
    if analysis.filter.words:
        counted += f". Filter: {analysis.filter.words}"
    if analysis.study.id == example.ID:
        counted = f"{example.SAID} {counted}"
    return fill_template("studies/pages/summary.html", questions=questions) + show_remark(counted)


def draw_tables(analysis: Analysis, question: str) -> str:
    """All tables of one question."""
    makers = (results_table, consensus_table, strengths_table, categories_table)
    found = [table for make in makers if (table := make(analysis, question)) is not None and table[1]]
    return Markup("<div class='tables'>{}</div>").format(Markup("").join(map(table_html, found)))


def draw_raters(analysis: Analysis) -> str:
    """The tables on raters and the remarks."""
    notes = Markup("").join(Markup("<li>{}</li>").format(text) for text in remarks(analysis))
    tables = table_html(quality_table(analysis)) + table_html(raters_table(analysis))
    return Markup("<div class='tables'>{}<ul>{}</ul></div>").format(tables, notes)


def draw_figures(studies: Studies, analysis: Analysis, question: str) -> list[Any]:
    """The figures of `Page.charts`; None where there is nothing to draw."""
    many = len(analysis.arms) > 2
    return [
        vote_charts.forest(analysis, question),
        vote_charts.matrix(analysis, question) if many else None,
        vote_charts.strengths(analysis, question),
        vote_charts.over_time(studies.rows(analysis.study.id)),
        vote_charts.raters(analysis.raters),
    ]


def make_file(studies: Studies, study: str, format: str, filter: Filter) -> str:
    """Write the file where browsers may fetch it, and return its path. A look into an open study is recorded.

    Reports follow the filter; files of votes always hold all of them.
    """
    if format not in FILES.values():
        raise StudyError(f"Unknown format {format!r}; known: {', '.join(FILES.values())}.")
    studies.unblind(study, f"export {format}")
    path = studies.export(study, format, filter if format in ("html", "md") else ALL)
    folder = Path(tempfile.mkdtemp(prefix="calibri-export-"))  # browsers may not read the data folder
    return str(shutil.copy2(path, folder / path.name))
