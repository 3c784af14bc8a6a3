"""Pictures as files that browsers fetch, each written once and as a whole.

Gradio writes a picture anew at every answer, over the file that a browser may be reading at that moment: the
download then breaks off. Here a picture that is there stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def served(image: Image | None) -> str | None:
    """The path of this picture as a PNG in Gradio's folder for what pages show; None for None.

    The name is a digest of the pixels, so that an address tells nothing else.
    """
    if image is None:
        return None
    from gradio.utils import get_upload_folder

    told = f"{image.mode} {image.size} ".encode()
    path = (
        Path(get_upload_folder()) / "pictures" / f"{hashlib.sha256(told + image.tobytes()).hexdigest()}.png"
    )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            image.save(file, format="PNG", compress_level=1)
        os.replace(temporary, path)
    return str(path)
