"""PNG files that carry the settings of their picture."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from calibri.errors import RenderError
from calibri.files import replacing

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration
    from calibri.sampling.request import Rendered

KEY = "calibri"  # of the text chunk that holds the settings as JSON


def settings_of(
    rendered: Rendered, backbone: Backbone, calibration: Calibration | None = None
) -> dict[str, Any]:
    """All that is needed to render the picture again, as JSON values."""
    request = rendered.request
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "steps": request.steps,
        "guidance": request.guidance,
        "width": rendered.image.width,
        "height": rendered.image.height,
        "backbone": backbone.spec.name,
        "backbone_fingerprint": backbone.fingerprint,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "nfe": rendered.nfe,
        "calibration": None if calibration is None else json.loads(calibration.to_json()),
        "versions": {name: metadata.version(name) for name in ("torch", "diffusers")},
    }


def save_png(image: Image.Image, path: str | Path, settings: dict[str, Any] | None = None) -> None:
    """Writes the file as a whole or not at all. Raises RenderError if it cannot be written."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise RenderError(f"{path}: expected a file that ends in .png, which can carry the settings")
    info = PngImagePlugin.PngInfo()
    if settings is not None:
        info.add_itxt(KEY, json.dumps(settings, ensure_ascii=False))
    try:
        with replacing(path) as part:
            image.save(part, format="PNG", pnginfo=info)
    except OSError as error:
        raise RenderError(f"{path}: {error.strerror or error}") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings inside a PNG file. Raises RenderError if it has none."""
    try:
        with Image.open(path) as image:
            image.load()  # the chunk may come after the pixels
            text = getattr(image, "text", {}).get(KEY)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise RenderError(f"{path}: no picture that can be read ({error})") from error
    if text is None:
        raise RenderError(f"{path}: carries no settings; only PNG files of this program do")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise RenderError(f"{path}: its settings are damaged ({error})") from error
    if not isinstance(settings, dict):
        raise RenderError(f"{path}: its settings are damaged")
    return settings
