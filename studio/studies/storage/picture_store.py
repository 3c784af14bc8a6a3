"""Pictures of studies on disk: PNG files without metadata, named by the hash of their bytes.

A rater's browser gets every picture of a study in the same number of bytes: the length of a PNG shows how
much detail it has, and so which arm made it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import secrets
import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import StudyError
from calibri.files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

PADDING = b"paDd"  # a private chunk that PNG readers skip
_CHUNK = 12  # bytes of a chunk beside its data
_END = 12  # bytes of the last chunk, IEND
_GRAIN = 4096  # lengths are whole multiples of it
SHOWN = 384  # px: small pictures are enlarged by a whole factor, up to about this width
_SHA = re.compile(r"[0-9a-f]{64}")


class PictureGone(StudyError):
    """The file of a picture is missing or damaged."""


class ImageStore:
    """Content-addressed PNG files in `folder`, which is created at the first write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """The file of a picture. Raises StudyError for anything but a hash."""
        if not _SHA.fullmatch(sha256):
            raise StudyError(f"Expected the sha256 of a picture, got {sha256[:80]!r}.")
        return self.folder / sha256[:2] / f"{sha256}.png"

    def put(self, image: Image) -> str:
        """Store the pixels and return the hash of the PNG. The same pixels always give the same hash."""
        data = png(image)
        sha256 = hashlib.sha256(data).hexdigest()
        self.restore(sha256, data)
        return sha256

    def restore(self, sha256: str, data: bytes) -> None:
        """Write these bytes under their hash, unless they are there. Raises StudyError for a wrong hash."""
        path, got = self.path(sha256), hashlib.sha256(data).hexdigest()
        if got != sha256:
            raise StudyError(f"Expected a picture with the hash {sha256[:12]}…, got {got[:12]}….")
        if not self.is_whole(sha256):
            if path.is_dir():  # put there by mistake: what is in it is not ours to delete
                path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}"))
            write_whole(path, data)

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def is_whole(self, sha256: str) -> bool:
        """Whether the file is there with the bytes that its name promises."""
        try:
            self.read(sha256)
        except StudyError:
            return False
        return True

    def read(self, sha256: str) -> bytes:
        """The PNG as stored. Raises PictureGone where its file is missing or damaged."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            log.debug("picture %s cannot be read: %s", sha256, error)
            raise PictureGone(f"The file of picture {sha256[:12]}… is missing.") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise PictureGone(f"The file of picture {sha256[:12]}… is damaged.")
        return data

    def open(self, sha256: str) -> Image:
        """The picture as stored, RGB."""
        from PIL import Image

        with Image.open(BytesIO(self.read(sha256))) as image:
            return image.convert("RGB")

    def view(self, sha256: str) -> bytes:
        """The PNG as raters see it: small pictures enlarged by a whole factor. Made once and kept.

        A view whose bytes are not those that were written is made again. Raises PictureGone.
        """
        path = self.path(sha256).with_suffix(".view.png")
        known = self._view_note(sha256)
        if known is not None:
            try:
                data = path.read_bytes()
            except OSError:
                data = b""
            if hashlib.sha256(data).hexdigest() == known[0]:
                return data
        stored = self.read(sha256)
        factor = SHOWN // max(struct.unpack(">II", stored[16:24]))  # width and height in a PNG's header
        if factor < 2:
            return stored
        from PIL import Image

        image = self.open(sha256)
        size = (image.width * factor, image.height * factor)
        data = png(image.resize(size, Image.Resampling.LANCZOS))
        write_whole(path, data)
        write_whole(path.with_suffix(".txt"), f"{hashlib.sha256(data).hexdigest()} {len(data)}\n")
        return data

    def _view_note(self, sha256: str) -> tuple[str, int] | None:
        """(hash, length) of the view that was written; None before it is, or where the note is damaged."""
        try:
            digest, length = self.path(sha256).with_suffix(".view.txt").read_text().split()
            return digest, int(length)
        except (OSError, ValueError):
            return None

    def padded_view(self, sha256: str, length: int) -> bytes:
        """The PNG as raters see it, `length` bytes long: see `common_length`."""
        return pad(self.view(sha256), length)

    def common_length(self, pictures: Iterable[str]) -> int:
        """The number of bytes that all these pictures can be padded to. Skips missing and damaged ones."""
        longest = 0
        for sha256 in pictures:
            try:
                longest = max(longest, self._view_length(sha256))
            except (StudyError, OSError):
                continue
        return _padded_length(longest)

    def _view_length(self, sha256: str) -> int:
        known = self._view_note(sha256)
        return known[1] if known is not None else len(self.view(sha256))


def _padded_length(length: int) -> int:
    return math.ceil((length + _CHUNK) / _GRAIN) * _GRAIN


def pad(data: bytes, length: int) -> bytes:
    """The same PNG in `length` bytes, or in its least padded length where it is longer.

    The padding looks random, so that compression on the way does not bring the difference back.
    """
    length = max(length, _padded_length(len(data)))
    filling = hashlib.shake_256(data[-64:]).digest(length - len(data) - _CHUNK)
    chunk = struct.pack(">I", len(filling)) + PADDING + filling
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    return data[:-_END] + chunk + data[-_END:]


def png(image: Image) -> bytes:
    """These RGB pixels as PNG: header, data, end, and nothing else."""
    from PIL import Image as pil

    plain = pil.frombytes(
        "RGB", image.size, image.convert("RGB").tobytes()
    )  # drops info, and so all text chunks
    out = BytesIO()
    plain.save(out, "PNG", compress_level=6)
    return out.getvalue()
