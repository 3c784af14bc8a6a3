"""Shots: pictures of arms, rendered or read from the disk, with what is known of them. No Gradio."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from calibri.words import duration
from studio.core import Core
from studio.machine.queue import Priority
from studio.machine.render_cache import Kept, RenderCache
from studio.rendering.arms import WORDS, Arm, Choice, short_title
from studio.rendering.asks import Ask

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.calibration.artifact import Calibration

log = logging.getLogger(__name__)

RENDERS = "renders"  # in the data folder


@dataclass(frozen=True)
class Shot:
    """One picture of one arm and what is known of it. `image`: RGB, as rendered; None where `arm.missing`
    says why."""

    arm: Arm
    ask: Ask
    image: Image | None = None
    nfe: int = 0
    seconds: float = 0.0
    rewards: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One press of Render: what was asked first and a shot of it for each arm.

    `more`: for every further prompt and seed a shot for each arm, in the same order. `choices`: what each arm
    was chosen as, with steps and guidance of its own, so that a page can be set as it was. `made_on`: the
    backbone and its versions, as `png_settings` wants them.
    """

    ask: Ask
    shots: list[Shot] = field(default_factory=list)
    more: list[list[Shot]] = field(default_factory=list)
    choices: tuple[Choice, ...] = ()
    made_on: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def rows(self) -> list[list[Shot]]:
        """One list of shots for every prompt and seed."""
        return [self.shots, *self.more]


def shoot(
    core: Core,
    arms: Sequence[Arm],
    ask: Ask,
    *,
    score: bool = True,
    on_step: Callable[..., None] | None = None,
    cancel: Callable[[], bool] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> list[Shot]:
    """Render every arm on the same prompt, seed and noise, in one go, and score the pictures."""
    return shoot_all(
        core, [(a, ask) for a in arms], score=score, on_step=on_step, cancel=cancel, on_wait=on_wait
    )


def shoot_all(
    core: Core,
    wanted: Sequence[tuple[Arm, Ask]],
    *,
    score: bool = True,
    on_step: Callable[..., None] | None = None,
    cancel: Callable[[], bool] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> list[Shot]:
    """Render every arm for its own ask in one call of the host, which fills its batches from all of them.
    Shots in the order of `wanted`; those of a missing arm have no picture."""
    from calibri.sampling.renderer import RenderRequest  # torch

    backbone = core.host.wait_ready(cancel=cancel, on_wait=on_wait)
    # Pictures of equal steps stand together, so that the host's batches are full ones.
    order = sorted((i for i, (a, _) in enumerate(wanted) if not a.missing), key=lambda i: wanted[i][1].steps)
    requests = [
        RenderRequest.of(
            ask.prompt,
            ask.seed,
            ask.steps,
            calibration=a.calibration,
            guidance=None if ask.guidance == 1.0 or _combines(a.calibration) else ask.guidance,
            width=ask.width,
            height=ask.height,
        )
        for a, ask in (wanted[i] for i in order)
    ]
    label = "a picture" if len(order) == 1 else f"{len(order)} pictures"
    calls: dict[str, Any] = {"on_step": on_step, "cancel": cancel, "on_wait": on_wait}
    with core.limits.admitted(requests, backbone.spec):
        rendered = core.host.render(requests, priority=Priority.INTERACTIVE, label=label, **calls)
    rows: list[dict[str, float]] = [{} for _ in rendered]
    if score:
        prompts = [wanted[i][1].prompt for i in order]
        rows = core.rewards.score(backbone, [r.image for r in rendered], prompts)
    shots = [Shot(a, ask) for a, ask in wanted]
    for i, made, row in zip(order, rendered, rows):
        shots[i] = Shot(*wanted[i], made.image, made.nfe, made.seconds, row)
    return shots


def _combines(calibration: Calibration | None) -> bool:
    """Guidance combines a positive with a negative member; an ensemble has that built in."""
    return calibration is not None and calibration.is_ensemble


def facts(shot: Shot) -> list[str]:
    """What stands under a picture, besides rewards."""
    if shot.image is None:
        return []
    guided = [f"guidance {shot.ask.guidance:g}"] if guidance_of(shot) != 1.0 else []
    return [f"{shot.ask.steps} steps", *guided, f"{shot.nfe} NFE", duration(shot.seconds)]


def guidance_of(shot: Shot) -> float:
    """The guidance that this picture was made with: an ensemble has its own in its weights."""
    return 1.0 if _combines(shot.arm.calibration) else shot.ask.guidance


def name_of(shot: Shot) -> str:
    """An arm in words: `Base`, `Calibrated: Bent`."""
    title = WORDS[shot.arm.kind] if shot.arm.title != "Nothing" else shot.arm.title
    named = short_title(shot.arm.calibration) if shot.arm.calibration is not None else ""
    return f"{title}: {named}" if named and named != title else title


def cache_of(core: Core) -> RenderCache:
    return RenderCache(core.settings.data / RENDERS)


def kept_shots(
    core: Core,
    wanted: Sequence[tuple[Arm, Ask]],
    *,
    score: bool = True,
    on_step: Callable[..., None] | None = None,
    cancel: Callable[[], bool] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> list[Shot]:
    """As shoot_all, in the order of `wanted`; what was rendered before is read, the rest rendered and kept.

    Only for what cannot grow without end: fixed prompts, cells of a sweep.
    """
    backbone = core.host.wait_ready(cancel=cancel, on_wait=on_wait)
    cache = cache_of(core)
    keys = [
        ""
        if arm.missing
        else RenderCache.key(
            backbone.fingerprint, ask.prompt, ask.seed, ask.steps, arm.calibration, ask.guidance
        )
        for arm, ask in wanted
    ]
    found = {key: cache.get(key) if key else None for key in keys}
    missing = {key: pair for key, pair in zip(keys, wanted) if key and found[key] is None}
    if missing:
        shots = shoot_all(
            core, list(missing.values()), score=False, on_step=on_step, cancel=cancel, on_wait=on_wait
        )
        for key, shot in zip(missing, shots):
            assert shot.image is not None
            found[key] = kept = Kept(shot.image, shot.nfe, shot.seconds)
            try:
                cache.put(key, kept)
            except OSError as error:
                log.warning("a picture could not be kept: %s", error.strerror)
    made = []
    for key, (arm, ask) in zip(keys, wanted):
        kept_one = found[key]
        if kept_one is None:
            made.append(Shot(arm, ask))
        else:
            made.append(Shot(arm, ask, kept_one.image, kept_one.nfe, kept_one.seconds))
    shown = [i for i, shot in enumerate(made) if shot.image is not None]
    if score and shown:
        images, prompts = [made[i].image for i in shown], [made[i].ask.prompt for i in shown]
        rows = core.rewards.score(backbone, images, prompts)  # type: ignore[arg-type]
        for i, row in zip(shown, rows):
            made[i] = replace(made[i], rewards=row)
    return made
