"""A small picture of each saved calibration on one fixed prompt, rendered once, after everybody else."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import CalibriError, RenderCancelled
from calibri.files import write_whole
from studio.calibrations import CalibrationStore
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.queue import Priority
from studio.machine.render_cache import Kept, RenderCache

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration

log = logging.getLogger(__name__)

PROMPT, SEED = "a small red cube left of a big blue sphere", 3  # that of the first visit
LARGEST = 192  # px


class Thumbnails:
    """Small WebP pictures in `folder`, named by calibration and backbone. Safe to call from any thread.

    The whole picture goes to `renders`. While a backbone is not loaded, its calibrations keep their last
    pictures.
    """

    def __init__(
        self, host: ModelHost, calibrations: CalibrationStore, folder: Path, renders: RenderCache
    ) -> None:
        self._host, self._calibrations = host, calibrations
        self.folder, self.renders = folder, renders
        self._background = Background("thumbnails")
        self._bytes: dict[tuple[str, str], bytes] = {}
        self._failed: dict[tuple[str, str], str] = {}
        self.revision = 0  # grows with every new picture

    def _fingerprint(self, backbone: str) -> str:
        """The loaded backbone's; empty where another one is loaded, or none."""
        loaded = self._host.backbone
        return loaded.fingerprint if loaded is not None and loaded.spec.name == backbone else ""

    def _path(self, calibration: Calibration, fingerprint: str) -> Path:
        return self.folder / f"{calibration.hash}.{fingerprint[:16]}.webp"

    def find(self, calibration: Calibration) -> bytes | None:
        """The picture as WebP, or None while there is none."""
        fingerprint = self._fingerprint(calibration.backbone)
        key = calibration.hash, fingerprint
        if key not in self._bytes:
            path = self._path(calibration, fingerprint or "*")
            paths = self.folder.glob(path.name)  # of several backbones the last one
            try:
                self._bytes[key] = max(paths, key=lambda found: found.stat().st_mtime).read_bytes()
            except (OSError, ValueError):
                return None
        return self._bytes[key]

    def explain_missing(self, calibration: Calibration) -> str:
        """Why there is no picture, in a few words."""
        fingerprint = self._fingerprint(calibration.backbone)
        if not fingerprint:
            return f"{calibration.backbone or 'its backbone'} is not loaded"
        return self._failed.get((calibration.hash, fingerprint), "its picture is being rendered")

    def render_missing(self) -> None:
        """Render what is missing for the loaded backbone in the background, unless that runs already."""
        if not self._background.busy and self._missing() is not None:
            self._background.start(self._work)

    def _missing(self) -> Calibration | None:
        backbone = self._host.backbone
        if backbone is None:
            return None
        for entry in self._calibrations.entries(backbone.spec.name, backbone.fingerprint):
            made = entry.calibration
            if (made.hash, backbone.fingerprint) not in self._failed and self.find(made) is None:
                return made
        return None

    def _work(self) -> None:
        while not self._background.closed and (calibration := self._missing()) is not None:
            backbone = self._host.backbone
            if backbone is None:
                return
            try:
                self._make(calibration, backbone)
            except RenderCancelled:
                return
            except CalibriError as error:
                if self._host.backbone is backbone:  # else another one was loaded meanwhile
                    log.warning("no picture of “%s”: %s", calibration.title, error)
                    self._failed[calibration.hash, backbone.fingerprint] = str(error)
            except Exception as error:
                log.exception("no picture of “%s”", calibration.title)
                self._failed[calibration.hash, backbone.fingerprint] = f"no picture: {type(error).__name__}"
            self.revision += 1

    def _make(self, calibration: Calibration, backbone: Backbone) -> None:
        from PIL.Image import Resampling

        from calibri.sampling.request import RenderRequest

        steps = backbone.spec.steps
        request = RenderRequest.of(PROMPT, SEED, steps, calibration=calibration)
        rendered = self._host.render(
            [request],
            priority=Priority.SEARCH,
            label="a picture for the library",
            cancel=lambda: self._background.closed,
        )[0]
        if self._host.backbone is not backbone:
            return
        key = RenderCache.key(backbone.fingerprint, PROMPT, SEED, steps, calibration)
        self.renders.put(key, Kept(rendered.image, rendered.nfe, rendered.seconds))
        small = rendered.image.copy()
        small.thumbnail((LARGEST, LARGEST), Resampling.LANCZOS)
        out = BytesIO()
        small.save(out, "WEBP", quality=88)
        write_whole(self._path(calibration, backbone.fingerprint), out.getvalue())

    def wait(self, seconds: float = 60.0) -> None:
        """Block until nothing is rendered, `seconds` at most."""
        self._background.wait(seconds)

    def close(self) -> None:
        """Stop after the current step."""
        self._background.close()
