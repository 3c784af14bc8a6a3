"""All searches as a table: choose, compare, rename, tag, clone, delete and undo, and write for
TensorBoard."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import escape

from calibri.errors import SearchError
from calibri.words import count
from studio.core import Core
from studio.rendering.view import steps_slider
from studio.search import across
from studio.search.clone import clone_fields
from studio.search.fields import Fields
from studio.search.jobs import Searches
from studio.search.status import Seen
from studio.search.view import state_words
from studio.ui.elements import chart, empty, list_unreadable, read_beside
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, QUEUED, WATCHES
from studio.ui.glossary import list_words
from studio.ui.templates import fill_template

Survey = Mapping[str, Seen]

HEAD = ("", "begun, UTC", "title", "state", "verdict", "images", "gain in spreads of the base, 95 %")
NO_RUNS = "No search yet. Press Start search: each of them gets a row here, with its verdict and gain."


@dataclass(frozen=True)
class TableParts:
    """The table, what is done with the chosen search, and what is seen over all of them."""

    table: gr.HTML
    title: gr.Textbox
    tags: gr.Textbox
    save: gr.Button
    clone: gr.Button
    delete: gr.Button
    undo: gr.Button
    export: gr.DownloadButton
    examples: gr.Button
    parallel: gr.HTML
    weigh: gr.Button
    importance: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What changes with the list of searches: values of `show_table`."""
        return [self.table, self.undo, self.examples, self.parallel]


def lay_out_table() -> TableParts:
    """The parts inside the current Blocks."""
    small: dict[str, Any] = {"size": "sm", "min_width": 160, "scale": 0}
    with gr.Column(elem_id="all-searches"):
        table = gr.HTML(empty(NO_RUNS), elem_id="runs", js_on_load=read_beside(__file__, "runs_table.js"))
        with gr.Row(equal_height=True):
            one: dict[str, Any] = {"max_lines": 1, "scale": 2}
            title = gr.Textbox(label="Title of the chosen search", min_width=220, elem_id="run-title", **one)
            tags = gr.Textbox(
                label="Tags", placeholder="paper, layer", min_width=160, elem_id="run-tags", **one
            )
            save = gr.Button("Save title and tags", elem_id="run-save", **small)
        with gr.Row(elem_id="run-acts"):
            clone = gr.Button("Clone settings", elem_id="run-clone", **small)
            delete = gr.Button("Delete", elem_id="run-delete", **small)
            undo = gr.Button("Undo delete", interactive=False, elem_id="run-undo", **small)
            export = gr.DownloadButton("Export for TensorBoard", elem_id="run-export", **small)
            examples = gr.Button("Show the examples again", visible=False, elem_id="run-examples", **small)
    with gr.Row():
        with gr.Column(min_width=320):
            parallel = chart(elem_id="chart-parallel", height=320)
        with gr.Column(min_width=320):
            weigh = gr.Button("Which scales mattered", size="sm", elem_id="weigh-scales")
            importance = chart(elem_id="chart-importance", height=280)
            gr.HTML(list_words("importance", "scale", "candidate", before="Here: "))
    return TableParts(
        table, title, tags, save, clone, delete, undo, export, examples, parallel, weigh, importance
    )


def draw_table(survey: Survey, main: object, others: object) -> str:
    """The table as HTML."""
    beside = others if isinstance(others, list) else []
    rows = [
        {
            "id": run_id,
            "title": seen.status.title,
            "example": seen.run.example,
            "tags": seen.run.note.tags,
            "date": "" if seen.run.example else _date(seen.run.begun),
            "state": state_words(seen.status),
            "verdict": seen.status.verdict or "–",
            "images": seen.status.images,
            "gain": _gain(seen),
            "chosen": run_id == main,
            "beside": run_id in beside,
        }
        for run_id, seen in survey.items()
    ]
    return fill_template("search/runs_table.html", head=HEAD, rows=rows) if rows else empty(NO_RUNS)


def table_key(survey: Survey, main: object, others: object) -> str:
    """Changes whenever the table would."""
    rows = [
        f"{seen.status.id}{seen.status.title}{state_words(seen.status)}{seen.status.generations}"
        f"{seen.status.verdict}{len(seen.run.validations)}{seen.run.note.tags}"
        for seen in survey.values()
    ]
    return f"{main}{others}{rows}"


def _date(begun: float) -> str:
    return datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%d %H:%M")


def _gain(seen: Seen) -> str:
    """On held-out prompts where it was judged, else of the last validation, else nothing is known."""
    run = seen.run
    if run.over and run.result is not None and run.result.objective is not None:
        return run.result.objective.text(2).replace("-", "−")
    if run.validations:
        return f"{run.validations[-1].objective.text(2)} (validation)".replace("-", "−")
    return "no data"


class TableActs:
    """What the parts of the table call. Changes are for organisers only, on a public studio."""

    def __init__(self, core: Core, searches: Searches) -> None:
        self.core, self.searches = core, searches

    def show(self, main: object, others: object) -> list[Any]:
        """Values of `TableParts.shown`."""
        survey, records = self.searches.survey(), self.searches.records
        away = len(self.searches.store.away)
        return [
            draw_table(survey, main, others) + list_unreadable(self.searches.store.unreadable()),
            gr.Button(interactive=records.can_undo),
            gr.Button(visible=bool(away)),
            across.parallel_figure(_alike(survey, main)),
        ]

    def read_note(self, main: object) -> list[Any]:
        """Title and tags of the chosen search."""
        seen = self.searches.see(main)
        if seen is None:
            return ["", "", None]
        return [seen.run.title, ", ".join(seen.run.note.tags), None]

    def pick(self, main: object, others: object, event: gr.EventData) -> tuple[object, list[str]]:
        """The chosen search and those beside it after a press on the table."""
        data = event._data if isinstance(event._data, dict) else {}
        run, beside = data.get("run"), data.get("beside")
        known = self.searches.survey()
        shown = [i for i in (others if isinstance(others, list) else []) if i in known]
        if run not in known:
            raise SearchError("There is no such search (any more).")
        if beside is None:
            return run, [i for i in shown if i != run]
        rest = [i for i in shown if i != run]
        return main, [*rest, run] if beside and run != main else rest

    def save(self, main: object, title: object, tags: object, request: gr.Request) -> None:
        self._allow(request)
        seen = self._need(main)
        records = self.searches.records
        if title != seen.run.title:
            records.rename(seen.run.id, title)
        records.tag(seen.run.id, tags)
        gr.Info("Saved.", duration=2)

    def delete(self, main: object, request: gr.Request) -> None:
        self._allow(request)
        seen = self._need(main)
        self.searches.records.delete(seen.run.id)
        words = "put away" if seen.run.example else "deleted"
        gr.Info(f"“{escape(seen.run.title)}” is {words}. Undo delete brings it back.", duration=6)

    def undo(self, request: gr.Request) -> str:
        self._allow(request)
        return self.searches.records.undo()

    def bring_examples_back(self, request: gr.Request) -> None:
        self._allow(request)
        self.searches.records.bring_examples_back()

    def clone(self, visitor: object, main: object) -> list[Any]:
        """The fields of a new search as the chosen one had them."""
        run = self._need(main).run
        values = clone_fields(self.core, visitor, run)
        gr.Info("The form holds these settings. Change what you like, then press Start search.", duration=5)
        return [steps_slider(values[name]) if name == "steps" else values[name] for name in Fields.names()]

    def export(self, main: object, others: object, request: gr.Request) -> str:
        """A zip of TensorBoard's event files of the chosen search and of those beside it."""
        from calibri.search.tensorboard import write_events

        self._allow(request)
        self._need(main)
        wanted = [main, *(others if isinstance(others, list) else [])]
        folder = Path(tempfile.mkdtemp(prefix="calibri-export-"))
        for run in self.searches.store.several(wanted):
            write_events(run.folder, folder / "events" / run.id)
        return shutil.make_archive(str(folder / "searches-for-tensorboard"), "zip", folder / "events")

    def weigh(self, main: object, others: object, request: gr.Request) -> Any:
        """The importance of scales for the chosen search and those beside it."""
        from calibri.search.importance import find_importance, read_candidates

        self._allow(request)
        self._need(main)
        runs = self.searches.store.several([main, *(others if isinstance(others, list) else [])])
        return across.importance_figure(
            find_importance(*read_candidates([run.folder for run in runs])),
            count(len(runs), "search", "searches"),
        )

    def _need(self, main: object) -> Seen:
        seen = self.searches.see(main)
        if seen is None:
            raise SearchError("Choose a search first.")
        return seen

    def _allow(self, request: gr.Request) -> None:
        self.core.rights.organisers_only(request)


def wire_table(
    parts: TableParts,
    acts: TableActs,
    *,
    selection: list[Any],
    follows: list[Any],
    fields: list[Any],
    visitor: Any,
    beat: gr.Textbox,
    answer: Callable[[object, object], list[Any]],
) -> None:
    """Connect the parts. `follows`: what `answer(main, others)` gives values for. `beat`: changes with
    the list."""
    main = selection[0]
    beat.change(guard(acts.show), selection, parts.shown, **WATCHES)
    gr.on([main.change], guard(acts.read_note), main, [parts.title, parts.tags, parts.importance], **WATCHES)

    def on_pick(main: object, others: object, event: gr.EventData) -> list[Any]:
        return answer(*acts.pick(main, others, event))

    def on_note(main: object, others: object, title: str, tags: str, request: gr.Request) -> list[Any]:
        acts.save(main, title, tags, request)
        return answer(main, others)

    def on_delete(main: object, others: object, request: gr.Request) -> list[Any]:
        acts.delete(main, request)
        return answer(next(iter(acts.searches.survey()), None), others)

    def on_undo(others: object, request: gr.Request) -> list[Any]:
        return answer(acts.undo(request), others)

    def on_examples(main: object, others: object, request: gr.Request) -> list[Any]:
        acts.bring_examples_back(request)
        known = acts.searches.survey()
        return answer(main if main in known else next(iter(known), None), others)

    parts.table.select(guard(on_pick), selection, follows, **IN_ORDER)
    parts.save.click(guard(on_note), [*selection, parts.title, parts.tags], follows, **QUEUED)
    parts.delete.click(guard(on_delete), selection, follows, **QUEUED)
    parts.undo.click(guard(on_undo), selection[1], follows, **QUEUED)
    parts.examples.click(guard(on_examples), selection, follows, **QUEUED)
    parts.clone.click(guard(acts.clone), [visitor, main], fields, **QUEUED)
    parts.export.click(guard(acts.export), selection, parts.export, **QUEUED)
    parts.weigh.click(guard(acts.weigh), selection, parts.importance, **QUEUED)


def _alike(survey: Survey, main: object) -> list[Any]:
    """The searches with a point that search the same numbers as the chosen one, which comes first."""
    first = survey.get(main) if isinstance(main, str) else None
    if first is None or first.run.space is None:
        return []
    labels = first.run.sessions[0].labels
    same = [s.run for s in survey.values() if s.run.generations and s.run.sessions[0].labels == labels]
    return sorted(same, key=lambda run: run.id != main)
