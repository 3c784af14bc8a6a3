"""Colours, fonts and style sheet of all pages. The colours of LOOK are here and in studio.css beside this
file, nowhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio.themes import Base

BASE, CALIBRATED, ENSEMBLE = "#7F7F7F", "#0072B2", "#9467BD"
ATTENTION, MLP, FUSED = "#009E73", "#E69F00", "#56B4E9"
WARM, COOL = "#C8553D", "#3B76B5"

ARM_COLOURS = {"base": BASE, "calibrated": CALIBRATED, "ensemble": ENSEMBLE}
LAYER_COLOURS = {"attn": ATTENTION, "attn2": ATTENTION, "mlp": MLP, "fused": FUSED, "block": FUSED}

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> Base:
    """Quiet greys around the pictures, one blue for what one presses. System fonts: nothing is fetched."""
    import gradio as gr

    shades = "#eaf4fb #d0e7f5 #a3d0ec #6fb4de #3d97cd #0072B2 #00649c #005585 #00456c #003554 #00253b"
    blue = gr.themes.Color(*shades.split())
    return gr.themes.Base(
        primary_hue=blue,
        secondary_hue=blue,
        neutral_hue="gray",
        radius_size="sm",
        spacing_size="sm",
        text_size="md",
        font=FONT,
        font_mono=MONO,
    ).set(
        body_background_fill="#f6f6f6",
        body_background_fill_dark="#161616",
        body_text_color="#1c1c1c",
        body_text_color_dark="#ececec",
        body_text_color_subdued="#565656",
        body_text_color_subdued_dark="#b4b4b4",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#202020",
        background_fill_secondary="#efefef",
        background_fill_secondary_dark="#2a2a2a",
        block_background_fill="#ffffff",
        block_background_fill_dark="#202020",
        block_label_text_color="#4a4a4a",
        block_label_text_color_dark="#c4c4c4",
        block_info_text_color="#565656",
        block_info_text_color_dark="#b4b4b4",
        border_color_primary="#d4d4d4",
        border_color_primary_dark="#404040",
        input_border_width="1px",
        input_border_color="#949494",
        input_border_color_dark="#6e6e6e",
        input_background_fill="#ffffff",
        input_background_fill_dark="#191919",
        input_placeholder_color="#6a6a6a",
        input_placeholder_color_dark="#9c9c9c",
        button_primary_background_fill="#0072B2",
        button_primary_background_fill_hover="#005f95",
        button_primary_background_fill_dark="#0072B2",
        button_primary_background_fill_hover_dark="#005f95",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        link_text_color="#00578a",
        link_text_color_dark="#7cc4ee",
    )


@cache
def css() -> str:
    return Path(__file__).with_name("studio.css").read_text(encoding="utf-8")


@cache
def head() -> str:
    """Scripts of all pages: Ctrl+Enter presses the primary button; fields wait for their first values."""
    here = Path(__file__)
    scripts = [here.with_name(name).read_text(encoding="utf-8") for name in ("keys.js", "filling.js")]
    return "".join(f"<script>{script}</script>" for script in scripts)
