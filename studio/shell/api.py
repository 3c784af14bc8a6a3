"""What programs call: named endpoints with typed arguments, beside the pages and under the same rules.

Each is a function of plain values that a test calls without a server; `endpoints` gives them to Gradio. Their
docstrings and labels are what Gradio's own API page shows.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_type_hints

import gradio as gr
from PIL import Image

from calibri.calibration.artifact import Calibration
from calibri.errors import CalibriError, LayoutError, RenderError, SearchError
from studio.core import Services
from studio.machine.rewards import REWARDS
from studio.rendering.arms import KINDS, WORDS, Arm, arm
from studio.rendering.asks import Ask
from studio.rendering.shots import Shot, shoot
from studio.search.form import read_search
from studio.ui.errors import guard

NO_SEARCH = "Searches cannot run at this studio: nothing runs in the background here. Run a copy of your own."


def facts_of(services: Services, shot: Shot) -> dict[str, Any]:
    """What is known of one picture, as JSON."""
    if shot.image is None:
        return {"arm": shot.arm.kind, "missing": shot.arm.missing}
    calibration = shot.arm.calibration
    return {
        "arm": shot.arm.kind,
        "backbone": services.host.status.backbone,
        "calibration": calibration.title if calibration is not None else None,
        "prompt": shot.ask.prompt,
        "seed": shot.ask.seed,
        "steps": shot.ask.steps,
        "guidance": shot.ask.guidance,
        "width": shot.image.width,
        "height": shot.image.height,
        "nfe": shot.nfe,
        "seconds": round(shot.seconds, 3),
        "rewards": {name: round(value, 4) for name, value in shot.rewards.items()},
    }


def arm_of(services: Services, calibration: object) -> Arm:
    """The arm for what `render` was given: nothing, an id of `list_calibrations`, or a calibration's JSON."""
    text = calibration.strip() if isinstance(calibration, str) else ""
    if not text:
        return Arm("base", WORDS["base"])
    if text.startswith("{"):
        found = Calibration.from_json(text)
    else:
        found = services.calibrations.get(text).calibration
    layout = services.host.wait_ready().layout(found.granularity)
    try:
        fitting = found.on_layout(layout)
    except LayoutError as error:
        raise LayoutError(f"{error}. The loaded backbone is {services.host.status.backbone}.") from error
    return Arm("ensemble" if fitting.is_ensemble else "calibrated", fitting.title, fitting)


def render(
    services: Services, prompt: object, seed: object, steps: object, guidance: object, calibration: object
) -> tuple[Image.Image, dict[str, Any]]:
    """One picture and what is known of it. Raises CalibriError for what cannot be rendered."""
    ask = Ask.checked(prompt, seed, steps, guidance)
    [shot] = shoot(services, [arm_of(services, calibration)], ask)
    if shot.image is None:
        raise RenderError(shot.arm.missing)
    return shot.image, facts_of(services, shot)


def compare(
    services: Services, prompt: object, seed: object, steps: object, guidance: object, granularity: object
) -> tuple[Image.Image | None, Image.Image | None, Image.Image | None, dict[str, Any]]:
    """Base, calibrated and ensemble on one noise, None where there is no such calibration, and the facts of
    each."""
    ask = Ask.checked(prompt, seed, steps, guidance)
    services.host.wait_ready().layout(granularity)  # type: ignore[arg-type]  # LayoutError for an unknown one
    arms = [arm(services, kind, str(granularity), None, None) for kind in KINDS]
    base, calibrated, ensemble = shots = shoot(services, arms, ask)
    facts = {shot.arm.kind: facts_of(services, shot) for shot in shots}
    return base.image, calibrated.image, ensemble.image, facts


def start_search(
    services: Services,
    granularity: object,
    rewards: object,
    steps: object,
    images: object,
    seed: object,
    title: object,
    prompts: object,
) -> str:
    """Begin a search on the loaded backbone, and return its run id. Rights are the caller's business.

    Raises SearchError that names the argument which does not fit.
    """
    if services.jobs is None:
        raise SearchError(NO_SEARCH)
    if not isinstance(title, str):
        raise SearchError("title: expected a text.")
    config, budget = read_search(services, granularity, rewards, steps, images, seed, prompts)
    return services.jobs.start(config, budget, title)


def search_status(services: Services, run_id: object) -> dict[str, Any]:
    """How a search stands, as JSON. Raises SearchError for an unknown one."""
    if services.jobs is None:
        raise SearchError(NO_SEARCH)
    if not isinstance(run_id, str) or not run_id.strip():
        raise SearchError("run_id: expected the id that start_search returned.")
    return dataclasses.asdict(services.jobs.status(run_id.strip()))


def list_calibrations(services: Services) -> list[dict[str, Any]]:
    """The saved calibrations that fit the loaded backbone, those that came with the studio first."""
    backbone = services.host.wait_ready().spec.name
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
        for entry in services.calibrations.entries(backbone)
    ]


def get_calibration(services: Services, calibration_id: object) -> dict[str, Any]:
    """A saved calibration as its file has it. Raises ArtifactError for an unknown id."""
    if not isinstance(calibration_id, str):
        raise CalibriError("calibration_id: expected an id of list_calibrations.")
    return json.loads(services.calibrations.get(calibration_id.strip()).calibration.to_json())


# for Gradio


def endpoints(services: Services) -> None:
    """Add the endpoints to the Blocks under construction. Whoever may see the pages may call them; what an
    organiser alone may do is checked here too."""
    people: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "people"}
    with gr.Column(visible=False):
        asked = [
            gr.Textbox(label="Prompt"),
            gr.Number(0, label="Seed: a whole number; the same seed gives the same noise", precision=0),
            gr.Number(8, label="Sampling steps: a whole number", precision=0),
            gr.Number(1.0, label="Classifier-free guidance from 1 (none) to 20"),
        ]
        chosen = gr.Textbox(
            "", label="An id of list_calibrations, a calibration's JSON, or empty for the base"
        )
        level = gr.Textbox("layer", label="Granularity of the calibrations: block, layer or gate")
        picture = gr.Image(label="Picture", format="png", type="pil")
        three = [gr.Image(label=WORDS[kind], format="png", type="pil") for kind in KINDS]
        facts = gr.JSON(label="Facts")
        trigger = gr.Button("Call")

    @guard
    def on_render(
        prompt: str, seed: int, steps: int, guidance: float, calibration: str
    ) -> tuple[Image.Image, dict[str, Any]]:
        return render(services, prompt, seed, steps, guidance, calibration)

    @guard
    def on_compare(prompt: str, seed: int, steps: int, guidance: float, granularity: str) -> tuple[Any, ...]:
        return compare(services, prompt, seed, steps, guidance, granularity)

    trigger.click(
        on_render,
        [*asked, chosen],
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
        images: how many to render at most. prompts: at least 10; none needed for tabletop. On a public studio
        only its organisers may, after signing in: Client(url, auth=(name, password)).
        """
        services.rights.organisers_only(services.rights.username(request))
        return start_search(services, granularity, rewards, steps, images, seed, title, prompts)

    def status_of_search(run_id: str) -> dict:
        """How a search stands: state, images, generations, seconds, verdict, and its error in words."""
        return search_status(services, run_id)

    def all_calibrations() -> list[dict]:
        """The saved calibrations of the loaded backbone: id, title, granularity, scales, members."""
        return list_calibrations(services)

    def one_calibration(calibration_id: str) -> dict:
        """A saved calibration as JSON: names, members with scales and weights, and how it was found."""
        return get_calibration(services, calibration_id)

    for call, name in (
        (start_a_search, "start_search"),
        (status_of_search, "search_status"),
        (all_calibrations, "list_calibrations"),
        (one_calibration, "get_calibration"),
    ):
        call.__annotations__ = get_type_hints(call)  # Gradio reads types, not their names
        gr.api(guard(call), api_name=name, concurrency_limit=8, concurrency_id="api")
