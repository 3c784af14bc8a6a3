"""What pages that paint show of their shots: captions, and the fields that ask for a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gradio as gr

from studio.rendering.asks import LARGEST_SEED, MOST_STEPS, Ask
from studio.rendering.shots import Shot, facts
from studio.ui.elements import caption, primary_button


def write_captions(row: Sequence[Shot], base: Shot | None = None) -> list[str]:
    """The HTML under each picture. `base`: the shot that rewards are compared with."""
    rewards = base.rewards if base is not None else None
    return [
        caption(shot.arm.kind, shot.arm.name, facts(shot), shot.rewards, rewards, note=shot.arm.missing)
        for shot in row
    ]


class AskFields(NamedTuple):
    """The row of fields that asks for a picture."""

    prompt: gr.Textbox
    seed: gr.Number
    roll: gr.Button
    steps: gr.Slider
    run: gr.Button


def lay_out_ask(start: Ask) -> AskFields:
    """Put the row into the current Blocks, filled with `start`."""
    return AskFields(
        prompt=gr.Textbox(
            start.prompt, label="Prompt", lines=1, max_lines=3, scale=6, min_width=280, elem_id="prompt"
        ),
        seed=gr.Number(
            start.seed,
            label="Seed",
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
            min_width=90,
            elem_id="seed",
        ),
        roll=gr.Button("Roll dice", scale=0, min_width=110, elem_id="dice"),
        steps=gr.Slider(
            1, MOST_STEPS, start.steps, step=1, label="Steps", scale=2, min_width=160, elem_id="steps"
        ),
        run=primary_button("Render", "render", scale=0, min_width=110),
    )
