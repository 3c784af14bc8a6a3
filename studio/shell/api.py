"""What programs call: named endpoints with typed arguments, beside the pages and under the same rules.

Each is a function of plain values that a test calls without a server; `endpoints` gives them to Gradio. Their
docstrings and labels are what Gradio's own API page shows.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, get_type_hints

import gradio as gr
from PIL import Image

from calibri.calibration.reading import parse_calibration
from calibri.errors import CalibriError, LayoutError, RenderError, SearchError
from calibri.ranges import LARGEST_SEED, MOST_STEPS, STRONGEST_GUIDANCE
from studio.core import Core
from studio.machine.offers import REWARDS
from studio.rendering.arms import KINDS, WORDS, Arm, Choice, kind_of, resolve_arms
from studio.rendering.asks import Ask, unread_hint
from studio.rendering.shots import Shot, shoot
from studio.search.form import read_program
from studio.search.jobs import Searches
from studio.ui.blocks import ADDED_LATER
from studio.ui.errors import guard

NO_SEARCH = "Searches cannot run at this studio: nothing runs in the background. Run a copy of your own."


def facts_of(core: Core, shot: Shot) -> dict[str, Any]:
    """What is known of one picture, as JSON."""
    if shot.image is None:
        return {"arm": shot.arm.kind, "missing": shot.arm.missing}
    calibration = shot.arm.calibration
    return {
        "arm": shot.arm.kind,
        "backbone": core.backbone_name,
        "calibration": calibration.title if calibration is not None else None,
        "prompt": shot.ask.prompt,
        "unread": unread_hint(core.host.backbone, shot.ask.prompt),
        "seed": shot.ask.seed,
        "steps": shot.ask.steps,
        "guidance": shot.ask.guidance,
        "width": shot.image.width,
        "height": shot.image.height,
        "nfe": shot.nfe,
        "seconds": round(shot.seconds, 3),
        "rewards": {name: round(value, 4) for name, value in shot.rewards.items()},
        **({"loras": shot.painted_by["loras"]} if shot.painted_by else {}),
    }


def arm_of(core: Core, calibration: object) -> Arm:
    """The arm for what `render` was given: nothing, an id of `list_calibrations`, or a calibration's JSON."""
    text = calibration.strip() if isinstance(calibration, str) else ""
    if not text:
        return Arm("base", WORDS["base"])
    given = text.startswith("{")
    backbone = core.host.wait_ready()
    try:
        if given:
            found = parse_calibration(text, backbone.sites, backbone=backbone.spec.name)
        else:
            found = core.calibrations.get(text).calibration
        fitting = found.on_layout(backbone.layout(found.granularity))
    except LayoutError as error:
        raise LayoutError(f"{error}. The loaded backbone is {core.backbone_name}.") from error
    return Arm(kind_of(fitting), fitting.title, fitting)


def render(
    core: Core,
    prompt: object,
    seed: object,
    steps: object,
    guidance: object,
    calibration: object,
    loras: object = "",
) -> tuple[Image.Image, dict[str, Any]]:
    """One picture and what is known of it. Raises CalibriError for what cannot be rendered."""
    ask = Ask.read(prompt, seed, steps, guidance, loras)
    [shot] = shoot(core, [arm_of(core, calibration)], ask)
    if shot.image is None:
        raise RenderError(shot.arm.missing)
    return shot.image, facts_of(core, shot)


def compare(
    core: Core, prompt: object, seed: object, steps: object, guidance: object, granularity: object
) -> tuple[Image.Image | None, Image.Image | None, Image.Image | None, dict[str, Any]]:
    """Base, calibrated and ensemble on one noise, None where there is no such calibration, and the facts of
    each."""
    ask = Ask.read(prompt, seed, steps, guidance)
    core.host.wait_ready().layout(granularity)  # type: ignore[arg-type]  # LayoutError for an unknown one
    arms = resolve_arms(core, [Choice(kind, granularity=str(granularity)) for kind in KINDS])
    base, calibrated, ensemble = shots = shoot(core, arms, ask)
    facts: dict[str, Any] = {shot.arm.kind: facts_of(core, shot) for shot in shots}
    return base.image, calibrated.image, ensemble.image, facts


def start_search(core: Core, searches: Searches | None, **typed: object) -> str:
    """Begin a search on the loaded backbone, and return its run id. `typed`: fields of calibri's SearchForm.
    Rights are the caller's business.

    Raises SearchError that names the argument which does not fit.
    """
    if searches is None:
        raise SearchError(NO_SEARCH)
    return searches.start(*read_program(core, typed))


def search_status(searches: Searches | None, run_id: object) -> dict[str, Any]:
    """How a search stands, as JSON. Raises SearchError for an unknown one."""
    if searches is None:
        raise SearchError(NO_SEARCH)
    if not isinstance(run_id, str) or not run_id.strip():
        raise SearchError("run_id: expected the id that start_search returned.")
    return dataclasses.asdict(searches.status(run_id.strip()))


def list_calibrations(core: Core) -> list[dict[str, Any]]:
    """The saved calibrations that fit the loaded backbone, those that came with the studio first."""
    core.host.wait_ready()
    return [
        {
            "id": entry.id,
            "title": entry.title,
            "backbone": entry.calibration.backbone,
            "granularity": entry.calibration.granularity,
            "scales": len(entry.calibration.names),
            "members": len(entry.calibration.members),
            "built_in": entry.built_in,
        }
        for entry in core.fitting_calibrations()
    ]


def get_calibration(core: Core, calibration_id: object) -> dict[str, Any]:
    """A saved calibration as its file has it. Raises ArtifactError for an unknown id."""
    if not isinstance(calibration_id, str):
        raise CalibriError("calibration_id: expected an id of list_calibrations.")
    return json.loads(core.calibrations.get(calibration_id.strip()).calibration.to_json())


# for Gradio


#: A number as a program sent it: Gradio's own would round 3.7 to a seed. Made without a `class` statement,
#: for which Gradio would write a stub file beside this module.
AsSent: type[gr.Number] = ABCMeta.__new__(
    type(gr.Number),
    "AsSent",
    (gr.Number,),
    {"__module__": __name__, "is_template": True, "preprocess": lambda self, payload: payload},
)


def endpoints(core: Core, searches: Searches | None) -> None:
    """Add the endpoints to the current Blocks. Whoever may see the pages may call them; what only an
    organiser may do is checked here too. `searches`: None where nothing runs in the background."""
    _add_pictures(core)
    _add_searches(core, searches)
    _add_calibrations(core)


def _add(call: Callable[..., Any], name: str) -> None:
    call.__annotations__ = get_type_hints(call)  # Gradio reads types, not their names
    gr.api(guard(call), api_name=name, concurrency_limit=8, concurrency_id="api")


def _add_pictures(core: Core) -> None:
    people: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "people"}
    with gr.Column(visible=False):
        asked = [
            gr.Textbox(label="Prompt"),
            AsSent(
                0,
                label=f"Seed: a whole number up to {LARGEST_SEED}; the same gives the same noise",
                precision=0,
            ),
            AsSent(8, label=f"Sampling steps: a whole number up to {MOST_STEPS}", precision=0),
            AsSent(1.0, label=f"Classifier-free guidance from 1 (none) to {STRONGEST_GUIDANCE}"),
        ]
        chosen = gr.Textbox(
            "", label="An id of list_calibrations, a calibration's JSON, or empty for the base"
        )
        loras = gr.Textbox(
            "",
            label="LoRAs that are on: none, or NAME:STRENGTH with commas between; empty for all as loaded",
            elem_classes=[ADDED_LATER],
        )
        level = gr.Textbox("layer", label="Granularity of the calibrations: block, layer or gate")
        picture = gr.Image(label="Picture", format="png", type="pil")
        three = [gr.Image(label=WORDS[kind], format="png", type="pil") for kind in KINDS]
        facts = gr.JSON(label="Facts")
        trigger = gr.Button("Call")

    @guard
    def on_render(
        prompt: str, seed: int, steps: int, guidance: float, calibration: str, loras: str = ""
    ) -> tuple[Image.Image, dict[str, Any]]:
        return render(core, prompt, seed, steps, guidance, calibration, loras)

    @guard
    def on_compare(prompt: str, seed: int, steps: int, guidance: float, granularity: str) -> tuple[Any, ...]:
        return compare(core, prompt, seed, steps, guidance, granularity)

    trigger.click(
        on_render,
        [*asked, chosen, loras],
        [picture, facts],
        api_name="render",
        api_description="Render one picture with the base or with a calibration. The facts are its settings, "
        "NFE, seconds and rewards (higher is better).",
        **people,
    )
    trigger.click(
        on_compare,
        [*asked, level],
        [*three, facts],
        api_name="compare",
        api_description="Render base, calibrated and ensemble on the same noise, with the studio's first "
        "calibrations of that granularity. A picture is None where there is no such calibration; the facts "
        "of each arm say so, and have its rewards.",
        **people,
    )


def _add_searches(core: Core, searches: Searches | None) -> None:
    def start_a_search(
        granularity: str = "layer",
        rewards: list[str] = list(REWARDS),  # noqa: B006  # Gradio shows it as the default
        steps: int = 8,
        images: int = 4000,
        seed: int = 0,
        title: str = "",
        prompts: list[str] = [],  # noqa: B006
        request: gr.Request | None = None,
    ) -> str:
        """Start a search on the loaded backbone; returns its run id for search_status.

        granularity: block, layer or gate. rewards: names, with a weight if wanted ("tabletop-keep:2").
        images: how many to render at most. prompts: at least 10, or none for those that suit the backbone.
        On a public studio only its organisers may, after signing in: Client(url, auth=(name, password)).
        """
        core.rights.organisers_only(request)
        return start_search(
            core,
            searches,
            granularity=granularity,
            rewards=rewards,
            steps=steps,
            images=images,
            seed=seed,
            title=title,
            prompts=prompts,
        )

    def status_of_search(run_id: str) -> dict:
        """How a search stands: state, images, generations, seconds, verdict, and its error in words."""
        return search_status(searches, run_id)

    _add(start_a_search, "start_search")
    _add(status_of_search, "search_status")


def _add_calibrations(core: Core) -> None:
    def all_calibrations() -> list[dict]:
        """The saved calibrations of the loaded backbone: id, title, granularity, scales, members."""
        return list_calibrations(core)

    def one_calibration(calibration_id: str) -> dict:
        """A saved calibration as JSON: names, members with scales and weights, and how it was found."""
        return get_calibration(core, calibration_id)

    _add(all_calibrations, "list_calibrations")
    _add(one_calibration, "get_calibration")
