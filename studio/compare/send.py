"""Where pictures go from the page Compare: into files, onto the mixing desk, into a vote study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from calibri.errors import CalibriError
from studio.compare import png_settings as picturefiles
from studio.compare.comparison import USUAL
from studio.compare.layout import Page
from studio.compare.measures import calibration_at, study_of
from studio.core import Services
from studio.rendering.shots import Comparison
from studio.scales.edits import opened
from studio.ui.elements import QUEUED, guard

DOWNLOAD = """(file) => { if (!file) return; const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name || 'picture.png'; link.click(); }"""
At = Callable[[object, Any], tuple[Comparison | None, int]]


def files(
    services: Services,
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
            return saved(picturefiles.file_name(shot), picturefiles.png_of(made, shot))

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
        return saved("comparison.zip", picturefiles.zip_of(made))

    page.get_all.click(on_all, [page.visitor, page.now], page.file, **QUEUED).success(
        None, page.file, js=DOWNLOAD, api_visibility="private"
    )


def elsewhere(
    services: Services,
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
            found = calibration_at(services, visitor_id, made.rows[row][column], choice)
            opened(services, visitor_id, found)
            services.visitors.of(visitor_id).carried = made.rows[row][column].ask

        return on_send

    for column, button in enumerate(page.sends):
        button.click(one(column), [page.visitor, page.now], None, **QUEUED).success(
            None, js="() => { window.location.href = 'scales'; }", api_visibility="private"
        )

    @guard
    def on_study(visitor_id: str | None, key: Any, request: gr.Request) -> None:
        services.study_organisers_only(services.username(request))
        made, _ = at(visitor_id, key)
        if made is None:
            raise CalibriError("There is nothing to send yet. Render first.")
        services.visitors.of(visitor_id).study = study_of(services, visitor_id, made)

    page.to_study.click(on_study, [page.visitor, page.now], None, **QUEUED).success(
        None, js="() => { window.location.href = 'studies'; }", api_visibility="private"
    )
