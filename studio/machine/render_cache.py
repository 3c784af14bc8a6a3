"""Pictures that were rendered before: a PNG file for each, with its NFE and seconds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.calibration.artifact import Calibration

KEY = "calibri-kept"


@dataclass(frozen=True)
class Kept:
    """A picture as rendered (RGB), its transformer evaluations and the seconds they took."""

    image: Image
    nfe: int
    seconds: float


class RenderCache:
    """Files in `folder`, which the first write makes. Nothing is ever removed: the caller keeps them few."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(
        fingerprint: str,
        prompt: str,
        seed: int,
        steps: int,
        calibration: Calibration | None = None,
        guidance: float = 1.0,
    ) -> str:
        """A hash of everything that decides the pixels. `fingerprint`: of the backbone."""
        made_of = [fingerprint, prompt, seed, steps, calibration.hash if calibration else "", float(guidance)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.png"

    def get(self, key: str) -> Kept | None:
        """The picture, or None where there is none or its file is damaged."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self._path(key)) as found:
                facts = json.loads(found.info[KEY])
                return Kept(found.convert("RGB"), int(facts["nfe"]), float(facts["seconds"]))
        except (OSError, UnidentifiedImageError, KeyError, ValueError, TypeError):
            return None

    def holds(self, key: str) -> bool:
        """Whether there is a file, damaged or not."""
        return self._path(key).is_file()

    def put(self, key: str, kept: Kept) -> None:
        """Write the whole file or nothing."""
        from PIL.PngImagePlugin import PngInfo

        path = self._path(key)
        facts = PngInfo()
        facts.add_text(KEY, json.dumps({"nfe": kept.nfe, "seconds": kept.seconds}))
        with replacing(path) as part:
            kept.image.save(part, "PNG", pnginfo=facts)
