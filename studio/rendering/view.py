"""What pages that paint show of their shots: captions, and the fields that ask for a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from studio.rendering.asks import SLIDER_GUIDANCE, SLIDER_STEPS, Ask
from studio.rendering.shots import Shot, facts
from studio.ui.elements import caption, primary_button

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec


def write_captions(row: Sequence[Shot], base: Shot | None = None) -> list[str]:
    """The HTML under each picture. `base`: the shot that rewards are compared with."""
    rewards = base.rewards if base is not None else None
    return [
        caption(shot.arm.kind, shot.arm.name, facts(shot), shot.rewards, rewards, note=shot.arm.missing)
        for shot in row
    ]


def lay_out_seed(seed: int) -> gr.Textbox:
    """A field of text: a browser rounds numbers above 2^53, and a seed has up to 63 bits."""
    return gr.Textbox(str(seed), label="Seed", max_lines=1, min_width=90, elem_id="seed")


def steps_slider(value: int, **options: Any) -> gr.Slider:
    """It ends at SLIDER_STEPS, or at `value` where that is more: as components and as their updates."""
    return gr.Slider(value=value, minimum=1, maximum=max(SLIDER_STEPS, value), step=1, **options)


def guidance_slider(value: float, **options: Any) -> gr.Slider:
    """Likewise, from 1, which is none."""
    return gr.Slider(value=value, minimum=1, maximum=max(SLIDER_GUIDANCE, value), step=0.1, **options)


def embeds_guidance(spec: BackboneSpec | None) -> bool:
    """Whether the backbone is a distilled model that reads its guidance."""
    return spec is not None and spec.guidance is not None


class AskFields(NamedTuple):
    """The row of fields that asks for a picture. `fresh`: whether each press of Render draws a new seed."""

    prompt: gr.Textbox
    seed: gr.Textbox
    fresh: gr.Checkbox
    roll: gr.Button
    steps: gr.Slider
    run: gr.Button


def lay_out_ask(start: Ask, *, offers_fresh: bool = False) -> AskFields:
    """Put the row into the current Blocks, filled with `start`. `offers_fresh`: where a page draws seeds."""
    return AskFields(
        prompt=gr.Textbox(
            start.prompt, label="Prompt", lines=1, max_lines=3, scale=6, min_width=280, elem_id="prompt"
        ),
        seed=lay_out_seed(start.seed),
        fresh=gr.Checkbox(
            False, label="New seed each time", visible=offers_fresh, min_width=110, elem_id="fresh-seed"
        ),
        roll=gr.Button("Roll dice", scale=0, min_width=110, elem_id="dice"),
        steps=steps_slider(start.steps, label="Steps", scale=2, min_width=160, elem_id="steps"),
        run=primary_button("Render", "render", scale=0, min_width=110),
    )
