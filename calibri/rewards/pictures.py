"""Pictures of any size and mode as what reward models see: PIL and numpy alone, the same everywhere.

What transformers' AutoImageProcessor does depends on whether torchvision is installed; this does not.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from calibri.errors import RewardError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_LARGEST = 4096  # a square that is padded, in pixels a side
_NARROW = 16  # longer than so many times its width: only the part that stays is resized


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB. Of 16-bit pictures the upper 8 bits count, of numbers in [0, 1] 255 times
    that. Transparency is left out, not blended, as the rewards' own code does.

    Raises RewardError for what is no picture, or one without pixels.
    """
    if not isinstance(image, Image.Image):
        raise RewardError(f"expected a PIL picture, got {type(image).__name__}")
    if 0 in image.size:
        raise RewardError(f"expected a picture with pixels, got {image.width}×{image.height}")
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        if image.mode.startswith("I;16") or values.max() > 255:
            values = values / 257  # 65535 is white
        elif image.mode == "F" and values.max() <= 1:
            values = values * 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def encode_picture(image: Image.Image, quality: int | None = None) -> bytes:
    """The picture in 8-bit RGB as PNG, so that no level changes, or as JPEG of a quality from 1 to 95."""
    written = io.BytesIO()
    if quality is None:
        as_rgb(image).save(written, "PNG", compress_level=1)  # the time counts here, not the bytes
    else:
        as_rgb(image).save(written, "JPEG", quality=quality)
    return written.getvalue()


def resize_and_crop(
    image: Image.Image, side: int, middle: Callable[[int], int] = lambda rest: rest // 2
) -> Image.Image:
    """(side, side): the shorter side resized to it, bicubic, then the middle. What CLIPImageProcessor does
    with PIL. `middle`: of the pixels that go, those on the left or at the top.
    """
    width, height = image.size
    short = min(width, height)
    new = (side, int(side * height / width)) if width == short else (int(side * width / height), side)
    left, top = middle(new[0] - side), middle(new[1] - side)
    if max(new) <= _NARROW * side:
        resized = image.resize(new, Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + side, top + side))
    across, down = width / new[0], height / new[1]
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def pad_to_square(image: Image.Image) -> Image.Image:
    """The RGB picture in the middle of a square of CLIP's mean colour.

    A picture of more than 4096 pixels a side is made smaller first: its square could fill the memory.
    """
    if image.width == image.height:
        return image
    if max(image.size) > _LARGEST:
        ratio = _LARGEST / max(image.size)
        size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        image = image.resize(size, Image.Resampling.BOX)
    side = max(image.size)
    red, green, blue = (int(level * 255) for level in CLIP_MEAN)
    square = Image.new("RGB", (side, side), (red, green, blue))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def normalise(
    images: Sequence[Image.Image],
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> np.ndarray:
    """(n, 3, h, w) float32, (levels / 255 − mean) / std, of RGB pictures that share a size."""
    levels = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    middle, width = (np.asarray(each, dtype=np.float32) for each in (mean, std))
    values = (levels * np.float32(1 / 255) - middle) / width
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)


def clip_pixels(images: Sequence[Image.Image], side: int = 224) -> np.ndarray:
    """(n, 3, side, side) float32 as CLIP's vision tower takes it, of RGB pictures of any size."""
    return normalise([resize_and_crop(image, side) for image in images])
