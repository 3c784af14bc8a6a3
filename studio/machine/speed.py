"""How fast this machine renders: measured by searches and sweeps, or once on a batch of pictures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.queue import Priority

if TYPE_CHECKING:
    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

Loaders = Mapping[str, Callable[[], "Reward"]]  # by name


class Pace:
    """Seconds a picture, scoring included, by backbone and NFE. Safe to call from any thread."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._known: dict[str, dict[int, float]] = {}
        self._lock = threading.Lock()
        self._background = Background("measure-speed")
        self._failed: set[str] = set()  # backbones on which a measurement failed
        self.revision = 0

    def note(self, backbone: str, nfe: int, seconds: float) -> None:
        """A picture of `nfe` transformer evaluations took this long."""
        with self._lock:
            self._known.setdefault(backbone, {})[nfe] = seconds
            self.revision += 1

    def seconds(self, backbone: str, nfe: int) -> float | None:
        """Seconds a picture: as measured at this NFE, else in proportion to the nearest one. None before the
        first measurement.
        """
        with self._lock:
            known = self._known.get(backbone)
            if not known:
                return None
            nearest = min(known, key=lambda measured: abs(measured - nfe))
            return known[nearest] * nfe / nearest

    def measure(self, prompt: str, rewards: Loaders, steps: int) -> None:
        """Render and score one batch in the background, when nobody else needs the model. Does nothing while
        another measurement runs, or where the speed is known.
        """
        backbone = self._host.backbone
        if backbone is None or self._known.get(backbone.spec.name) or backbone.spec.name in self._failed:
            return
        self._background.start(lambda: self._measure(prompt, rewards, steps))

    def _measure(self, prompt: str, rewards: Loaders, steps: int) -> None:
        from calibri.rewards.cache import uncached
        from calibri.rewards.scoring import score_batch
        from calibri.sampling.renderer import Renderer, RenderRequest  # torch

        try:
            loaded = {name: uncached(load()) for name, load in rewards.items()}
            size = self._host.batch_size
            with self._host.hold(Priority.SEARCH, "a measurement of its speed") as backbone:
                renderer = Renderer(backbone, batch_size=size)
                requests = [RenderRequest(prompt=prompt, seed=seed, steps=steps) for seed in range(size)]
                score_batch(renderer, loaded, requests[:1], list(loaded))  # the first one warms up
                began = time.monotonic()
                score_batch(renderer, loaded, requests, list(loaded))
                seconds = (time.monotonic() - began) / size
            self.note(backbone.spec.name, steps, seconds)
        except (CalibriError, RuntimeError) as error:
            log.warning("the speed could not be measured: %s", error)
            if self._host.backbone is not None:
                self._failed.add(self._host.backbone.spec.name)

    def wait(self, seconds: float = 60.0) -> None:
        """Block until no measurement is under way, `seconds` at most."""
        self._background.wait(seconds)

    def close(self) -> None:
        """Wait for the measurement under way."""
        self._background.close()
