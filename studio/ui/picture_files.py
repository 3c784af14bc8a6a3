"""Pictures as files that browsers fetch, each written once and as a whole; small ones inside a page.

Gradio writes a picture anew at every answer, over the file that a browser may be reading at that moment, and
the download breaks off. Here a file that exists is left as it is.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image


KEPT = 24 * 3600.0  # seconds since a page last asked for it: an open page still shows what it was sent
EVERY = 200  # pictures between two looks for old ones
THUMB = 192  # px: the side of a large backbone's pictures where many are shown
_written = count(1)


def serve(image: Image | None) -> str | None:
    """The path of this picture as a PNG in Gradio's folder for what pages show; None for None.

    The name is a digest of the pixels, so that the address reveals nothing else.
    """
    if image is None:
        return None
    from gradio.utils import get_upload_folder

    shape = f"{image.mode} {image.size} ".encode()
    path = (
        Path(get_upload_folder()) / "pictures" / f"{hashlib.sha256(shape + image.tobytes()).hexdigest()}.png"
    )
    try:
        os.utime(path)
    except FileNotFoundError:
        with replacing(path) as part:
            image.save(part, format="PNG", compress_level=1)
        if next(_written) % EVERY == 0:
            tidy(path.parent)
    return str(path)


def tidy(folder: Path, kept: float = KEPT) -> int:
    """Remove pictures that no page has asked for in `kept` seconds, and return how many.

    So the disk of a public studio does not fill up. A picture that is needed again is written again.
    """
    old = [path for path in folder.glob("*.png") if _age(path) > kept]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _age(path: Path) -> float:
    """Seconds since the file was last asked for; 0 for one that another thread has just removed."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def small_png(image: Image, most: int = THUMB) -> tuple[int, int, str]:
    """Width, height and PNG in base64 of a picture, `most` px at most."""
    small = image
    if max(image.size) > most:
        small = image.copy()
        small.thumbnail((most, most))
    file = io.BytesIO()
    small.save(file, "PNG")
    return small.width, small.height, base64.b64encode(file.getvalue()).decode()
