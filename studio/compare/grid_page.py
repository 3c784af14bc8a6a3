"""The accordion Grid on the page Compare: two settings against each other, as a table of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from calibri.analysis.axes import KINDS, WORDS, Kind
from calibri.errors import RenderCancelled, RenderError
from studio.compare import view
from studio.compare.form import FormError
from studio.compare.grid import (
    ONE_ROW,
    WORK,
    PictureGrid,
    Side,
    list_scales,
    make_grid,
    make_sheet,
    name_sheet,
)
from studio.core import Core
from studio.rendering.arms import NOTHING, list_choices
from studio.ui.elements import aside, empty, offers
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, RENDERS, WATCHES, tell_progress, when_switched
from studio.ui.picture_files import THUMB, small_png
from studio.ui.templates import fill_template

HELP = (
    "Prompt, seed, steps and the other settings above hold for every picture, unless a side changes them. At "
    "most 64 pictures."
)
NOTHING_YET = "A table of pictures will appear here: choose what changes, and press Render grid."
EXAMPLES: dict[Kind, str] = {
    "steps": "2, 4, 8 or 2-8:2",
    "guidance": "1, 2, 4 or 1-7:2",
    "embedded-guidance": "1, 3.5, 7",
    "seed": "1-4",
    "strength": "0, 0.5, 1, 1.5",
    "scale": "0, 0.5, 1, 1.5",
    "arm": "",
    "prompt": "one a line",
}
MANY, SMALLER = 16, 144  # pictures, and the side in px of each where there are more


class SideFields(NamedTuple):
    """What changes along one side, and to what; the last two for a scale and for arms alone."""

    kind: gr.Dropdown
    values: gr.Textbox
    scale: gr.Dropdown
    arms: gr.Dropdown


@dataclass(frozen=True)
class GridParts:
    """The accordion and all that is in it. `words`: what is wrong with the fields."""

    fold: gr.Accordion
    arm: gr.Dropdown
    columns: SideFields
    rows: SideFields
    run: gr.Button
    stop: gr.Button
    get: gr.DownloadButton
    words: gr.HTML
    shown: gr.HTML

    @property
    def asked(self) -> list[Any]:
        return [self.arm, *self.columns, *self.rows]

    @property
    def offered(self) -> list[Any]:
        """The fields whose choices follow the backbone and the visitor."""
        return [self.arm, self.columns.arms, self.rows.arms, self.columns.scale, self.rows.scale]


def lay_out_grid(core: Core) -> GridParts:
    """The accordion inside the current Blocks."""
    arms = _list_arms(core, None)
    with gr.Accordion("Grid: two settings against each other", open=False, elem_id="xy") as fold:
        gr.HTML(aside(HELP))
        with gr.Row(equal_height=True):
            columns = _lay_out_side("Columns", "xy-columns", "steps", "2, 4, 8", arms)
            rows = _lay_out_side("Rows", "xy-rows", "strength", "0, 1", arms)
        with gr.Row(equal_height=True, elem_id="xy-acts"):
            arm = gr.Dropdown(
                arms,
                value="calibrated",
                label="Arm of every picture",
                min_width=180,
                scale=2,
                elem_id="xy-arm",
            )
            run = gr.Button("Render grid", scale=1, min_width=120, elem_id="xy-render")
            stop = gr.Button("Stop", scale=0, min_width=70, elem_id="xy-stop")
            get = gr.DownloadButton(
                "Download sheet", interactive=False, scale=1, min_width=140, elem_id="xy-sheet"
            )
        words = gr.HTML("", elem_id="xy-words")
        shown = gr.HTML(empty(NOTHING_YET), elem_id="xy-grid")
    return GridParts(fold, arm, columns, rows, run, stop, get, words, shown)


def _lay_out_side(
    title: str, elem_id: str, kind: Kind, values: str, arms: list[tuple[str, str]]
) -> SideFields:
    choices: list[tuple[str, str]] = [(WORDS[each], each) for each in KINDS]
    if title == "Rows":
        choices.insert(0, ("One row", ONE_ROW))
    with gr.Column(min_width=300), gr.Row(equal_height=True):
        return SideFields(
            gr.Dropdown(choices, value=kind, label=title, min_width=120, elem_id=elem_id),
            gr.Textbox(
                values,
                label=f"Values of the {title.lower()}",
                placeholder=EXAMPLES[kind],
                lines=1,
                max_lines=6,
                scale=2,
                min_width=150,
                elem_id=f"{elem_id}-values",
            ),
            gr.Dropdown(
                [],
                label="Which scale",
                allow_custom_value=True,
                visible=False,
                min_width=140,
                elem_id=f"{elem_id}-scale",
            ),
            gr.Dropdown(
                arms,
                value=[],
                multiselect=True,
                label=f"Arms of the {title.lower()}",
                visible=False,
                scale=2,
                min_width=180,
                elem_id=f"{elem_id}-arms",
            ),
        )


def _list_arms(core: Core, visitor: object) -> list[tuple[str, str]]:
    return [(words, what) for words, what in list_choices(core, core.visitors.of(visitor)) if what != NOTHING]


def show_side(kind: object) -> list[Any]:
    """Updates of a side's values, scale and arms for another setting."""
    known = next((each for each in KINDS if each == kind), None)
    typed = known is not None and known != "arm"
    return [
        gr.Textbox(placeholder=EXAMPLES[known] if known else "", visible=typed),
        gr.Dropdown(visible=known == "scale"),
        gr.Dropdown(visible=known == "arm"),
    ]


def show_grid(made: PictureGrid) -> str:
    """The table as HTML."""
    axes = made.grid.axes
    side = THUMB if len(made.shots) <= MANY else SMALLER
    heads = [axis.labels for axis in axes]
    beside = heads[1] if len(heads) > 1 else []
    pictures = []
    for number, row in enumerate(made.rows):
        where = beside[number : number + 1]
        pictures.append(
            [
                (shot.arm.kind, ", ".join([*where, head]), f"{shot.nfe} NFE", small_png(shot.image, side))
                for head, shot in zip(heads[0], row, strict=True)
                if shot.image is not None
            ]
        )
    caption = made.grid.write_caption(str(made.made_on.get("backbone", "")))
    return fill_template(
        "compare/grid.html", caption=caption, columns=heads[0], rows=beside, pictures=pictures
    )


def wire_grid(core: Core, parts: GridParts, visitor: gr.BrowserState, fields: Sequence[Any]) -> None:
    """Connect the accordion. `fields`: the form of the page."""

    @guard
    def on_grid(
        visitor_id: str | None,
        arm: object,
        columns: Any,
        values: Any,
        scale: Any,
        arms: Any,
        rows: Any,
        row_values: Any,
        row_scale: Any,
        row_arms: Any,
        progress: gr.Progress = gr.Progress(),
        *typed: Any,
    ) -> list[Any]:
        sides = [Side(columns, values, scale, arms), Side(rows, row_values, row_scale, row_arms)]
        try:
            form = view.read_values(typed)
            made = make_grid(core, visitor_id, form, arm, sides, **tell_progress(progress))
        except FormError as error:
            return [view.write_problems(error.problems), gr.skip(), gr.skip()]
        except RenderCancelled:
            raise
        except RenderError as error:
            return [view.write_problems({"": str(error)}), gr.skip(), gr.skip()]
        file = save_bytes_to_cache(make_sheet(made), name_sheet(made), cache_dir=parts.get.GRADIO_CACHE)
        return ["", show_grid(made), gr.DownloadButton(value=file, interactive=True)]

    def on_offer(visitor_id: object, arm: object, *held: object) -> list[Any]:
        choices, scales = _list_arms(core, visitor_id), [(name, name) for name in list_scales(core)]
        return [
            offers(choices, arm, "base"),
            *[offers(choices, each, []) for each in held[:2]],
            *[offers(scales, each, "") for each in held[2:]],
        ]

    parts.run.click(
        on_grid,
        [visitor, *parts.asked, *fields],
        [parts.words, parts.shown, parts.get],
        show_progress_on=[parts.shown],
        **RENDERS,
    )
    parts.stop.click(lambda v: core.visitors.of(v).stop(WORK), visitor, None, **DIRECT)
    for side in (parts.columns, parts.rows):
        side.kind.input(show_side, side.kind, [side.values, side.scale, side.arms], **IN_ORDER)
    parts.fold.expand(on_offer, [visitor, *parts.offered], parts.offered, **WATCHES)
    when_switched(on_offer, [visitor, *parts.offered], parts.offered)
