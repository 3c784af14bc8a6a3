"""Shots: pictures of arms, rendered or read from the disk, with what is known of them. No Gradio."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from calibri.backbones.lora import read_uses
from calibri.words import count, duration
from studio.access.limits import Admitted
from studio.core import Core
from studio.machine.queue import Priority
from studio.machine.render_cache import Kept, RenderCache
from studio.rendering.arms import Arm, Choice
from studio.rendering.asks import Ask

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone
    from calibri.backbones.lora import LoraUse

log = logging.getLogger(__name__)

RENDERS = "renders"  # in the data folder


class Calls(TypedDict, total=False):
    """What a render calls meanwhile: `on_step(step, steps)` over all pictures; `cancel()`, which ends it with
    RenderCancelled; `on_wait(ahead, holder)` while others have the model."""

    on_step: Callable[..., None] | None
    cancel: Callable[[], bool] | None
    on_wait: Callable[[int, str], None] | None


@dataclass(frozen=True)
class Shot:
    """One picture of one arm and what is known of it. `image`: RGB, as rendered; None where `arm.missing`
    says why. `painted_by`: where LoRAs are loaded, those that were on and the fingerprint with them."""

    arm: Arm
    ask: Ask
    image: Image | None = None
    nfe: int = 0
    seconds: float = 0.0
    rewards: dict[str, float] = field(default_factory=dict)
    painted_by: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One press of Render: what was asked first and a shot of it for each arm.

    `more`: for every further prompt and seed a shot for each arm, in the same order. `choices`: what each arm
    was chosen as, with steps and guidance of its own, so that a page can be set as it was. `made_on`: the
    backbone and its versions, as `png_settings` wants them. `rows`: `shots`, then `more`.
    """

    ask: Ask
    shots: list[Shot] = field(default_factory=list)
    more: list[list[Shot]] = field(default_factory=list)
    choices: tuple[Choice, ...] = ()
    made_on: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    rows: list[list[Shot]] = field(init=False)
    size: int = field(init=False)  # bytes of its pictures

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", [self.shots, *self.more])
        images = [shot.image for row in self.rows for shot in row if shot.image is not None]
        object.__setattr__(self, "size", sum(3 * image.width * image.height for image in images))


def shoot(
    core: Core, arms: Sequence[Arm], ask: Ask, *, score: bool = True, **calls: Unpack[Calls]
) -> list[Shot]:
    """Render every arm on the same prompt, seed and noise, in one go, and score the pictures."""
    return shoot_all(core, [(arm, ask) for arm in arms], score=score, **calls)


def shoot_all(
    core: Core,
    wanted: Sequence[tuple[Arm, Ask]],
    *,
    score: bool = True,
    ahead: bool = False,
    **calls: Unpack[Calls],
) -> list[Shot]:
    """Render every arm for its own ask in one call of the host, which fills its batches from all of them.

    Shots in the order of `wanted`; those of a missing arm have no picture. `ahead`: nobody waits for them
    yet, so those that people wait for come first.
    """
    from calibri.sampling.renderer import RenderRequest  # torch

    backbone = core.host.wait_ready(cancel=calls.get("cancel"), on_wait=calls.get("on_wait"))
    shots = [Shot(arm, ask) for arm, ask in wanted]
    places = [i for i, (arm, _) in enumerate(wanted) if not arm.missing]
    requests = [
        RenderRequest.of(
            shots[i].ask.prompt,
            shots[i].ask.seed,
            shots[i].ask.steps,
            calibration=shots[i].arm.calibration,
            guidance=None if guidance_of(shots[i]) == 1.0 else shots[i].ask.guidance,
            width=shots[i].ask.width,
            height=shots[i].ask.height,
            loras=read_uses(shots[i].ask.loras),
            negative_prompt=shots[i].ask.negative,
            embedded_guidance=shots[i].ask.embedded,
        )
        for i in places
    ]
    label = "a picture" if len(places) == 1 else count(len(places), "picture")
    with core.limits.admitted(requests, backbone.spec) as let_in:
        calls["on_step"] = _watch(let_in, calls.get("on_step"))
        priority = Priority.AHEAD if ahead else _find_priority(core)
        rendered = core.host.render(requests, priority=priority, label=label, **calls)
    for i, made in zip(places, rendered):
        painted_by = _describe_loras(backbone, made.request.loras)
        shots[i] = replace(
            shots[i], image=made.image, nfe=made.nfe, seconds=made.seconds, painted_by=painted_by
        )
    return _score(core, backbone, shots) if score else shots


def _describe_loras(backbone: Backbone, loras: Sequence[LoraUse] | None) -> dict[str, Any]:
    """What settings say of the LoRAs of a picture; nothing where none is loaded."""
    if not len(backbone.loras):
        return {}
    uses = backbone.loras.resolve(loras)
    return {"backbone_fingerprint": backbone.fingerprint_with(loras), "loras": backbone.loras.about(uses)}


def _watch(let_in: Admitted, on_step: Callable[..., None] | None) -> Callable[..., None]:
    """Calls `on_step` too; the work counts once a step is done."""

    def step(*args: Any, **kwargs: Any) -> None:
        let_in.begin()
        if on_step is not None:
            on_step(*args, **kwargs)

    return step


def _find_priority(core: Core) -> Priority:
    """Organisers of a public studio do not wait for its visitors."""
    caller = core.find_caller() if core.settings.demo else None
    return Priority.ORGANISER if caller is not None and caller.organiser else Priority.INTERACTIVE


def _score(core: Core, backbone: Backbone, shots: list[Shot]) -> list[Shot]:
    """The same shots with the rewards of those that have a picture."""
    images = [shot.image for shot in shots if shot.image is not None]
    if not images:
        return shots
    prompts = [shot.ask.prompt for shot in shots if shot.image is not None]
    rows = iter(core.rewards.score(backbone, images, prompts))
    return [shot if shot.image is None else replace(shot, rewards=next(rows)) for shot in shots]


def guidance_of(shot: Shot) -> float:
    """The guidance of this picture: 1 for an ensemble, which has its own in the weights of its members."""
    calibration = shot.arm.calibration
    return 1.0 if calibration is not None and calibration.is_ensemble else shot.ask.guidance


def facts(shot: Shot) -> list[str]:
    """What stands under a picture, besides rewards."""
    if shot.image is None:
        return []
    guided = [f"guidance {shot.ask.guidance:g}"] if guidance_of(shot) != 1.0 else []
    loras = [f"LoRA {shot.ask.loras}"] if shot.ask.loras else []
    return [f"{shot.ask.steps} steps", *guided, *loras, f"{shot.nfe} NFE", duration(shot.seconds)]


def shoot_cached(
    core: Core, wanted: Sequence[tuple[Arm, Ask]], *, score: bool = True, **calls: Unpack[Calls]
) -> list[Shot]:
    """As shoot_all; what was rendered before is read, the rest rendered and kept.

    Only for what cannot grow without end: fixed prompts, cells of a sweep.
    """
    backbone = core.host.wait_ready(cancel=calls.get("cancel"), on_wait=calls.get("on_wait"))
    cache = RenderCache(core.settings.data / RENDERS)

    def key_of(arm: Arm, ask: Ask) -> str:
        print_of = backbone.fingerprint_with(read_uses(ask.loras))
        return RenderCache.key(print_of, ask.prompt, ask.seed, ask.steps, arm.calibration, ask.guidance)

    pairs = {key_of(*pair): pair for pair in wanted if not pair[0].missing}
    found = {key: cache.get(key) for key in pairs}
    missing = [key for key, kept in found.items() if kept is None]
    if missing:
        made = shoot_all(core, [pairs[key] for key in missing], score=False, **calls)
        for key, shot in zip(missing, made):
            assert shot.image is not None
            found[key] = kept = Kept(shot.image, shot.nfe, shot.seconds)
            try:
                cache.put(key, kept)
            except OSError as error:
                log.warning("a picture could not be kept: %s", error.strerror)
    shots = []
    for arm, ask in wanted:
        picture = None if arm.missing else found[key_of(arm, ask)]
        shots.append(
            Shot(arm, ask, picture.image, picture.nfe, picture.seconds) if picture else Shot(arm, ask)
        )
    return _score(core, backbone, shots) if score else shots
