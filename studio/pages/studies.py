"""Studies: make one, see its pictures rendered, try it as a rater would, open, invite, close. For
organisers.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context
from pydantic import ValidationError

from calibri.calibration.artifact import Calibration
from calibri.errors import StudyError
from studio import organise
from studio.components import duration, empty, guard
from studio.planning import NewArm, NewStudy, read_prompts
from studio.protocol import PRESETS, Protocol
from studio.services import Services
from studio.stores.studies import Study
from studio.studies import Studies

TITLE, PATH = "Studies", "/studies"
NOTHING = "Your studies will stand here. Make the first one below: two arms, a few prompts and a preset."
STEPS = {
    "draft": "Next: render its pictures, look at the preview, then open it.",
    "open": "Send the link to your raters. Results stay hidden until you close it.",
    "closed": "See the page Results. It can be opened again, which the report will show.",
    "archived": "Put away. Its votes and results are kept.",
}


def available(services: Services) -> bool:
    return services.studies is not None


def offered(studies: Studies) -> list[tuple[str, str]]:
    """(words, id) of all studies but the archived, the newest first."""
    return [(f"{s.name} ({s.status})", s.id) for s in studies.store.all("draft", "open", "closed")]


def card(studies: Studies, study: Study) -> str:
    """Where a study is, and what comes next."""
    progress, rendering = studies.store.progress(study), studies.renders.progress(study.id)
    pictures = f"{progress.rendered} of {progress.pairs} pairs have their pictures"
    if rendering is not None and rendering.phase == "rendering":
        left = f", {duration(rendering.seconds_left)} left" if rendering.seconds_left else ""
        pictures = f"Rendering: {rendering.done} of {rendering.total or '…'} pictures{left}"
    elif rendering is not None and rendering.phase in ("failed", "stopped"):
        pictures += f". Rendering {rendering.phase}. {rendering.error}"
    wanted = f" of {progress.wanted}" if progress.wanted else ""
    invited = study.protocol.access == "invite"
    rows = [
        ("State", f"{study.status}. {STEPS[study.status]}"),
        ("Arms", ", ".join(a.label for a in studies.store.arms(study.id) if a.kind != "gold")),
        ("Protocol", f"{study.protocol.preset}, sha256 {study.protocol.hash[:12]}…"),
        ("Pictures", pictures),
        ("Votes", f"{progress.showings}{wanted} pairs voted on, {progress.raters} raters"),
        ("Raters' page", "by invite link" if invited else organise.link(study.id)),
        (
            "Without Gradio, no sign-in",
            "by invite link" if invited else organise.link(study.id, page="ballot"),
        ),
    ]
    lines = "".join(f"<tr><td><b>{k}</b></td><td>{html.escape(v)}</td></tr>" for k, v in rows)
    address = html.escape(organise.preview(studies, study.id))
    see = f"<a href='{address}' target='_blank'>See what a rater will see</a>"
    return f"<div class='tables'><table>{lines}</table>{see}</div>"


def invites(studies: Studies, study: str, count: float, root: str) -> str:
    """Invite links, one a line, with the studio's own address in front."""
    made = organise.run(studies, "invite", {"study": study, "count": int(count)})
    assert isinstance(made, dict)
    return "\n".join(root.rstrip("/") + link for link in made["links"])


def arm_choices(services: Services) -> list[tuple[str, str]]:
    """The base and all saved calibrations of the loaded backbone."""
    saved = services.calibrations.entries(services.host.status.backbone or None)
    return [("Base (no calibration)", ""), *((entry.title, entry.id) for entry in saved)]


def new_arm(services: Services, choice: str, label: str, steps: float, guidance: float) -> dict[str, Any]:
    """An arm as the form keeps it. Raises StudyError for a field that is empty."""
    if steps is None or guidance is None:
        raise StudyError("Give the arm its steps and its guidance.")
    found: Calibration | None = services.calibrations.get(choice).calibration if choice else None
    kind = "base" if found is None else "ensemble" if found.is_ensemble else "calibrated"
    name = label.strip() or (found.title if found else "base") or kind
    return {
        "label": f"{name} ({int(steps)} steps)" if not label.strip() else name,
        "kind": kind,
        "calibration": found.to_json() if found else None,
        "steps": int(steps),
        "guidance": float(guidance),
    }


def arms_words(arms: list[dict[str, Any]]) -> str:
    if not arms:
        return empty("Add at least two arms.")
    lines = "".join(
        f"<li><b>{html.escape(a['label'])}</b>: {a['kind']}, {a['steps']} steps"
        + (f", guidance {a['guidance']:g}" if a["guidance"] != 1 else "")
        + "</li>"
        for a in arms
    )
    return f"<ol style='margin:4px 0 4px 20px;list-style:decimal'>{lines}</ol>"


def create(
    services: Services,
    name: str,
    arms: list[dict[str, Any]],
    prompts: str,
    seeds: float,
    protocol: str,
    seed: str,
) -> Study:
    """Make the study and begin to render it. Raises StudyError that names the field."""
    studies = services.studies
    assert studies is not None
    try:
        rules = Protocol.model_validate_json(protocol)
        study = studies.create(
            NewStudy(
                name=name.strip(),
                arms=tuple(NewArm(**arm) for arm in arms),
                prompts=read_prompts(prompts),
                seeds_per_prompt=int(seeds),
                backbone=services.host.status.backbone or services.settings.backbone,
                protocol=rules,
                seed=_seed(seed),
            )
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        raise StudyError(f"{where or 'study'}: {first['msg']}") from None
    studies.renders.start(study.id)
    return study


def _seed(text: str) -> int | None:
    """A whole number, or None for an empty field. Raises StudyError for anything else."""
    if not text.strip():
        return None
    if not text.strip().isdecimal():
        raise StudyError(f"The seed is a whole number, or empty; got {text[:40]!r}.")
    return int(text)


def protocol_text(preset: str, votes: float | None, cap: float, invited: bool) -> str:
    """The preset as JSON with the three fields that most people change."""
    changed = {
        "votes_per_pair": int(votes) if votes else None,
        "cap": int(cap),
        "access": "invite" if invited else "open",
    }
    made = Protocol(**{**PRESETS[preset].model_dump(), **changed})
    return json.dumps(made.model_dump(mode="json"), indent=1, ensure_ascii=False)


def prompts_of_set(name: str, count: float) -> str:
    from calibri.tabletop.prompts import prompt_set

    return "\n".join(prompt_set(name, int(count)))


def build(services: Services) -> None:
    """Lay out the page inside the current Blocks."""
    studies = services.studies
    assert studies is not None
    start = PRESETS["side-by-side"]
    from studio.pages.results import STYLE

    gr.HTML(STYLE)
    with gr.Row():
        study = gr.Dropdown([], label="Study", scale=3, elem_id="study")
        render = gr.Button("Render pictures", min_width=110, elem_id="study-render")
        stop = gr.Button("Stop rendering", min_width=110, elem_id="study-stop")
        opening = gr.Button("Open", min_width=80, elem_id="study-open")
        closing = gr.Button("Close", min_width=80, elem_id="study-close")
        archive = gr.Button("Archive", min_width=80, elem_id="study-archive")
    state = gr.HTML(empty(NOTHING), elem_id="study-card")
    with gr.Accordion("Invite links", open=False), gr.Row():
        count = gr.Number(10, label="How many raters", precision=0, minimum=1, maximum=10_000, scale=1)
        invite = gr.Button("Make links", min_width=100, scale=1)
        links = gr.Textbox(label="One link for each rater", lines=4, max_lines=12, buttons=["copy"], scale=4)

    gr.Markdown("### New study")
    arms = gr.State([])
    with gr.Row():
        with gr.Column(min_width=340):
            name = gr.Textbox(
                label="Name", placeholder="Calibrated against base, 8 steps", elem_id="new-name"
            )
            with gr.Row():
                choice = gr.Dropdown(
                    [("Base (no calibration)", "")], value="", label="Arm", elem_id="new-arm", scale=2
                )
                label = gr.Textbox(
                    label="Its label", info="Raters never see it", elem_id="new-label", scale=2
                )
            with gr.Row():
                steps = gr.Number(8, label="Steps", precision=0, minimum=1, maximum=200, min_width=80)
                guidance = gr.Number(
                    1, label="Guidance", info="1 is none", minimum=1, maximum=20, min_width=80
                )
                add = gr.Button("Add arm", min_width=90, elem_id="new-add")
                drop = gr.Button("Remove last", min_width=90)
            listed = gr.HTML(arms_words([]), elem_id="new-arms")
        with gr.Column(min_width=340):
            prompts = gr.Textbox(
                label="Prompts",
                info="One in each line, or CSV with the columns prompt and category",
                lines=6,
                max_lines=12,
                elem_id="new-prompts",
            )
            with gr.Row():
                which = gr.Dropdown(
                    ["held-out", "search"], value="held-out", label="Prompt set", min_width=110
                )
                many = gr.Number(20, label="How many", precision=0, minimum=1, maximum=500, min_width=80)
                fill = gr.Button("Take these", min_width=90, elem_id="new-fill")
                file = gr.UploadButton("Read a file", file_types=[".txt", ".csv"], min_width=90)
            with gr.Row():
                seeds = gr.Number(1, label="Pictures of each prompt", precision=0, minimum=1, maximum=100)
                seed = gr.Textbox("", label="Seed of the study", info="Empty: drawn")
        with gr.Column(min_width=340):
            preset = gr.Dropdown(list(PRESETS), value="side-by-side", label="Protocol", elem_id="new-preset")
            with gr.Row():
                votes = gr.Number(
                    start.votes_per_pair or 0,
                    label="Raters for each pair",
                    info="0: all who come",
                    precision=0,
                )
                cap = gr.Number(start.cap, label="Most pairs for one rater", precision=0, minimum=1)
            invited = gr.Checkbox(False, label="Only raters with an invite link")
            with gr.Accordion("Every field of the protocol", open=False):
                rules = gr.Code(
                    protocol_text("side-by-side", None, start.cap, False), language="json", label="Protocol"
                )
    make = gr.Button(
        "Make the study and render it", variant="primary", elem_id="new-make", elem_classes="primary-action"
    )

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def shown(chosen: str | None) -> list[Any]:
        choices = offered(studies)
        if chosen not in [c[1] for c in choices]:
            chosen = choices[0][1] if choices else None
        text = card(studies, studies.store.get(chosen)) if chosen else empty(NOTHING)
        return [gr.Dropdown(choices, value=chosen), text]

    def acting(what: str) -> Any:
        @guard
        def act(chosen: str | None, request: gr.Request) -> list[Any]:
            services.study_organisers_only(request.username)
            if not chosen:
                raise StudyError("Choose a study first.")
            if what == "stop":
                studies.renders.stop(chosen)
            elif what:
                organise.run(studies, what, {"study": chosen})
            return shown(chosen)

        return act

    for trigger, what in (
        (study.input, ""),
        (render.click, "render"),
        (stop.click, "stop"),
        (opening.click, "open"),
        (closing.click, "close"),
        (archive.click, "archive"),
    ):
        trigger(acting(what), study, [study, state], **quiet)

    @guard
    def on_load(request: gr.Request) -> list[Any]:
        if not services.may_organise(request.username):
            return [gr.Dropdown([]), empty("Studies are for the organisers of this studio."), gr.skip()]
        return [*shown(None), gr.Dropdown(arm_choices(services), value="")]

    Context.root_block.load(on_load, None, [study, state, choice], **quiet)

    last = gr.State("")

    def on_tick(chosen: str | None, before: str, request: gr.Request) -> tuple[Any, Any]:
        if not chosen or not services.may_organise(request.username):
            return gr.skip(), gr.skip()
        now = card(studies, studies.store.get(chosen))
        return (gr.skip(), gr.skip()) if now == before else (now, now)

    gr.Timer(1.5).tick(on_tick, [study, last], [state, last], queue=False, **quiet)

    @guard
    def on_invite(chosen: str | None, number: float, request: gr.Request) -> str:
        services.study_organisers_only(request.username)
        if not chosen:
            raise StudyError("Choose a study first.")
        address = request.headers.get("origin") or f"{request.request.url.scheme}://{request.headers['host']}"
        return invites(studies, chosen, number, address + services.settings.root_path)

    invite.click(on_invite, [study, count], links, **quiet)

    @guard
    def on_add(kept: list[dict[str, Any]], picked: str, word: str, n: float, g: float) -> list[Any]:
        more = [*kept, new_arm(services, picked or "", word or "", n, g)]
        if len({a["label"] for a in more}) < len(more):
            raise StudyError("There is an arm with this label already. Give this one another label.")
        return [more, arms_words(more), ""]

    add.click(on_add, [arms, choice, label, steps, guidance], [arms, listed, label], queue=False, **quiet)
    drop.click(lambda kept: [kept[:-1], arms_words(kept[:-1])], arms, [arms, listed], queue=False, **quiet)
    fill.click(guard(prompts_of_set), [which, many], prompts, queue=False, **quiet)
    file.upload(lambda path: Path(path).read_text("utf-8", errors="replace"), file, prompts, **quiet)

    def on_preset(picked: str) -> list[Any]:
        chosen = PRESETS[picked]
        return [chosen.votes_per_pair or 0, chosen.cap]

    preset.input(on_preset, preset, [votes, cap], queue=False, **quiet).then(
        guard(protocol_text), [preset, votes, cap, invited], rules, queue=False, **quiet
    )
    gr.on(
        [votes.change, cap.change, invited.change],
        guard(protocol_text),
        [preset, votes, cap, invited],
        rules,
        queue=False,
        **quiet,
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
        services.study_organisers_only(request.username)
        made = create(services, title, kept, text, n, protocol, number)
        return [*shown(made.id), "", [], arms_words([])]

    make.click(
        on_make, [name, arms, prompts, seeds, rules, seed], [study, state, name, arms, listed], **quiet
    )
