"""Colours, fonts and style sheet of all pages: the only place of colours besides studio.css."""

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

#: Variable of Gradio's themes → its colour in light and in dark.
INKS = {
    "body_background_fill": ("#f6f6f6", "#161616"),
    "body_text_color": ("#1c1c1c", "#ececec"),
    "body_text_color_subdued": ("#565656", "#b4b4b4"),
    "background_fill_primary": ("#ffffff", "#202020"),
    "background_fill_secondary": ("#efefef", "#2a2a2a"),
    "block_background_fill": ("#ffffff", "#202020"),
    "block_label_text_color": ("#4a4a4a", "#c4c4c4"),
    "block_info_text_color": ("#565656", "#b4b4b4"),
    "border_color_primary": ("#d4d4d4", "#404040"),
    "input_border_color": ("#949494", "#6e6e6e"),
    "input_background_fill": ("#ffffff", "#191919"),
    "input_placeholder_color": ("#6a6a6a", "#9c9c9c"),
    "button_primary_background_fill": ("#0072B2", "#0072B2"),
    "button_primary_background_fill_hover": ("#005f95", "#005f95"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
    "link_text_color": ("#00578a", "#7cc4ee"),
}


def theme() -> Base:
    """Quiet greys around the pictures, one blue for what one presses. System fonts: nothing is fetched."""
    import gradio as gr

    shades = "#eaf4fb #d0e7f5 #a3d0ec #6fb4de #3d97cd #0072B2 #00649c #005585 #00456c #003554 #00253b"
    blue = gr.themes.Color(*shades.split())
    made = gr.themes.Base(
        primary_hue=blue,
        secondary_hue=blue,
        neutral_hue="gray",
        radius_size="sm",
        spacing_size="sm",
        text_size="md",
        font=FONT,
        font_mono=MONO,
    )
    lights = {name: light for name, (light, _) in INKS.items()}
    darks = {f"{name}_dark": dark for name, (_, dark) in INKS.items()}
    return made.set(input_border_width="1px", **lights, **darks)


@cache
def css() -> str:
    return Path(__file__).with_name("studio.css").read_text(encoding="utf-8")


@cache
def head() -> str:
    """Scripts of all pages: a stand-in for refused storage; Ctrl+Enter presses the primary button; fields
    wait for their first values; links are copied; pictures side by side are enlarged together; words of the
    field have tooltips."""
    here = Path(__file__)
    names = ("storage.js", "keys.js", "filling.js", "copying.js", "zoom.js")
    scripts = [here.with_name(name).read_text(encoding="utf-8") for name in names]
    from studio.ui.glossary import script as words

    return "".join(f"<script>{script}</script>" for script in [*scripts, words()])
