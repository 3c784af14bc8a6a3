"""The pictures of a search: the point reached beside the base, on fixed prompts, rendered now and then."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import CalibriError
from studio.machine.host import ModelHost
from studio.machine.queue import Priority

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.search.runs import Run

log = logging.getLogger(__name__)

FRAMES = 6
GROWTH = 1.3  # rendered again when the search has used this many times the images of the last strip
KEPT = 12  # strips, the oldest forgotten first


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
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.revision = 0

    def of(self, run_id: str) -> Strip | None:
        """The latest strip of this run."""
        return self._strips.get(run_id)

    def want(self, run: Run) -> None:
        """Make the strip of a run that somebody looks at, if it is due and no other is being made."""
        backbone = self._host.backbone
        if backbone is None or not run.steps or run.space is None:
            return
        if backbone.spec.name != Path(run.config.backbone).name:
            return
        known, at = self._strips.get(run.id), self._failed.get(run.id)
        if at is not None and run.images < GROWTH * at + 1:
            return
        if known is not None and (known.over or not run.over) and run.images < GROWTH * known.images:
            return
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._make, args=(run,), name="filmstrip", daemon=True)
            self._thread.start()

    def _make(self, run: Run) -> None:
        from calibri.sampling.request import RenderRequest

        images, over, config = run.images, run.over, run.config
        prompts = fixed_prompts(config)
        known = self._strips.get(run.id)
        settings: dict[str, Any] = {"width": config.width, "height": config.height}
        try:
            point = run.calibration()
            now = [
                RenderRequest.of(prompt, seed, config.steps, calibration=point, **settings)
                for seed, prompt in enumerate(prompts, 1)
            ]
            base = [
                RenderRequest.of(prompt, seed, config.steps, guidance=config.guidance, **settings)
                for seed, prompt in enumerate(prompts, 1)
            ]
            wanted = now if known else now + base
            made = self._host.render(
                wanted, priority=Priority.SEARCH, label="a search's pictures", cancel=lambda: self._closed
            )
            pictures = tuple(rendered.image for rendered in made)
        except CalibriError as error:
            if not self._closed:
                log.warning("the pictures of the search %s could not be made: %s", run.id, error)
            self._failed[run.id] = images
            return
        except Exception:
            log.exception("the pictures of the search %s could not be made", run.id)
            self._failed[run.id] = images
            return
        first = known.base if known else pictures[len(prompts) :]
        self._strips.pop(run.id, None)
        self._strips[run.id] = Strip(prompts, first, pictures[: len(prompts)], images, over)
        while len(self._strips) > KEPT:
            self._strips.pop(next(iter(self._strips)))
        self.revision += 1

    def close(self) -> None:
        """Stop after the batch under way."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join(60)


def fixed_prompts(config: Any) -> tuple[str, ...]:
    """FRAMES prompts that stay the same over all of a search: those it validates on first."""
    return (*config.validation_prompts, *config.prompts)[:FRAMES]
