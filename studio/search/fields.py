"""The settings of a search, as fields of the page Search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from calibri.backbones.layouts import GRANULARITIES
from calibri.calibration.reading import ENDINGS
from calibri.search.config import USUAL_FRONT
from calibri.search.form import LARGEST_SEED
from calibri.search.presets import PRESETS
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.offers import offer_rewards
from studio.rendering.prompt_files import lay_out_prompt_file
from studio.rendering.view import steps_slider
from studio.search.form import MEMBERS, USUAL, starts

OBJECTIVES = [("Difference of rewards", "difference"), ("Win rate", "win-rate")]
CONVERGENCE = [
    ("As the preset", ""),
    ("When validation stops rising", "validation"),
    ("By the paper's rule", "paper"),
    ("Only at its limits", "none"),
]


@dataclass(frozen=True)
class Fields:
    """`by_name`: in the order of USUAL. `upload`: brings a start from a file; `prompt_file`: prompts."""

    by_name: dict[str, Component]
    upload: gr.UploadButton
    prompt_file: gr.UploadButton

    @property
    def all(self) -> list[Component]:
        return list(self.by_name.values())

    @staticmethod
    def names() -> list[str]:
        """In the order of `all`."""
        return list(USUAL)

    @staticmethod
    def read(values: tuple[Any, ...]) -> dict[str, Any]:
        """What the fields hold, by name."""
        return dict(zip(USUAL, values, strict=True))


def lay_out_fields(core: Core, sweeps: Sweeps, usual: dict[str, Any]) -> Fields:
    """The fields inside the current column."""
    first, upload = _first_fields(core, sweeps, usual)
    with gr.Accordion("More settings", open=False, elem_id="search-more"):
        made = first | _more_fields(core, usual)
        prompt_file = lay_out_prompt_file("search-prompt-file")
    return Fields({name: made[name] for name in USUAL}, upload, prompt_file)


def list_offers(core: Core) -> list[tuple[str, str]]:
    """(words, name) of the rewards that fit the backbone which is there, or on its way."""
    name = core.spec.name if core.spec is not None else core.backbone_name
    return offer_rewards(name, core.rewards.loading)


def _number(usual: dict[str, Any], name: str, label: str, **more: Any) -> gr.Number:
    return gr.Number(usual[name], label=label, **{"precision": 0, "minimum": 0, "min_width": 90, **more})


def _first_fields(
    core: Core, sweeps: Sweeps, usual: dict[str, Any]
) -> tuple[dict[str, Component], gr.UploadButton]:
    made: dict[str, Component] = {}
    made["title"] = gr.Textbox(
        label="Title", placeholder="named after its rewards", max_lines=1, elem_id="search-title"
    )
    made["granularity"] = gr.Radio(
        [(g.capitalize(), g) for g in GRANULARITIES],
        value=usual["granularity"],
        label="Granularity",
        info="How finely the scales are tied together",
        elem_id="search-granularity",
    )
    made["members"] = gr.Dropdown(
        [(words, key) for key, (words, _) in MEMBERS.items()],
        value=usual["members"],
        label="What is searched",
        elem_id="search-members",
    )
    made["start"] = gr.Dropdown(
        starts(core, sweeps), value=usual["start"], label="Start from", elem_id="search-start"
    )
    upload = gr.UploadButton(
        "Start from a calibration or sweep file",
        file_types=[*ENDINGS, ".jsonl"],
        size="sm",
        elem_id="search-upload",
    )
    made["rewards"] = gr.Dropdown(
        list_offers(core),
        value=usual["rewards"],
        multiselect=True,
        allow_custom_value=True,
        label="Rewards",
        info="Type name:2 for a weight of 2, in spreads of the reward over the base",
        elem_id="search-rewards",
    )
    made["front"] = gr.Radio(
        [("One calibration", 0), ("A front", USUAL_FRONT)],
        value=usual["front"],
        label="What comes out",
        info="A front: several calibrations that trade one reward for another, to choose from",
        elem_id="search-front",
    )
    made["steps"] = steps_slider(usual["steps"], label="Steps", elem_id="search-steps")
    with gr.Row():
        made["images"] = _number(
            usual, "images", "Images at most", minimum=1, min_width=120, elem_id="search-images"
        )
        made["minutes"] = _number(
            usual,
            "minutes",
            "Minutes at most",
            info="0: no limit",
            precision=None,
            min_width=120,
            elem_id="search-minutes",
        )
    return made, upload


def _more_fields(core: Core, usual: dict[str, Any]) -> dict[str, Component]:
    made: dict[str, Component] = {}
    made["preset"] = gr.Dropdown(
        list(PRESETS), value=usual["preset"], label="Preset", info="Chooses what is left empty below"
    )
    made["strength"] = gr.Number(usual["strength"], label="Guidance that a guided pair starts with")
    made["size"] = gr.Textbox(
        label="Size of the pictures", placeholder="empty: the backbone's own; or 512x512", max_lines=1
    )
    with gr.Row():
        made["seed"] = _number(usual, "seed", "Seed", maximum=LARGEST_SEED)
        made["sigma0"] = _number(usual, "sigma0", "First step", info="0: the preset's", precision=None)
    with gr.Row():
        made["popsize"] = _number(usual, "popsize", "Candidates", info="0: by the number of scales")
        made["bucket"] = _number(usual, "bucket", "Pairs a generation", info="0: the preset's")
    made["bounds"] = gr.Textbox(
        label="Bounds of the scales", placeholder="0.5, 1.5 on tabletop, else -1, 2", max_lines=1
    )
    made["objective"] = gr.Dropdown(OBJECTIVES, value=usual["objective"], label="Objective")
    made["convergence"] = gr.Dropdown(CONVERGENCE, value=usual["convergence"], label="Stops by itself")
    made["judges"] = gr.Dropdown(
        list_offers(core),
        value=usual["judges"],
        multiselect=True,
        label="Judges",
        info="Measured in validations and at the end, never optimised",
    )
    made["stop_on_fall"] = gr.Checkbox(
        usual["stop_on_fall"],
        label="Stop when a judge falls",
        info="On validation pairs, while the reward rises",
        elem_id="stop-on-fall",
    )
    made["held_out_pairs"] = _number(usual, "held_out_pairs", "Held-out pairs to judge on", min_width=160)
    made["prompts"] = gr.Textbox(
        label="Prompts, one a line",
        lines=4,
        max_lines=8,
        placeholder="At least 10; empty: a set that suits the backbone",
        elem_id="search-prompts",
    )
    return made
