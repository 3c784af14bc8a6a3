"""What one open page costs the server's memory."""

from __future__ import annotations

import tracemalloc

import gradio as gr

from studio.ui.blocks import LightSession, StudioBlocks


def make_app(fields: int) -> gr.Blocks:
    with StudioBlocks() as app:
        for number in range(fields):
            field = gr.Textbox(f"{number}")
            field.change(lambda text: text, field, field)
    return app


def test_a_session_keeps_little_however_large_the_app_is() -> None:
    app = make_app(500)
    LightSession(app)
    tracemalloc.start()
    try:
        kept = [LightSession(app) for _ in range(20)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 20 and size / 20 < 5_000


def test_what_one_session_changes_others_do_not_see() -> None:
    app = make_app(2)
    one, other = LightSession(app), LightSession(app)
    key = next(iter(app.blocks))
    changed = gr.Textbox("mine", render=False)
    one[key] = changed
    assert one[key] is changed and key in one
    assert other[key] is app.blocks[key] and app.default_config.blocks[key] is app.blocks[key]
