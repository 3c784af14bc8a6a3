"""The pictures of a search: the point reached beside the base, on fixed prompts, rendered now and then."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibri.backbones.catalog import backbone_name
from calibri.errors import CalibriError
from calibri.search.config import SearchConfig
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.queue import Priority

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.search.runs import Run

log = logging.getLogger(__name__)

FRAMES = 6
GROWTH = 1.3  # rendered again when the search has used this many times the images of the last strip
MOST_STRIPS = 12  # the oldest is forgotten first


@dataclass(frozen=True)
class Strip:
    """Base and point reached on the same prompts and seeds. `images`: used by the search when it was made."""

    prompts: tuple[str, ...]
    base: tuple[Image, ...]
    now: tuple[Image, ...]
    images: int
    over: bool


class Filmstrip:
    """Renders strips in the background, after people and like a search. Safe to call from any thread."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._strips: dict[str, Strip] = {}
        self._failed: dict[str, int] = {}  # images at which a strip could not be made
        self._work = Background("filmstrip")

    def find(self, run_id: object) -> Strip | None:
        """The latest strip of this run."""
        return self._strips.get(run_id) if isinstance(run_id, str) else None

    def want(self, run: Run) -> None:
        """Make the strip of a run that somebody looks at, if it is due and no other is being made."""
        backbone = self._host.backbone
        if backbone is None or not run.generations or run.space is None:
            return
        if backbone.spec.name != backbone_name(run.config.backbone):
            return
        known, failed = self._strips.get(run.id), self._failed.get(run.id)
        if failed is not None and run.images < GROWTH * failed + 1:
            return
        if known is not None and (known.over or not run.over) and run.images < GROWTH * known.images:
            return
        self._work.start(lambda: self._make(run))

    def _make(self, run: Run) -> None:
        images, over = run.images, run.over
        try:
            strip = self._render(run, images, over)
        except Exception as error:
            self._failed[run.id] = images
            if isinstance(error, CalibriError):
                if not self._work.closed:
                    log.warning("the pictures of the search %s could not be made: %s", run.id, error)
                return
            raise  # logged with its trace
        self._strips.pop(run.id, None)
        self._strips[run.id] = strip
        while len(self._strips) > MOST_STRIPS:
            self._strips.pop(next(iter(self._strips)))

    def _render(self, run: Run, images: int, over: bool) -> Strip:
        from calibri.sampling.request import RenderRequest

        config, point, known = run.config, run.calibration(), self._strips.get(run.id)
        asks = list(enumerate(fixed_prompts(config), 1))
        size: dict[str, Any] = {"width": config.width, "height": config.height}
        now = [RenderRequest.of(p, seed, config.steps, calibration=point, **size) for seed, p in asks]
        base = [RenderRequest.of(p, seed, config.steps, guidance=config.guidance, **size) for seed, p in asks]
        made = self._host.render(
            now if known else now + base,
            priority=Priority.SEARCH,
            label="a search's pictures",
            cancel=lambda: self._work.closed,
        )
        pictures = tuple(rendered.image for rendered in made)
        first = known.base if known else pictures[len(now) :]
        return Strip(tuple(p for _, p in asks), first, pictures[: len(now)], images, over)

    @property
    def busy(self) -> bool:
        """Whether a strip is being made."""
        return self._work.busy

    def wait(self, seconds: float) -> bool:
        """Block until no strip is being made, `seconds` at most. Returns whether none is."""
        return self._work.wait(seconds)

    def close(self) -> None:
        """Stop after this batch."""
        self._work.close()


def fixed_prompts(config: SearchConfig) -> tuple[str, ...]:
    """FRAMES prompts that stay the same over all of a search: those it validates on first."""
    return (*config.validation_prompts, *config.prompts)[:FRAMES]
