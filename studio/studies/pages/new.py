"""The form that makes a new study: a part of the page Studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from calibri.errors import CalibriError, StudyError
from calibri.prompts import PromptFile
from calibri.prompts.files import as_text
from calibri.ranges import MOST_STEPS, STRONGEST_GUIDANCE
from calibri.words import without_paths
from studio.core import Core
from studio.rendering.first_visit import usual_ask
from studio.rendering.places import SharedPlace
from studio.rendering.prompt_files import FILES, read_prompt_file
from studio.studies.pages import plan_panel, raters_part, rules
from studio.studies.planning import draw_prompts, make_arm, read_study
from studio.studies.studies import Studies
from studio.ui.elements import empty, hint, primary_button, show_remark
from studio.ui.errors import guard
from studio.ui.events import DIRECT, QUEUED, visitor_state, when_loaded, when_switched
from studio.ui.templates import fill_template

NO_ARMS = "Add at least two arms. An arm is what is compared: a calibration and its settings."
LONGEST_LABEL = 40
MADE = Markup("<a href='#study-card'>Its card</a> says how far they are, and opens it for raters.")
USUAL = ("held-out", 20)  # prompts of a study that names none
Arms = list[dict[str, Any]]  # as the page keeps them and as read_study takes them


@dataclass(frozen=True)
class Form:
    """The components of the form. `arms`: those that were added."""

    arms: gr.State
    name: gr.Textbox
    choice: gr.Dropdown
    steps: gr.Number
    guidance: gr.Number
    label: gr.Textbox
    add: gr.Button
    drop: gr.Button
    listed: gr.HTML
    prompts: gr.Textbox
    which: gr.Dropdown
    many: gr.Number
    fill: gr.Button
    file: gr.UploadButton
    seeds: gr.Number
    seed: gr.Textbox
    editor: rules.Editor
    raters: raters_part.RatersPart
    plan: plan_panel.PlanPanel
    make: gr.Button
    made: gr.HTML


def lay_out(has_hub: bool = False) -> Form:
    """Make the components inside the current Blocks. `has_hub`: whether raters can sign in with the hub."""
    made: dict[str, Any] = {"arms": gr.State([])}
    with gr.Row():
        with gr.Column(min_width=340):
            _lay_out_arms(made)
        with gr.Column(min_width=340):
            _lay_out_prompts(made)
        with gr.Column(min_width=340):
            made["editor"] = rules.lay_out()
            made["raters"] = raters_part.lay_out(has_hub)
    made["plan"] = plan_panel.lay_out()
    with gr.Row(equal_height=True):
        made["make"] = primary_button("Make the study and render it", "new-make", scale=0, min_width=260)
        made["made"] = gr.HTML("", elem_id="new-made")
    return Form(**made)


def _lay_out_arms(made: dict[str, Any]) -> None:
    made["name"] = gr.Textbox(
        label="Name",
        info="Raters read it, so do not name the arms",
        placeholder="Solids on a table, first round",
        elem_id="new-name",
    )
    made["choice"] = gr.Dropdown(
        [("Base (no calibration)", "")], value="", label="Arm", elem_id="new-arm", filterable=False
    )
    with gr.Row():
        made["steps"] = gr.Number(8, label="Steps", precision=0, minimum=1, maximum=MOST_STEPS, min_width=90)
        made["guidance"] = gr.Number(
            1, label="Guidance (1: none)", minimum=1, maximum=STRONGEST_GUIDANCE, step=0.5, min_width=90
        )
    made["label"] = gr.Textbox(
        label="Its label",
        info="Raters never see it",
        placeholder="made from the arm and its steps",
        elem_id="new-label",
    )
    with gr.Row():
        made["add"] = gr.Button("Add arm", size="md", min_width=90, elem_id="new-add")
        made["drop"] = gr.Button("Remove last", size="md", min_width=90)
    made["listed"] = gr.HTML(draw_arms([]), elem_id="new-arms")


def _lay_out_prompts(made: dict[str, Any]) -> None:
    made["prompts"] = gr.Textbox(
        label="Prompts",
        info="One on each line, or CSV, TSV or JSON; empty: 20 held-out ones that suit the backbone",
        lines=7,
        max_lines=9,
        elem_id="new-prompts",
    )
    with gr.Row():
        sets = ["held-out", "search", "validation"]
        made["which"] = gr.Dropdown(sets, value="held-out", label="Prompt set", min_width=110)
        made["many"] = gr.Number(20, label="How many", precision=0, minimum=1, maximum=500, min_width=80)
    with gr.Row():
        made["fill"] = gr.Button("Use these prompts", size="md", min_width=90, elem_id="new-fill")
        made["file"] = gr.UploadButton("Read a file", size="md", file_types=FILES, min_width=90)
    with gr.Row():
        made["seeds"] = gr.Number(1, label="Pictures a prompt", precision=0, minimum=1, maximum=100)
        made["seed"] = gr.Textbox("", label="Seed of the study", placeholder="random")


def wire(
    form: Form, core: Core, studies: Studies, show: Callable[..., list[Any]], outputs: list[Any]
) -> None:
    """Connect the form. `show(study id, request)`: the values of `outputs` after a study was made."""

    @guard
    def on_add(kept: Arms, choice: str, label: str, steps: float, guidance: float) -> list[Any]:
        more = add_arm(core, kept, choice or "", label or "", steps, guidance)
        return [more, draw_arms(more), ""]

    @guard
    def on_make(
        request: gr.Request, name: str, arms: Arms, prompts: str, seeds: float, seed: str, *protocol: Any
    ) -> list[Any]:
        core.rights.study_organisers_only(request)
        backbone = core.backbone_name or core.settings.backbone
        try:
            values = {
                "name": (name or "").strip(),
                "arms": arms,
                "prompts": prompts if (prompts or "").strip() else list_prompts(backbone, *USUAL),
                "protocol": rules.merge(*protocol),
            }
            new = read_study({**values, "seeds_per_prompt": seeds, "seed": seed or "", "backbone": backbone})
            raters_part.check_access(new.protocol, core)
            study = studies.create(new)
        except CalibriError as error:  # told where the button was pressed, and the form stays as it is
            return [*[gr.skip()] * (len(outputs) + 3), show_remark(f"Not made. {without_paths(str(error))}")]
        studies.renders.start(study.id)
        told = Markup("“{}” is made, and its pictures are being rendered. ").format(study.name) + MADE
        return [*show(study.id, request), "", [], draw_arms([]), hint(told)]

    kept, typed = [form.arms, form.listed], [form.choice, form.label, form.steps, form.guidance]
    form.add.click(on_add, [form.arms, *typed], [*kept, form.label], **QUEUED)
    form.drop.click(lambda arms: [arms[:-1], draw_arms(arms[:-1])], form.arms, kept, **DIRECT)
    form.fill.click(guard(partial(fill_prompts, core)), [form.which, form.many], form.prompts, **QUEUED)
    form.file.upload(guard(read_prompt_file), form.file, form.prompts, **QUEUED)
    rules.wire(form.editor)
    fields = [form.name, form.arms, form.prompts, form.seeds, form.seed, *form.editor.inputs]
    form.make.click(on_make, fields, [*outputs, form.name, *kept, form.made], **QUEUED)
    editor = form.editor
    raters_part.wire(form.raters, editor.preset, editor.invited, editor.rules)
    plan_panel.wire(form.plan, core, studies, [form.arms, form.prompts, form.seeds, editor.rules], USUAL[1])
    sent, visitor = [*kept, form.prompts, form.seeds], visitor_state()
    usual = [form.steps, form.guidance]
    when_loaded(
        visitor, lambda visitor_id: [*take_draft(core, visitor_id), *list_usual(core)], [], [*sent, *usual]
    )
    when_switched(lambda: list_usual(core), [], usual)


# what the handlers do


def arm_choices(core: Core) -> list[tuple[str, str]]:
    """The base and all saved calibrations of the loaded backbone."""
    saved = core.fitting_calibrations()
    return [("Base (no calibration)", ""), *((entry.title, entry.id) for entry in saved)]


def add_arm(core: Core, arms: Arms, choice: str, label: str, steps: Any, guidance: Any) -> Arms:
    """The arms with one more. Raises StudyError for a field that does not fit and for a label twice."""
    found = core.calibrations.get(choice).calibration if choice else None
    made = make_arm(label.strip() or "arm", found, steps, guidance).model_dump()
    if not label.strip():
        short = (found.title if found else "base").partition(",")[0][:LONGEST_LABEL].strip() or made["kind"]
        extra = "" if made["guidance"] == 1 else f", guidance {made['guidance']:g}"
        made["label"] = f"{short} ({made['steps']} steps{extra})"
    if made["label"] in [arm["label"] for arm in arms]:
        raise StudyError(f"There is already an arm with the label {made['label']!r}. Choose another label.")
    return [*arms, made]


def draw_arms(arms: Arms) -> str:
    """The list of arms that were added."""
    return fill_template("studies/pages/arms.html", arms=arms) if arms else empty(NO_ARMS)


def list_prompts(backbone: str, split: str, count: int) -> list[dict[str, str]]:
    return [prompt.model_dump() for prompt in draw_prompts(backbone, split, count)]


def fill_prompts(core: Core, split: str, count: float) -> str:
    """The first prompts of a split that suits the backbone, as the field takes them."""
    drawn = draw_prompts(core.backbone_name or core.settings.backbone, split, int(count))
    return as_text(PromptFile(split, "", tuple(p.text for p in drawn), tuple(p.category for p in drawn)))


def list_usual(core: Core) -> list[float]:
    """Steps and guidance of a new arm: those of the backbone."""
    ask = usual_ask(core)
    return [ask.steps, ask.guidance]


def take_draft(core: Core, visitor: object) -> list[Any]:
    """What the page Compare sent here, once: arms, their list, prompts, pictures a prompt."""
    draft = core.visitors.of(visitor).place(SharedPlace).take_draft()
    if draft is None:
        return [gr.skip(), draw_arms([]), gr.skip(), gr.skip()]
    arms = [asdict(arm) for arm in draft.arms]
    return [arms, draw_arms(arms), draft.prompts, draft.seeds]
