"""Folds calibrations into pipeline folders, in the background, one after another."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from calibri.calibration.artifact import Calibration
from calibri.errors import ArtifactError, CalibriError, RenderCancelled
from calibri.words import data_size, slug
from studio.machine.background import Background
from studio.machine.host import ModelHost

log = logging.getLogger(__name__)

FOLDER = "folded"  # in the data folder
Phase = Literal["none", "running", "done", "failed"]


@dataclass(frozen=True)
class Fold:
    """The last fold. `words`: what it does now, where the folder lies, or why there is none."""

    phase: Phase = "none"
    title: str = ""
    words: str = ""
    revision: int = 0


class Folding:
    """Writes into folders below `folder`, which the first fold makes. Safe to call from any thread.

    The weights are read once more from the backbone's own files: the loaded model stays as it is, however it
    is quantised or offloaded.
    """

    def __init__(self, host: ModelHost, folder: Path) -> None:
        self._host, self.folder = host, folder
        self._background = Background("fold")
        self._lock = threading.Lock()
        self._fold = Fold()

    @property
    def state(self) -> Fold:
        return self._fold

    def _tell(self, phase: Phase, title: str, words: str) -> None:
        with self._lock:
            self._fold = Fold(phase, title, words, self._fold.revision + 1)

    def start(self, calibration: Calibration) -> None:
        """Begin. Raises ArtifactError, LayoutError or HostError for what cannot be folded, and while another
        fold runs."""
        from calibri.backbones.catalog import resolve
        from calibri.calibration.fold import check_foldable  # torch

        backbone = self._host.wait_ready()
        name = backbone.spec.name
        if calibration.backbone and not calibration.belongs_to(name, backbone.fingerprint):
            raise ArtifactError(
                f"“{calibration.title}” is for {calibration.backbone}, but {name} is loaded. Load its "
                "backbone first."
            )
        check_foldable(backbone, calibration)
        options = self._host.options
        if options.transformer:
            raise ArtifactError(
                f"{name} is loaded with the transformer of a file of its own, which is not in its folder: "
                "fold without it."
            )
        given = self._host.known.get(name, name)
        spec = resolve(given)
        if spec.is_local:
            _check_memory(Path(spec.source))
        title = calibration.title or "Calibration"
        if not self._background.start(lambda: self._work(given, calibration, title, options.loras)):
            raise ArtifactError(f"“{self._fold.title}” is being folded. Wait until it is done.")

    def _work(self, name: str, calibration: Calibration, title: str, loras: tuple[str, ...]) -> None:
        from calibri.backbones.options import LoadOptions
        from calibri.sampling.fold_folder import fold_backbone

        def tell(what: str) -> None:
            if self._background.closed:
                raise RenderCancelled("The studio closes.")
            self._tell("running", title, f"Folding “{title}”: {what} …")

        try:
            tell("beginning")
            out = self._free_folder(slug(title, "calibration", 60))
            how = LoadOptions(device="cpu", loras=loras)  # which are fused, as the studio paints with them
            difference = fold_backbone(name, calibration, out, how, tell)
        except RenderCancelled:
            self._tell("none", "", "")
        except CalibriError as error:
            self._tell("failed", title, f"“{title}” was not folded: {str(error).removesuffix('.')}.")
        except MemoryError:
            self._tell("failed", title, f"“{title}” was not folded: there is too little memory for it.")
        except Exception as error:
            log.exception("“%s” was not folded", title)
            self._tell("failed", title, f"“{title}” was not folded ({type(error).__name__}); see the log.")
        else:
            self._tell(
                "done",
                title,
                f"“{title}” lies in {FOLDER}/{out.name}, in the data folder of this studio: plain diffusers "
                "loads that folder with DiffusionPipeline.from_pretrained. One prediction differs from that "
                f"with hooks by {difference:.1e} of its largest value.",
            )

    def _free_folder(self, stem: str) -> Path:
        out, number = self.folder / stem, 2
        while out.exists():
            out, number = self.folder / f"{stem}-{number}", number + 1
        return out

    def wait(self, seconds: float = 60.0) -> bool:
        """Block until nothing is folded, `seconds` at most. Returns whether nothing is."""
        return self._background.wait(seconds)

    def close(self) -> None:
        """End before the next part of the work; a folder that is not whole is removed."""
        self._background.close()


def _check_memory(source: Path) -> None:
    """Raises ArtifactError where a copy of the weights does not fit beside the loaded model."""
    needed = sum(path.stat().st_size for path in source.rglob("*.safetensors"))
    free = psutil.virtual_memory().available
    if needed > free:
        raise ArtifactError(
            f"Folding loads a copy of the weights: {data_size(needed)}, and {data_size(free)} of memory are "
            "free. Close what else runs, or use `calibri fold` on a larger machine."
        )
