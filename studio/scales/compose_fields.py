"""What is asked of who composes several calibrations: on the pages Scales and Library."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from calibri.calibration.compose import MOST_PARTS

HOW = [("Blend: the weighted mean of each scale", "blend"), ("Product: one after the other", "product")]


class Composer(NamedTuple):
    """`parts`: ids of saved calibrations of the loaded backbone."""

    parts: gr.Dropdown
    weights: gr.Textbox
    way: gr.Radio
    run: gr.Button

    @property
    def asked(self) -> list[Any]:
        return [self.parts, self.weights, self.way]


def lay_out_composer(page: str) -> Composer:
    """`page`: in front of the names of its elements."""
    parts = gr.Dropdown(
        [],
        value=[],
        multiselect=True,
        max_choices=MOST_PARTS,
        label="Saved calibrations, two or more",
        elem_id=f"{page}-parts",
    )
    weights = gr.Textbox(
        label="Weights",
        info="One number for each, with commas, in the order above. Empty: 1 for each.",
        placeholder="2, 1",
        max_lines=1,
        elem_id=f"{page}-weights",
    )
    way = gr.Radio(HOW, value="blend", label="How", elem_id=f"{page}-way")
    run = gr.Button("Compose on the desk", size="sm", elem_id=f"{page}-compose")
    return Composer(parts, weights, way, run)
