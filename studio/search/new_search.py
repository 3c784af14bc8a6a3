"""The form of a new search: its cost, a start or prompts from a file, and what suits the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import escape

from calibri.search.pictures import preset_note
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.rendering.arms import DESK
from studio.rendering.prompt_files import read_prompt_file
from studio.rendering.view import steps_slider
from studio.search.estimate import estimate
from studio.search.fields import Fields, list_offers
from studio.search.form import FOLLOWS, core_usual, open_start, preset_steps, starts, suit
from studio.search.jobs import Searches
from studio.search.layout import Parts
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, QUEUED, take_file, when_ready


@dataclass(frozen=True)
class NewSearch:
    """The form: its cost, a start from a file, and what suits the loaded backbone."""

    core: Core
    searches: Searches
    sweeps: Sweeps

    def wire(self, parts: Parts) -> None:
        fields, by_name = parts.fields, parts.fields.by_name
        gr.on(
            [parts.beats["speed"].change, *(field.change for field in fields.all)],  # type: ignore[attr-defined]  # events are made at run time
            guard(self.on_change),
            [parts.visitor, *fields.all],
            parts.cost,
            **IN_ORDER,
        )
        fields.upload.upload(
            guard(self.on_upload),
            [parts.visitor, fields.upload, by_name["granularity"]],
            by_name["start"],
            **QUEUED,
        )
        by_name["preset"].input(  # type: ignore[attr-defined]  # events are made at run time
            guard(self.on_preset), [by_name["preset"], by_name["steps"]], by_name["steps"], **IN_ORDER
        )
        fields.prompt_file.upload(guard(read_prompt_file), fields.prompt_file, by_name["prompts"], **QUEUED)
        changed = [by_name["start"], *(by_name[name] for name in FOLLOWS), parts.suited, parts.cost]
        when_ready(self.core.host, parts.visitor, self.on_ready, [parts.suited, *fields.all], changed)

    def on_change(self, visitor: object, *values: Any) -> str:
        return estimate(self.core, self.searches, self.sweeps, visitor, Fields.read(values))

    def on_preset(self, preset: str, steps: object) -> Any:
        """The steps of the preset, unless somebody has chosen others."""
        backbone = self.core.host.backbone
        if backbone is None:
            return gr.skip()
        if note := preset_note(preset, backbone.spec):
            gr.Info(escape(note), duration=5)
        return preset_steps(preset, steps, backbone.spec)

    def on_upload(self, visitor: object, path: str, granularity: str) -> gr.Dropdown:
        gr.Info(escape(open_start(self.core, visitor, take_file(path), granularity)), duration=5)
        return gr.Dropdown(value=DESK)

    def on_ready(self, visitor: object, held: dict[str, Any], *values: Any) -> list[Any]:
        """What suits the loaded backbone: starts, and rewards and steps where nobody changed them."""
        typed = Fields.read(values)
        typed |= suit(self.core, typed, held)
        usual, choices = core_usual(self.core), list_offers(self.core)
        return [
            gr.Dropdown(starts(self.core, self.sweeps)),
            gr.Dropdown(choices, value=typed["rewards"]),
            gr.Dropdown(choices, value=typed["judges"]),
            steps_slider(typed["steps"]),
            {name: usual[name] for name in FOLLOWS},
            estimate(self.core, self.searches, self.sweeps, visitor, typed),
        ]
