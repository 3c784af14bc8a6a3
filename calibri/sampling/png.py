"""PNG files that carry the settings of their picture.

Reading them looks at the chunks of text alone: a small file can hold pixels, or packed text, of gigabytes.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, PngImagePlugin

from calibri.errors import RenderError
from calibri.files import load_json, read_limited, replacing

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration
    from calibri.sampling.request import Rendered

KEY = "calibri"  # of the text chunk that holds the settings as JSON
LARGEST_PNG = 256 * 2**20  # bytes
LARGEST_SETTINGS = 2**20  # bytes, unpacked; three calibrations of 240 scales take 40 KB
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def settings_of(
    rendered: Rendered, backbone: Backbone, calibration: Calibration | None = None
) -> dict[str, Any]:
    """All that is needed to render the picture again, as JSON values. Files without their folders."""
    request = rendered.request
    loras = backbone.loras.resolve(request.loras)
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "steps": request.steps,
        "guidance": request.guidance,
        "embedded_guidance": request.embedded_guidance,
        "width": rendered.image.width,
        "height": rendered.image.height,
        "backbone": backbone.spec.name,
        "backbone_fingerprint": backbone.fingerprint_with(request.loras),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "nfe": rendered.nfe,
        "calibration": None if calibration is None else json.loads(calibration.to_json()),
        "versions": {name: metadata.version(name) for name in ("torch", "diffusers")},
        **({"loras": backbone.loras.about(loras)} if loras else {}),
    }


def save_png(image: Image.Image, path: str | Path, settings: dict[str, Any] | None = None) -> None:
    """Writes the file as a whole or not at all. Raises RenderError if it cannot be written."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise RenderError(f"{path}: expected a file that ends in .png, which can carry the settings")
    info = PngImagePlugin.PngInfo()
    if settings is not None:
        text = json.dumps(settings, ensure_ascii=False)
        if (size := len(text.encode())) > LARGEST_SETTINGS:
            raise RenderError(f"{path}: expected settings of at most {LARGEST_SETTINGS} bytes, got {size}")
        info.add_itxt(KEY, text)
    try:
        with replacing(path) as part:
            image.save(part, format="PNG", pnginfo=info)
    except OSError as error:
        raise RenderError(f"{path}: {error.strerror or error}") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings inside a PNG file, without a look at its pixels. Raises RenderError if it has none."""
    try:
        data = read_limited(path, LARGEST_PNG, RenderError)
        kept = [(kind, body) for kind, body in _chunks(data) if _key_of(kind, body) == KEY.encode()]
        text = _unpack(*kept[-1]) if kept else None
    except (RenderError, ValueError) as error:
        raise RenderError(f"{path}: no picture that can be read ({error})") from error
    if text is None:
        raise RenderError(f"{path}: carries no settings; only PNG files of this program do")
    try:
        settings = load_json(text)
    except ValueError as error:
        raise RenderError(f"{path}: its settings are damaged ({error})") from error
    if not isinstance(settings, dict):
        raise RenderError(f"{path}: its settings are damaged")
    return settings


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(kind, content) of every chunk of text. ValueError where the file is no PNG, or breaks off."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("expected a PNG file")
    file, whole = io.BytesIO(data), memoryview(data)
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:], file.tell()
        end = start + size
        if end + 4 > len(data):
            break
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            body = whole[start:end]
            if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(whole[end : end + 4], "big"):
                raise ValueError("a chunk of text is damaged")
            yield kind, body
        file.seek(end + 4)
    raise ValueError("it breaks off")


def _key_of(kind: bytes, body: memoryview) -> bytes:
    return bytes(body[:80]).partition(b"\0")[0]


def _unpack(kind: bytes, body: memoryview) -> str:
    """The text of a chunk: PNG 1.2, section 4.2.3. ValueError where it is too long or damaged."""
    _, _, rest = bytes(body).partition(b"\0")
    if kind == b"tEXt":
        return _decompress(rest, packed=False).decode("latin-1")
    if kind == b"zTXt":
        return _decompress(rest[1:], packed=True).decode("latin-1")
    packed, (_, _, text) = rest[:1] == b"\1", rest[2:].partition(b"\0")  # behind the flags, the language
    return _decompress(text.partition(b"\0")[2], packed=packed).decode("utf-8")


def _decompress(text: bytes, *, packed: bool) -> bytes:
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, LARGEST_SETTINGS + 1)
        except zlib.error as error:
            raise ValueError("a chunk of text is damaged") from error
    if len(text) > LARGEST_SETTINGS:
        raise ValueError(f"expected settings of at most {LARGEST_SETTINGS} bytes, got more")
    return text
