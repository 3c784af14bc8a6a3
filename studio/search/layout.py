"""The parts of the page Search and their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.search.fields import Fields, lay_out_fields
from studio.search.form import FOLLOWS, core_usual
from studio.search.front import FrontParts, lay_out_front
from studio.search.runs_table import TableParts, lay_out_table
from studio.ui.elements import chart, empty, lead, primary_button
from studio.ui.events import visitor_state
from studio.ui.glossary import list_words

LEAD = (
    "A search finds scales by itself: it tries small changes, keeps what the rewards like, and checks the "
    "result on prompts that it never saw."
)
NOTHING_YET = (
    "Your searches will appear here. Press Start search: the settings on the left are sensible as they are."
)
#: One word for each part of the page; a part is sent again when its word changes.
BEATS = ("card", "log", "charts", "runs", "film", "speed", "front", "table")


@dataclass(frozen=True)
class Parts:
    """`looked_at`: the searches that this browser looked at last. `main`, `others`: those that the page
    shows, the second on the same charts as the first. `suited`: what of the fields was usual for the backbone
    that they were last filled for. `acts`, `charts`, `tabs`: by name, in the order of
    `page.buttons`, `page.figures` and the tabs."""

    visitor: gr.BrowserState
    looked_at: gr.BrowserState
    beats: dict[str, gr.Textbox]
    fields: Fields
    suited: gr.State
    cost: gr.HTML
    start: gr.Button
    main: gr.Dropdown
    others: gr.Dropdown
    card: gr.HTML
    front: FrontParts
    acts: dict[str, gr.Button]
    link: gr.Button
    charts: dict[str, gr.HTML]
    film: gr.HTML
    tabs: dict[str, gr.HTML]
    table: TableParts

    @property
    def selection(self) -> list[gr.Dropdown]:
        return [self.main, self.others]

    @property
    def follows(self) -> list[Any]:
        """What changes with every act."""
        return [*self.selection, self.looked_at, *self.beats.values()]


def lay_out(core: Core, sweeps: Sweeps) -> Parts:
    """Lay the page out inside the current Blocks."""
    made: dict[str, Any] = {
        "visitor": visitor_state(),
        "looked_at": gr.BrowserState([], storage_key="calibri-search", secret="calibri-search"),
        "beats": {name: gr.Textbox("", visible="hidden", elem_id=f"beat-{name}") for name in BEATS},
    }
    usual = core_usual(core)
    lead(LEAD, __file__, "search.css")
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            made["fields"] = lay_out_fields(core, sweeps, usual)
            made["suited"] = gr.State({name: usual[name] for name in FOLLOWS})
            made["cost"] = gr.HTML("", elem_id="estimate")
            made["start"] = primary_button("Start search", "start-search")
        with gr.Column(scale=3, min_width=340):
            made |= _lay_out_run() | _lay_out_charts()
    gr.Markdown("### All searches", elem_id="all-searches-head")
    made["table"] = lay_out_table()
    return Parts(**made)


def _lay_out_run() -> dict[str, Any]:
    """Which search, its status, and what can be done with it."""
    made: dict[str, Any] = {}
    with gr.Row():
        made["main"] = gr.Dropdown([], label="Search", scale=3, min_width=220, elem_id="search-run")
        made["others"] = gr.Dropdown(
            [],
            value=[],
            multiselect=True,
            label="On the same charts",
            scale=2,
            min_width=200,
            elem_id="search-others",
        )
    made["card"] = gr.HTML(empty(NOTHING_YET), elem_id="search-state")
    made["front"] = lay_out_front()
    with gr.Row(elem_id="search-acts"):
        made["acts"] = {
            name: gr.Button(
                words,
                size="sm",
                min_width=width,
                interactive=name == "skip",
                visible=name != "skip",
                elem_id=elem_id,
            )
            for name, words, elem_id, width in (
                ("pause", "Pause", "pause", 80),
                ("resume", "Resume", "resume", 80),
                ("stop", "Stop", "stop-search", 80),
                ("skip", "Skip the judgement", "skip-judgement", 120),
                ("scales", "Open in Scales", "open-in-scales", 110),
                ("compare", "Compare with base", "compare-with-base", 110),
                ("save", "Save to library", "save-search", 110),
            )
        }
        made["link"] = gr.Button("Copy link", size="sm", min_width=80, elem_id="copy-run")
    return made


def _lay_out_charts() -> dict[str, Any]:
    """What a search did so far, in charts, pictures and words."""
    charts, tabs = {"reward": chart(elem_id="chart-reward", height=340)}, {}
    with gr.Row():
        for name in ("sigma", "spread"):
            with gr.Column(min_width=300):
                charts[name] = chart(elem_id=f"chart-{name}", height=280)
    gr.HTML(list_words("sigma", "axis ratio", "spread", "gain", "validation"))
    charts["mean"] = chart(elem_id="chart-mean", height=300)
    film = gr.HTML("", elem_id="search-film")
    with gr.Tabs():
        for name, words in (("table", "Generations"), ("log", "What happened"), ("settings", "Its settings")):
            with gr.Tab(words):
                tabs[name] = gr.HTML("", elem_id=f"search-{name}")
    return {"charts": charts, "film": film, "tabs": tabs}
