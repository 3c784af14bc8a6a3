"""A part of the form of a new study: how many votes it needs, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from calibri.errors import StudyError, sentence
from calibri.words import duration, grouped
from studio.core import Core
from studio.studies.planning import read_prompts
from studio.studies.protocol import Protocol
from studio.studies.studies import Studies
from studio.studies.votes_needed import USUAL, gather_experience, plan_study, read_wish
from studio.ui.errors import guard
from studio.ui.events import QUEUED
from studio.ui.templates import fill_template

HEAD = (
    "true share",
    "votes",
    "prompts",
    "raters a pair",
    "raters",
    "pictures to render",
    "time of a rater",
    "time of all",
)
NAMES = {
    "prompt_icc": ("likeness of votes on one prompt", "{:.2g}"),
    "rater_icc": ("likeness of votes of one rater", "{:.2g}"),
    "seconds_a_vote": ("seconds a vote", "{:.3g}"),
}


@dataclass(frozen=True)
class PlanPanel:
    """The components."""

    power: gr.Number
    share: gr.Number
    work_out: gr.Button
    told: gr.HTML


def lay_out() -> PlanPanel:
    """Make the components inside the current Blocks."""
    with gr.Accordion("How many votes are needed?", open=False, elem_id="new-plan"):
        with gr.Row():
            share = gr.Number(
                55, label="True share of the better arm, %", minimum=50.1, maximum=99.9, min_width=120
            )
            power = gr.Number(80, label="Chance to find it, %", minimum=6, maximum=99, min_width=120)
        work_out = gr.Button("Work it out", size="md", elem_id="new-plan-do")
        told = gr.HTML("", elem_id="new-plan-told")
    return PlanPanel(power, share, work_out, told)


def wire(panel: PlanPanel, core: Core, studies: Studies, fields: Sequence[Any], usual: int) -> None:
    """Connect the panel. `fields`: the form's arms, prompts, pictures a prompt and protocol. `usual`: prompts
    of a study that names none."""
    handler = guard(make_handler(core, studies, usual))
    panel.work_out.click(handler, [*fields, panel.share, panel.power], panel.told, **QUEUED)


def make_handler(core: Core, studies: Studies, usual: int) -> Callable[..., str]:
    """What the button calls."""

    def on_plan(
        arms: Sequence[Any],
        prompts: str,
        seeds: float | None,
        rules: str,
        share: float | None,
        power: float | None,
        request: gr.Request,
    ) -> str:
        core.rights.study_organisers_only(request)  # it tells of finished studies
        number = len(read_prompts(prompts)) if (prompts or "").strip() else usual
        shares = sorted({*USUAL, float(share)} if share else USUAL)
        common = {
            "share": shares,
            "power": power,
            "arms": max(2, len(arms or ())),
            "seeds": seeds,
            **read_rules(rules),
        }
        known = gather_experience(studies)
        return draw_plan(
            plan_study(read_wish(common), known),
            plan_study(read_wish({**common, "prompts": number}), known),
            number,
        )

    return on_plan


def read_rules(rules: str) -> dict[str, Any]:
    """What a protocol (JSON) says of raters and checks. Raises StudyError."""
    try:
        protocol = Protocol.model_validate_json(str(rules or ""))
    except ValidationError as error:
        raise StudyError(sentence(error, "protocol")) from None
    fields = {name: getattr(protocol, name) for name in ("cap", "gold_rate", "repeat_rate")}
    return {**fields, "raters_a_pair": protocol.votes_per_pair}


def draw_plan(free: dict[str, Any], fixed: dict[str, Any], prompts: int) -> str:
    """Both tables: as many prompts as it takes, and these prompts with as many raters as it takes."""
    assumed = [
        (words, form.format(free["assumed"][name]["value"]), free["assumed"][name]["from"])
        for name, (words, form) in NAMES.items()
    ]
    return fill_template(
        "studies/pages/plan.html",
        head=HEAD,
        free=[_row(plan) for plan in free["plans"]],
        fixed=[_row(plan) for plan in fixed["plans"]],
        prompts=prompts,
        assumed=assumed,
        remarks=free["remarks"],
    )


def _row(plan: dict[str, Any]) -> list[str]:
    share = f"{plan['share']:g} %"
    if plan["votes"] is None:
        return [share, plan["why"], *[""] * (len(HEAD) - 2)]
    numbers = (plan[name] for name in ("votes", "prompts", "raters_a_pair", "raters", "pictures"))
    times = (duration(60 * plan["minutes_a_rater"]), duration(3600 * plan["hours_in_all"]))
    return [share, *(grouped(number) for number in numbers), *times]
