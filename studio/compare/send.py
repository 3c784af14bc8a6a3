"""Where pictures go from the page Compare: into files, onto the mixing desk, into a vote study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from calibri.errors import CalibriError
from studio.compare import png_settings
from studio.compare.comparison import need_shown
from studio.compare.form import USUAL
from studio.compare.layout import Page
from studio.core import Core
from studio.rendering.arms import NOTHING, WORDS, Choice, resolve_arms, short_title
from studio.rendering.places import ArmDraft, SharedPlace, StudyDraft
from studio.rendering.shots import Comparison, Shot, guidance_of
from studio.scales.edits import open_calibration
from studio.ui.errors import guard
from studio.ui.events import QUEUED, go_to

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

LONGEST_LABEL = 60  # characters of an arm
DOWNLOAD = """(file) => { if (!file) return; const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name || 'picture.png'; link.click(); }"""


def wire_files(core: Core, page: Page) -> None:
    """Downloads: a file is made by the click and taken by the browser."""

    def offer(button: gr.Button, handler: Callable[..., str]) -> None:
        button.click(handler, [page.visitor, page.now], page.file, **QUEUED).success(
            None, page.file, js=DOWNLOAD, api_visibility="private"
        )

    def write(name: str, content: bytes) -> str:
        return save_bytes_to_cache(content, name, cache_dir=page.file.GRADIO_CACHE)

    @guard
    def on_get(column: int, visitor_id: str | None, shown: Any) -> str:
        made, row = need_shown(core, page.first, visitor_id, shown)
        shot = made.rows[row][column]
        return write(png_settings.name_file(shot), png_settings.make_png(made, shot))

    @guard
    def on_all(visitor_id: str | None, shown: Any) -> str:
        made, _ = need_shown(core, page.first, visitor_id, shown)
        return write("comparison.zip", png_settings.make_zip(made))

    for place, column in enumerate(page.columns):
        offer(column.get, partial(on_get, place))
    offer(page.get_all, on_all)


def wire_sending(core: Core, page: Page) -> None:
    """To the mixing desk, and to a vote study."""

    @guard
    def on_send(column: int, visitor_id: str | None, shown: Any) -> None:
        made, row = need_shown(core, page.first, visitor_id, shown)
        shot, choice = made.rows[row][column], (made.choices or USUAL)[column]
        open_calibration(core, visitor_id, find_calibration(core, visitor_id, shot, choice))
        core.visitors.place(visitor_id, SharedPlace).ask = shot.ask

    for place, column in enumerate(page.columns):
        column.send.click(partial(on_send, place), [page.visitor, page.now], None, **QUEUED).success(
            None, js=go_to("scales"), api_visibility="private"
        )

    @guard
    def on_study(visitor_id: str | None, shown: Any, request: gr.Request) -> None:
        core.rights.study_organisers_only(request)
        made, _ = need_shown(core, page.first, visitor_id, shown)
        draft = draft_study(core, visitor_id, made)
        core.visitors.place(visitor_id, SharedPlace).draft = draft

    page.to_study.click(on_study, [page.visitor, page.now], None, **QUEUED).success(
        None, js=go_to("studies"), api_visibility="private"
    )


def find_calibration(core: Core, visitor: object, shot: Shot, choice: Choice) -> Calibration:
    """The calibration of one picture. Raises CalibriError for base and for what is missing."""
    found = shot.arm.calibration
    if found is None and choice.what not in ("base", NOTHING):
        found = resolve_arms(core, [choice], core.visitors.of(visitor))[0].calibration  # a prepared picture
    if found is None:
        raise CalibriError("The base has no scales of its own: all are 1. Choose a calibrated picture.")
    return found


def draft_study(core: Core, visitor: object, comparison: Comparison) -> StudyDraft:
    """What the page Studies fills its form with. The study has no name yet: raters will read it, so its
    organiser writes it. Raises CalibriError where fewer than two arms have a picture."""
    arms: list[ArmDraft] = []
    for shot, choice in zip(comparison.shots, comparison.choices or USUAL):
        if shot.image is None:
            continue
        kind = shot.arm.kind
        found = find_calibration(core, visitor, shot, choice) if kind != "base" else None
        short = (short_title(found) if found else "base") or WORDS[kind]
        label = f"{short}, {shot.ask.steps} steps"
        if shot.ask.loras:
            label = f"{label}, LoRA {shot.ask.loras}"[:LONGEST_LABEL]
        if label in [arm.label for arm in arms]:
            suffix = f" (arm {len(arms) + 1})"
            label = label[: LONGEST_LABEL - len(suffix)] + suffix
        arms.append(
            ArmDraft(
                label=label,
                kind=kind,
                calibration=found.to_json() if found else None,
                steps=shot.ask.steps,
                guidance=guidance_of(shot),
                width=shot.ask.width,
                height=shot.ask.height,
                loras=shot.ask.loras,
                negative=shot.ask.negative,
                embedded=shot.ask.embedded,
            )
        )
    if len(arms) < 2:
        raise CalibriError("Expected at least two rendered arms for a study. Render two first.")
    asks = [row[0].ask for row in comparison.rows]
    prompts = "\n".join(dict.fromkeys(a.prompt for a in asks))
    return StudyDraft(tuple(arms), prompts, seeds=len({a.seed for a in asks}))
