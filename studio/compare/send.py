"""Where pictures go from the page Compare: into files, onto the mixing desk, into a vote study."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from calibri.errors import CalibriError
from studio.compare import png_settings
from studio.compare.form import USUAL
from studio.compare.layout import Page
from studio.core import Core
from studio.rendering.arms import NOTHING, WORDS, Choice, arm_of, short_title
from studio.rendering.places import ArmDraft, SharedPlace, StudyDraft
from studio.rendering.shots import Comparison, Shot, guidance_of
from studio.scales.edits import opened
from studio.ui.errors import guard
from studio.ui.events import QUEUED

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

DOWNLOAD = """(file) => { if (!file) return; const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name || 'picture.png'; link.click(); }"""
At = Callable[[object, Any], tuple[Comparison | None, int]]


def files(
    core: Core,
    page: Page,
    at: At,
) -> None:
    """Downloads: a file is made by the click and taken by the browser."""

    def saved(name: str, content: bytes) -> str:
        return save_bytes_to_cache(content, name, cache_dir=page.file.GRADIO_CACHE)

    def one(column: int) -> Callable[..., str]:
        @guard
        def on_get(visitor_id: str | None, key: Any) -> str:
            made, row = at(visitor_id, key)
            if made is None or not made.shots:
                raise CalibriError("There is no picture to save yet. Render one first.")
            shot = made.rows[row][column]
            return saved(png_settings.file_name(shot), png_settings.png_of(made, shot))

        return on_get

    for column, button in enumerate(page.gets):
        button.click(one(column), [page.visitor, page.now], page.file, **QUEUED).success(
            None, page.file, js=DOWNLOAD, api_visibility="private"
        )

    @guard
    def on_all(visitor_id: str | None, key: Any) -> str:
        made, _ = at(visitor_id, key)
        if made is None:
            raise CalibriError("There is no picture to save yet. Render one first.")
        return saved("comparison.zip", png_settings.zip_of(made))

    page.get_all.click(on_all, [page.visitor, page.now], page.file, **QUEUED).success(
        None, page.file, js=DOWNLOAD, api_visibility="private"
    )


def elsewhere(
    core: Core,
    page: Page,
    at: At,
) -> None:
    """To the mixing desk, and to a vote study."""

    def one(column: int) -> Callable[..., None]:
        @guard
        def on_send(visitor_id: str | None, key: Any) -> None:
            made, row = at(visitor_id, key)
            if made is None or not made.shots:
                raise CalibriError("There is nothing to send yet. Render first.")
            choice = (made.choices or USUAL)[column]
            found = calibration_at(core, visitor_id, made.rows[row][column], choice)
            opened(core, visitor_id, found)
            core.visitors.of(visitor_id).place(SharedPlace).ask = made.rows[row][column].ask

        return on_send

    for column, button in enumerate(page.sends):
        button.click(one(column), [page.visitor, page.now], None, **QUEUED).success(
            None, js="() => { window.location.href = 'scales'; }", api_visibility="private"
        )

    @guard
    def on_study(visitor_id: str | None, key: Any, request: gr.Request) -> None:
        core.rights.study_organisers_only(core.rights.username(request))
        made, _ = at(visitor_id, key)
        if made is None:
            raise CalibriError("There is nothing to send yet. Render first.")
        draft = study_of(core, visitor_id, made)
        core.visitors.of(visitor_id).place(SharedPlace).draft = draft

    page.to_study.click(on_study, [page.visitor, page.now], None, **QUEUED).success(
        None, js="() => { window.location.href = 'studies'; }", api_visibility="private"
    )


def calibration_at(core: Core, visitor: object, shot: Shot, choice: Choice) -> Calibration:
    """The calibration of one picture. Raises CalibriError for base and for what is missing."""
    found = shot.arm.calibration
    if found is None and choice.what not in ("base", NOTHING):
        found = arm_of(core, core.visitors.of(visitor), choice).calibration  # prepared pictures
    if found is None:
        raise CalibriError(
            "The base has no scales of its own: all of them are 1. Choose a calibrated picture."
        )
    return found


def study_of(core: Core, visitor: object, comparison: Comparison) -> StudyDraft:
    """What the page Studies fills its form with. Raters read a study's name, so that it is left to its
    organiser.

    Raises CalibriError where fewer than two arms have a picture.
    """
    arms: list[ArmDraft] = []
    for shot, choice in zip(comparison.shots, comparison.choices or USUAL):
        if shot.image is None:
            continue
        kind, found = shot.arm.kind, None
        if kind != "base":
            found = calibration_at(core, visitor, shot, choice)
        short = (short_title(found) if found else "base") or WORDS[kind]
        label = f"{short}, {shot.ask.steps} steps"
        taken = [arm.label for arm in arms]
        arms.append(
            ArmDraft(
                label=label if label not in taken else f"{label} (arm {len(arms) + 1})",
                kind=kind,
                calibration=found.to_json() if found else None,
                steps=shot.ask.steps,
                guidance=guidance_of(shot),
            )
        )
    if len(arms) < 2:
        raise CalibriError("A study compares at least two arms. Render two first.")
    asks = [row[0].ask for row in comparison.rows]
    prompts = "\n".join(dict.fromkeys(a.prompt for a in asks))
    return StudyDraft(tuple(arms), prompts, seeds=len({a.seed for a in asks}))
