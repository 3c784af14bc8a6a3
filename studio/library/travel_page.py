"""Part of the page Library: into a pipeline folder, to the hub, and from the hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from calibri.errors import ArtifactError
from studio.calibrations import Entry
from studio.core import Core
from studio.library.folding import Folding
from studio.library.form import find_entry, get_entry
from studio.library.travel import describe_push, pull, push
from studio.ui.elements import aside, hint, show_remark
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, QUEUED

ABOUT_FOLD = (
    "Writes the whole pipeline of the loaded backbone as a folder, with the chosen calibration in its "
    "weights: plain diffusers paints from it what this studio paints. It needs memory and disk for a "
    "copy."
)
NO_FOLD = "Nothing runs in the background here: use `calibri fold` on a machine of your own."
TIMER = 1.0  # seconds

Answer = Callable[[str, object, str], list[Any]]  # entry id, what stands beside it, words → a change's answer


class Travel(NamedTuple):
    """Where a calibration goes, and where one comes from."""

    fold: gr.Button
    folded: gr.HTML
    repo: gr.Textbox
    private: gr.Checkbox
    before: gr.HTML
    push: gr.Button
    pushed: gr.HTML
    source: gr.Textbox
    pull: gr.Button


def lay_out_travel() -> Travel:
    with gr.Accordion("Plain diffusers and the hub", open=False, elem_id="library-travel"), gr.Row():
        with gr.Column(min_width=280):
            gr.HTML(aside(ABOUT_FOLD))
            fold = gr.Button("Fold into a pipeline folder", elem_id="library-fold")
            folded = gr.HTML("", elem_id="library-folded")
        with gr.Column(min_width=280):
            repo = gr.Textbox(
                label="Repository on the hub",
                placeholder="owner/name",
                max_lines=1,
                elem_id="library-repo",
            )
            private = gr.Checkbox(True, label="Private, if it is new", elem_id="library-private")
            before = gr.HTML("", elem_id="library-before-push")
            push_button = gr.Button("Push to the Hub", elem_id="library-push")
            pushed = gr.HTML("", elem_id="library-pushed")
        with gr.Column(min_width=280):
            source = gr.Textbox(
                label="A calibration on the hub",
                placeholder="owner/name or owner/name@revision",
                info="It is saved here, in the library.",
                max_lines=1,
                elem_id="library-source",
            )
            pull_button = gr.Button("Open from Hub", elem_id="library-pull")
    return Travel(fold, folded, repo, private, before, push_button, pushed, source, pull_button)


class TravelHandlers:
    """What this part answers. `folding`: None where nothing runs in the background."""

    def __init__(self, core: Core, folding: Folding | None) -> None:
        self.core, self.folding = core, folding

    @guard
    def fold(self, entry_id: object, request: gr.Request) -> str:
        self.core.rights.study_organisers_only(request)
        if self.folding is None:
            raise ArtifactError(NO_FOLD)
        self.folding.start(get_entry(self.core, entry_id).calibration)
        return self.show_fold()

    def tick(self) -> str:
        """A text that changes whenever there is more to tell of a fold."""
        return str(self.folding.state.revision) if self.folding is not None else ""

    def show_fold(self) -> str:
        return show_remark(self.folding.state.words) if self.folding is not None else ""

    def describe(self, entry_id: object, repo: object, private: object, request: gr.Request) -> str:
        return aside(describe_push(self.core, find_entry(self.core, entry_id), repo, private, request))

    @guard
    def push(self, entry_id: object, repo: object, private: object, request: gr.Request) -> str:
        entry = get_entry(self.core, entry_id)
        return show_pushed(entry, push(self.core, entry, repo, private, request))

    @guard
    def pull(self, repo: object, request: gr.Request) -> Entry:
        return pull(self.core, repo, request)


def show_pushed(entry: Entry, address: str) -> str:
    """The link to what was pushed, as HTML."""
    link = Markup("“{}” is at <a href='{}' target='_blank' rel='noopener'>{}</a>.")
    return hint(str(link.format(entry.title, address, address.partition("://")[2] or address)))


def wire_travel(
    on: TravelHandlers,
    travel: Travel,
    selected: gr.Textbox,
    beside: gr.Dropdown,
    outputs: list[Any],
    answer: Answer,
) -> None:
    """`outputs`, `answer`: what every change of the shelf answers."""
    pulse = gr.Textbox("", visible="hidden")
    gr.Timer(TIMER).tick(on.tick, None, pulse, **DIRECT)
    pulse.change(on.show_fold, None, travel.folded, **DIRECT)
    travel.fold.click(on.fold, selected, travel.folded, **QUEUED)
    asked = [selected, travel.repo, travel.private]
    for change in (selected.change, travel.repo.change, travel.private.change):
        change(on.describe, asked, travel.before, **IN_ORDER)
    # A push twice is two commits.
    once = {**QUEUED, "trigger_mode": "once", "concurrency_limit": 4, "show_progress": "minimal"}
    travel.push.click(on.push, asked, travel.pushed, **once)

    def bring(repo: str, other: object, request: gr.Request) -> list[Any]:
        entry = on.pull(repo, request)
        return answer(entry.id, other, f"Saved “{entry.title}” from the hub.")

    gr.on([travel.pull.click, travel.source.submit], bring, [travel.source, beside], outputs, **once)
