"""Library: every calibration of this studio, kept, renamed, moved in and out, and two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from calibri.errors import ArtifactError
from studio.calibrations import export_file
from studio.compare.comparison import compare
from studio.compare.form import Form
from studio.core import Core
from studio.library.folding import Folding
from studio.library.form import BASE, find_entry, get_entry, import_files, render_pair
from studio.library.layout import (
    NONE_CHOSEN,
    Chosen,
    Pair,
    Shelf,
    lay_out_chosen,
    lay_out_pair,
    lay_out_shelf,
    lay_out_trash,
)
from studio.library.thumbnails import Thumbnails
from studio.library.travel_page import TravelHandlers, lay_out_travel, wire_travel
from studio.library.view import draw_cards, draw_details, draw_vectors, write_time
from studio.rendering.arms import NOTHING, WORDS, Choice
from studio.rendering.shots import Shot, facts
from studio.rendering.view import steps_slider
from studio.scales.compose_fields import lay_out_composer
from studio.scales.composing import put_on_desk
from studio.scales.edits import open_calibration
from studio.scales.view import SAVE_SCRIPT, list_saved
from studio.ui.elements import caption, empty, list_unreadable, offers, serve_enlarged, show_remark
from studio.ui.errors import guard, leave_cancelled
from studio.ui.events import (
    IN_ORDER,
    QUEUED,
    RENDERS,
    WATCHES,
    go_to,
    tell_progress,
    visitor_state,
    when_loaded,
    when_ready,
)

TITLE, PATH = "Library", "/library"


def show_pair(shots: Sequence[Shot]) -> list[Any]:
    """Values of `Pair.seen`. Where one of them is the base, rewards are compared with its own."""
    parts: list[Any] = []
    base = next((shot.rewards for shot in shots if shot.arm.kind == "base"), None)
    for shot in shots:
        arm = shot.arm
        image = serve_enlarged(shot.image)
        parts += [
            gr.Image(value=image, label=WORDS[arm.kind], elem_classes=["stage", f"arm-{arm.kind}"]),
            caption(arm.kind, arm.title, facts(shot), shot.rewards, base, note=arm.missing),
        ]
    return parts


class Handlers:
    """What the page answers. `thumbnails`: None where nothing runs in the background."""

    def __init__(self, core: Core, thumbnails: Thumbnails | None) -> None:
        self.core, self.thumbnails = core, thumbnails

    # looking

    def tick(self) -> str:
        """Begin missing thumbnails. Returns a text that changes whenever the shelf looks different."""
        if self.thumbnails is not None:
            self.thumbnails.render_missing()
        pictures = self.thumbnails.revision if self.thumbnails is not None else 0
        host = self.core.host.status
        return f"{self.core.calibrations.revision}:{pictures}:{host.phase}:{host.backbone}"

    def cards(self, selected: object = "") -> str:
        store = self.core.calibrations
        return draw_cards(store.entries(), self.thumbnails, selected) + list_unreadable(store.unreadable())

    def _choices(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """(words, id) of what can stand beside, and of what lies in the trash."""
        store = self.core.calibrations
        others = [("Base: all scales 1.00", BASE), *((e.title, e.id) for e in store.entries())]
        return others, [(f"{e.title} ({write_time(e.saved)})", e.id) for e in store.trash()]

    def draw(self, selected: object, beside: object) -> list[Any]:
        """Cards, what can stand beside, and the trash."""
        others, deleted = self._choices()
        other = beside if beside in [choice for _, choice in others] else BASE
        return [self.cards(selected), gr.Dropdown(others, value=other), gr.Dropdown(deleted, value=None)]

    def redraw(self, selected: object, beside: object, deleted: object) -> list[Any]:
        """The same while people look and choose."""
        others, trash = self._choices()
        return [self.cards(selected), offers(others, beside, BASE), offers(trash, deleted)]

    def describe(self, selected: object, beside: object) -> list[Any]:
        """Title, facts, chart and the chart's remark for the chosen calibration."""
        entry, other = find_entry(self.core, selected), find_entry(self.core, beside)
        if entry is None:
            gone = f"There is no saved calibration {selected!r} (any more)." if selected else ""
            return ["", show_remark(gone) or empty(NONE_CHOSEN), None, ""]
        second = other.calibration if other is not None else None
        figure, remark = draw_vectors(entry.calibration, second, self.core.host.backbone)
        return [entry.title, draw_details(entry), figure, show_remark(remark)]

    @guard
    def choose_card(self, event: gr.EventData) -> str:
        chosen = event._data.get("id") if isinstance(event._data, dict) else None
        return get_entry(self.core, chosen).id

    @guard
    def render(
        self,
        visitor_id: object,
        entry_id: str,
        other: str,
        prompt: str,
        seed: str,
        steps: float,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[list[Any]]:
        if not entry_id:
            yield [None, caption("calibrated", "", []), None, caption("base", "", [])]
            return
        asked = (visitor_id, entry_id, other, prompt, seed, steps)
        yield from leave_cancelled(
            lambda: show_pair(render_pair(self.core, *asked, **tell_progress(progress))), outputs=4
        )

    # changing

    def _check_organiser(self, request: gr.Request) -> None:
        self.core.rights.organisers_only(request)

    def show_change(self, entry_id: str, other: object, words: str, undone: str = "") -> list[Any]:
        """The answer to every change. `undone`: what Undo takes and the title, with | between."""
        undo, _, title = undone.partition("|")
        text = f"Undo: bring “{title}” back" if undo else "Undo"
        button = gr.Button(text, visible=bool(undo))
        shown = [*self.draw(entry_id, other), *self.describe(entry_id, other)]
        return [entry_id, show_remark(words), button, undo, *shown]

    @guard
    def rename(self, entry_id: str, other: str, name: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        before = get_entry(self.core, entry_id).title
        entry = self.core.calibrations.rename(entry_id, name)
        return self.show_change(entry.id, other, f"Renamed “{before}” to “{entry.title}”.")

    @guard
    def duplicate(self, entry_id: str, other: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        entry = self.core.calibrations.duplicate(get_entry(self.core, entry_id).id)
        return self.show_change(entry.id, other, f"Duplicated as “{entry.title}”.")

    @guard
    def delete(self, entry_id: str, other: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        entry = get_entry(self.core, entry_id)
        undone = f"{self.core.calibrations.delete(entry.id)}|{entry.title}"
        beside = BASE if other == entry_id else other
        return self.show_change("", beside, f"Moved “{entry.title}” to the trash.", undone)

    @guard
    def restore(self, trash_id: str | None, other: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        if not trash_id:
            raise ArtifactError("Choose a deleted calibration first.")
        entry = self.core.calibrations.restore(trash_id)
        return self.show_change(entry.id, other, f"Restored “{entry.title}”.")

    @guard
    def take_in(self, paths: list[str] | None, entry_id: str, other: str, request: gr.Request) -> list[Any]:
        self._check_organiser(request)
        entries, words = import_files(self.core, paths or [])
        return self.show_change(entries[-1].id if entries else entry_id, other, words)

    # going on from here

    @guard
    def export(self, entry_id: str, form: str) -> list[str]:
        return list(export_file(get_entry(self.core, entry_id), form))

    @guard
    def open_in_scales(self, visitor_id: object, entry_id: str) -> str:
        entry = get_entry(self.core, entry_id)
        open_calibration(self.core, visitor_id, entry.calibration)
        return entry.id

    @guard
    def compare(
        self,
        visitor_id: object,
        entry_id: str,
        prompt: str,
        seed: str,
        steps: float,
        progress: gr.Progress = gr.Progress(),
    ) -> str:
        arms = (Choice("base"), Choice(get_entry(self.core, entry_id).id), Choice(NOTHING))
        form = Form(prompt, seed, steps, arms=arms)
        return compare(self.core, visitor_id, form, **tell_progress(progress)).id

    @guard
    def compose(self, visitor_id: object, parts: object, weights: object, way: object) -> str:
        """Put on the visitor's desk. Returns what changes with each."""
        _, words = put_on_desk(self.core, visitor_id, parts, weights, way)
        return words

    def list_parts(self, parts: object) -> Any:
        """What can be composed: the calibrations of the loaded backbone."""
        return offers(list_saved(self.core), parts, [])

    def fill(self, _: object, now: str) -> list[Any]:
        """Steps as this backbone is used; its first calibration, unless one of it is chosen already."""
        spec = self.core.host.wait_ready().spec
        ids = [entry.id for entry in self.core.fitting_calibrations()]
        chosen = now if now in ids else next(iter(ids), "")
        return [steps_slider(spec.steps), chosen]


def build(core: Core, thumbnails: Thumbnails | None, folding: Folding | None = None) -> None:
    """Lay out the page inside the current Blocks. `thumbnails`, `folding`: None where nothing runs in the
    background."""
    on, visitor = Handlers(core, thumbnails), visitor_state()
    shelf, chosen, pair = lay_out_shelf(on.cards()), lay_out_chosen(), lay_out_pair()
    travel = lay_out_travel()
    with gr.Accordion("Compose several into one", open=False, elem_id="library-composing"):
        composer = lay_out_composer("library")
    deleted, restore = lay_out_trash()
    selected, pulse = gr.Textbox("", visible="hidden"), gr.Textbox("", visible="hidden")
    drawn, facts_shown = [shelf.cards, pair.beside, deleted], [chosen.about, pair.bars, pair.note]
    described = [chosen.title, *facts_shown]

    gr.Timer(1.5).tick(on.tick, None, pulse, **WATCHES)
    pulse.change(on.redraw, [selected, pair.beside, deleted], drawn, **WATCHES)
    pulse.change(on.list_parts, composer.parts, composer.parts, **WATCHES)
    _wire_choice(on, visitor, selected, shelf, pair, described)
    undone = gr.Textbox("", visible="hidden")
    outputs = [selected, shelf.remark, shelf.undo, undone, *drawn, *described]
    _wire_changes(on, selected, shelf, chosen, pair, (deleted, restore), undone, outputs)
    wire_travel(TravelHandlers(core, folding), travel, selected, pair.beside, outputs, on.show_change)
    _wire_doors(on, visitor, selected, chosen, pair)
    composed = gr.Textbox("", visible="hidden")
    composer.run.click(on.compose, [visitor, *composer.asked], composed, **QUEUED).success(
        None, js=go_to("scales"), api_visibility="private"
    )
    when_loaded(visitor, lambda _: on.draw("", BASE), [], drawn)
    when_ready(core.host, visitor, on.fill, [selected], [pair.steps, selected])


def _wire_choice(
    on: Handlers, visitor: Any, selected: gr.Textbox, shelf: Shelf, pair: Pair, described: list[Any]
) -> None:
    rendering: dict[str, Any] = {
        "fn": on.render,
        "inputs": [visitor, selected, pair.beside, *pair.ask],
        "outputs": pair.seen,
        "show_progress_on": [pair.seen[0]],
        **RENDERS,
    }
    # A click brings its card with it. None may be dropped, and `always_last` would bring the first one twice.
    shelf.cards.select(on.choose_card, None, selected, **{**IN_ORDER, "trigger_mode": "multiple"})
    for change in (selected.change, pair.beside.input):
        change(on.describe, [selected, pair.beside], described, **IN_ORDER).then(**rendering)
    gr.on([pair.run.click, pair.prompt.submit, pair.seed.submit, pair.steps.release], **rendering)


def _wire_changes(
    on: Handlers,
    selected: gr.Textbox,
    shelf: Shelf,
    chosen: Chosen,
    pair: Pair,
    trash: tuple[gr.Dropdown, gr.Button],
    undone: gr.Textbox,
    outputs: list[Any],
) -> None:
    both = [selected, pair.beside]
    gr.on([chosen.rename.click, chosen.title.submit], on.rename, [*both, chosen.title], outputs, **QUEUED)
    chosen.duplicate.click(on.duplicate, both, outputs, **QUEUED)
    chosen.delete.click(on.delete, both, outputs, **QUEUED)
    shelf.undo.click(on.restore, [undone, pair.beside], outputs, **QUEUED)
    trash[1].click(on.restore, [trash[0], pair.beside], outputs, **QUEUED)
    shelf.upload.upload(on.take_in, [shelf.upload, *both], outputs, **QUEUED)


def _wire_doors(on: Handlers, visitor: Any, selected: gr.Textbox, chosen: Chosen, pair: Pair) -> None:
    name, text, go = (gr.Textbox("", visible="hidden") for _ in range(3))
    private: dict[str, Any] = {"api_visibility": "private"}
    chosen.export.click(on.export, [selected, chosen.form], [name, text], **QUEUED).success(
        None, [name, text], js=SAVE_SCRIPT, **private
    )
    chosen.scales.click(on.open_in_scales, [visitor, selected], go, **QUEUED).success(
        None, js=go_to("scales"), **private
    )
    rendering = {"show_progress_on": [pair.seen[0]], **RENDERS}
    chosen.compare.click(on.compare, [visitor, selected, *pair.ask], go, **rendering).success(
        None, js=go_to("."), **private
    )
