"""The form that makes a new study: a part of the page Studies."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from calibri.calibration.artifact import Calibration
from calibri.errors import StudyError, sentence
from studio.core import Core
from studio.rendering.places import SharedPlace
from studio.studies.planning import NewArm, NewStudy, read_prompts
from studio.studies.protocol import PRESETS, Protocol
from studio.studies.storage.study_store import Study
from studio.studies.studies import Studies
from studio.ui.elements import empty
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, QUEUED, visitor_state, when_loaded

NO_ARMS = "Add at least two arms. An arm is what is compared: a calibration and its settings."
LONGEST_LABEL = 40


def arm_choices(core: Core) -> list[tuple[str, str]]:
    """The base and all saved calibrations of the loaded backbone."""
    saved = core.calibrations.entries(core.backbone_name or None)
    return [("Base (no calibration)", ""), *((entry.title, entry.id) for entry in saved)]


def new_arm(core: Core, choice: str, label: str, steps: float, guidance: float) -> dict[str, Any]:
    """An arm as the form keeps it. Raises StudyError for a field that does not fit."""
    if steps is None or guidance is None:
        raise StudyError("Give the arm its steps and its guidance.")
    found: Calibration | None = core.calibrations.get(choice).calibration if choice else None
    kind = "base" if found is None else "ensemble" if found.is_ensemble else "calibrated"
    own = label.strip()
    short = (found.title if found else "base").partition(",")[0][:LONGEST_LABEL].strip() or kind
    extra = "" if guidance == 1 else f", guidance {guidance:g}"
    made = {
        "label": own or f"{short} ({int(steps)} steps{extra})",
        "kind": kind,
        "calibration": found.to_json() if found else None,
        "steps": int(steps),
        "guidance": float(guidance),
    }
    try:
        NewArm.model_validate(made)
    except ValidationError as error:
        raise StudyError(sentence(error, "arm")) from None
    return made


def arms_words(arms: list[dict[str, Any]]) -> str:
    if not arms:
        return empty(NO_ARMS)
    lines = "".join(
        f"<li><b>{html.escape(a['label'])}</b>: {a['kind']}, {a['steps']} steps"
        + (f", guidance {a['guidance']:g}" if a["guidance"] != 1 else "")
        + "</li>"
        for a in arms
    )
    return f"<ol style='margin:4px 0 4px 20px;list-style:decimal'>{lines}</ol>"


def create(
    core: Core,
    studies: Studies,
    name: str,
    arms: list[dict[str, Any]],
    prompts: str,
    seeds: float,
    protocol: str,
    seed: str,
) -> Study:
    """Make the study and begin to render it. Raises StudyError that names the field."""
    if not name.strip():
        raise StudyError("Give the study a name.")
    if len(arms) < 2:
        raise StudyError(NO_ARMS)
    try:
        study = studies.create(
            NewStudy(
                name=name.strip(),
                arms=tuple(NewArm(**arm) for arm in arms),
                prompts=read_prompts(prompts),
                seeds_per_prompt=int(seeds or 0),
                backbone=core.backbone_name or core.settings.backbone,
                protocol=Protocol.model_validate_json(protocol),
                seed=_seed(seed),
            )
        )
    except ValidationError as error:
        raise StudyError(sentence(error, "study")) from None
    studies.renders.start(study.id)
    return study


def _seed(text: str) -> int | None:
    """A whole number, or None for an empty field. Raises StudyError for anything else."""
    if not text.strip():
        return None
    if not text.strip().isdecimal():
        raise StudyError(f"The seed is a whole number, or empty; got {text[:40]!r}.")
    return int(text)


def protocol_text(protocol: str, votes: float | None, cap: float | None, invited: bool) -> str:
    """This protocol (JSON) with the three fields that most people change; all others stay as they are."""
    try:
        fields = Protocol.model_validate_json(protocol).model_dump()
        changed = {
            "votes_per_pair": int(votes) if votes else None,
            "cap": int(cap or 0),
            "access": "invite" if invited else "open" if fields["access"] == "invite" else fields["access"],
        }
        return written(Protocol(**{**fields, **changed}))
    except ValidationError as error:
        raise StudyError(sentence(error, "protocol")) from None


def written(protocol: Protocol) -> str:
    """As the form shows a protocol."""
    return json.dumps(protocol.model_dump(mode="json"), indent=1, ensure_ascii=False)


def prompts_of_set(name: str, count: float) -> str:
    from calibri.tabletop.prompts import prompt_set

    return "\n".join(prompt_set(name, int(count)))


def sent(core: Core, visitor: object) -> list[Any]:
    """What the page Compare sent here, once: arms, their words, prompts, pictures a prompt. Else it skips."""
    draft = core.visitors.of(visitor).place(SharedPlace).take_draft()
    if draft is None:
        return [gr.skip(), arms_words([]), gr.skip(), gr.skip()]
    arms = [asdict(arm) for arm in draft.arms]
    return [arms, arms_words(arms), draft.prompts, draft.seeds]


def form(core: Core, studies: Studies, shown: Callable[..., list[Any]], outputs: list[Any]) -> gr.Dropdown:
    """Lay out the form. `shown(study id, request)` gives the values of `outputs` after a study was made.

    Returns the choice of an arm, which the page fills when it is opened.
    """
    start = PRESETS["side-by-side"]
    arms = gr.State([])
    with gr.Row():
        with gr.Column(min_width=340):
            name = gr.Textbox(
                label="Name",
                info="Raters read it: keep the arms out of it",
                placeholder="Solids on a table, first round",
                elem_id="new-name",
            )
            choice = gr.Dropdown(
                [("Base (no calibration)", "")], value="", label="Arm", elem_id="new-arm", filterable=False
            )
            with gr.Row():
                steps = gr.Number(8, label="Steps", precision=0, minimum=1, maximum=200, min_width=90)
                guidance = gr.Number(
                    1, label="Guidance (1: none)", minimum=1, maximum=20, step=0.5, min_width=90
                )
            label = gr.Textbox(
                label="Its label",
                info="Raters never see it",
                placeholder="made from the arm and its steps",
                elem_id="new-label",
            )
            with gr.Row():
                add = gr.Button("Add arm", size="md", min_width=90, elem_id="new-add")
                drop = gr.Button("Remove last", size="md", min_width=90)
            listed = gr.HTML(arms_words([]), elem_id="new-arms")
        with gr.Column(min_width=340):
            prompts = gr.Textbox(
                label="Prompts",
                info="One in each line, or CSV with the columns prompt and category",
                lines=7,
                max_lines=9,
                elem_id="new-prompts",
            )
            with gr.Row():
                which = gr.Dropdown(
                    ["held-out", "search"], value="held-out", label="Prompt set", min_width=110
                )
                many = gr.Number(20, label="How many", precision=0, minimum=1, maximum=500, min_width=80)
            with gr.Row():
                fill = gr.Button("Take these", size="md", min_width=90, elem_id="new-fill")
                file = gr.UploadButton("Read a file", size="md", file_types=[".txt", ".csv"], min_width=90)
            with gr.Row():
                seeds = gr.Number(1, label="Pictures a prompt", precision=0, minimum=1, maximum=100)
                seed = gr.Textbox("", label="Seed of the study", placeholder="drawn")
        with gr.Column(min_width=340):
            preset = gr.Dropdown(list(PRESETS), value="side-by-side", label="Protocol", elem_id="new-preset")
            with gr.Row():
                votes = gr.Number(
                    start.votes_per_pair or 0, label="Raters a pair (0: all)", precision=0, minimum=0
                )
                cap = gr.Number(start.cap, label="Most pairs a rater", precision=0, minimum=1)
            invited = gr.Checkbox(False, label="Only raters with an invite link", elem_id="new-invited")
            with gr.Accordion("Every field of the protocol", open=False):
                rules = gr.Code(written(start), language="json", label="Protocol", elem_id="new-rules")
    make = gr.Button(
        "Make the study and render it", variant="primary", elem_id="new-make", elem_classes="primary-action"
    )

    @guard
    def on_add(kept: list[dict[str, Any]], picked: str, word: str, n: float, g: float) -> list[Any]:
        more = [*kept, new_arm(core, picked or "", word or "", n, g)]
        if len({a["label"] for a in more}) < len(more):
            raise StudyError("There is an arm with this label already. Give this one another label.")
        return [more, arms_words(more), ""]

    add.click(on_add, [arms, choice, label, steps, guidance], [arms, listed, label], **QUEUED)
    drop.click(lambda kept: [kept[:-1], arms_words(kept[:-1])], arms, [arms, listed], **DIRECT)
    fill.click(guard(prompts_of_set), [which, many], prompts, **QUEUED)
    file.upload(lambda path: Path(path).read_text("utf-8", errors="replace"), file, prompts, **QUEUED)

    def on_preset(picked: str) -> list[Any]:
        chosen = PRESETS[picked]
        return [written(chosen), chosen.votes_per_pair or 0, chosen.cap, chosen.access == "invite"]

    preset.input(on_preset, preset, [rules, votes, cap, invited], **IN_ORDER)
    gr.on(
        [votes.input, cap.input, invited.input],
        guard(protocol_text),
        [rules, votes, cap, invited],
        rules,
        **IN_ORDER,
    )

    @guard
    def on_make(
        title: str,
        kept: list[dict[str, Any]],
        text: str,
        n: float,
        protocol: str,
        number: str,
        request: gr.Request,
    ) -> list[Any]:
        core.rights.study_organisers_only(core.rights.username(request))
        made = create(core, studies, title or "", kept or [], text or "", n, protocol or "", number or "")
        return [*shown(made.id, request), "", [], arms_words([])]

    make.click(on_make, [name, arms, prompts, seeds, rules, seed], [*outputs, name, arms, listed], **QUEUED)
    when_loaded(
        visitor_state(), lambda visitor_id: sent(core, visitor_id), [], [arms, listed, prompts, seeds]
    )
    return choice
