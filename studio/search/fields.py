"""The settings of a search, as fields of the page Search."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from calibri.backbones.layouts import GRANULARITIES
from calibri.search.config import PRESETS
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.rewards import known_rewards
from studio.rendering.asks import LARGEST_SEED
from studio.search.form import MEMBERS, Form, starts


def form_fields(core: Core, sweeps: Sweeps, usual: Form) -> tuple[list[Any], gr.UploadButton]:
    """The fields in the order of Form, and the button that brings a start from a file."""
    made: dict[str, Any] = {}
    made["title"] = gr.Textbox(
        label="Title", placeholder="named after its rewards", max_lines=1, elem_id="search-title"
    )
    made["granularity"] = gr.Radio(
        [(g.capitalize(), g) for g in GRANULARITIES],
        value="layer",
        label="Granularity",
        info="How finely the scales are tied together",
        elem_id="search-granularity",
    )
    made["members"] = gr.Dropdown(
        [(words, key) for key, (words, _) in MEMBERS.items()],
        value="start",
        label="What is searched",
        elem_id="search-members",
    )
    made["start"] = gr.Dropdown(
        starts(core, sweeps), value=usual.start, label="Start from", elem_id="search-start"
    )
    upload = gr.UploadButton(
        "Start from a calibration or sweep file",
        file_types=[".json", ".jsonl"],
        size="sm",
        elem_id="search-upload",
    )
    made["rewards"] = gr.Dropdown(
        known_rewards(),
        value=list(usual.rewards),
        multiselect=True,
        allow_custom_value=True,
        label="Rewards",
        info="Type name:2 for a weight of 2, in spreads of the reward over the base",
        elem_id="search-rewards",
    )
    made["steps"] = gr.Slider(1, 50, usual.steps, step=1, label="Steps", elem_id="search-steps")
    with gr.Row():
        made["images"] = gr.Number(
            usual.images,
            label="Images at most",
            precision=0,
            minimum=1,
            min_width=120,
            elem_id="search-images",
        )
        made["minutes"] = gr.Number(
            0, label="Minutes at most", info="0: no limit", minimum=0, min_width=120, elem_id="search-minutes"
        )
    with gr.Accordion("More settings", open=False, elem_id="search-more"):
        made["preset"] = gr.Dropdown(
            list(PRESETS), value=usual.preset, label="Preset", info="Chooses what is left empty below"
        )
        made["strength"] = gr.Number(1.5, label="Guidance that a guided pair starts with")
        with gr.Row():
            made["seed"] = gr.Number(
                0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=90
            )
            made["sigma0"] = gr.Number(0, label="First step", info="0: the preset's", minimum=0, min_width=90)
        with gr.Row():
            made["popsize"] = gr.Number(
                0, label="Candidates", info="0: by the number of scales", precision=0, minimum=0, min_width=90
            )
            made["bucket"] = gr.Number(
                0, label="Pairs a generation", info="0: the preset's", precision=0, minimum=0, min_width=90
            )
        made["bounds"] = gr.Textbox(
            label="Bounds of the scales", placeholder="0.5, 1.5 on tabletop, else -1, 2", max_lines=1
        )
        made["objective"] = gr.Dropdown(
            [("Difference of rewards", "difference"), ("Win rate", "win-rate")],
            value="difference",
            label="Objective",
        )
        made["convergence"] = gr.Dropdown(
            [
                ("As the preset", ""),
                ("When validation stops rising", "validation"),
                ("By the paper's rule", "paper"),
                ("Only at its limits", "none"),
            ],
            value="",
            label="Stops by itself",
        )
        made["judges"] = gr.Dropdown(
            known_rewards(),
            value=list(usual.judges),
            multiselect=True,
            label="Judges",
            info="Measured at the end, never optimised",
        )
        made["held_out_pairs"] = gr.Number(128, label="Held-out pairs to judge on", precision=0, minimum=0)
        made["prompts"] = gr.Textbox(
            label="Prompts, one a line",
            lines=4,
            max_lines=8,
            placeholder="tabletop has its own; another backbone needs at least 10",
            elem_id="search-prompts",
        )
    return [made[field.name] for field in dataclasses.fields(Form)], upload
