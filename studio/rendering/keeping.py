"""Pictures that many visitors ask for again: from the disk where they were rendered before. No Gradio."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from studio.core import Services
from studio.machine.render_cache import Kept, RenderCache
from studio.rendering.shots import Arm, Ask, Shot, shoot_all

log = logging.getLogger(__name__)

FOLDER = "renders"  # in the data folder


def cache_of(services: Services) -> RenderCache:
    return RenderCache(services.settings.data / FOLDER)


def kept_shots(
    services: Services,
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
    backbone = services.host.wait_ready(cancel=cancel, on_wait=on_wait)
    cache = cache_of(services)
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
            services, list(missing.values()), score=False, on_step=on_step, cancel=cancel, on_wait=on_wait
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
        rows = services.scorer.score(backbone.spec.name, images, prompts)  # type: ignore[arg-type]
        for i, row in zip(shown, rows):
            made[i] = replace(made[i], rewards=row)
    return made
