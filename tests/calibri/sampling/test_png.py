"""Settings of a PNG file are read without its pixels, whatever somebody put into it."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from calibri.errors import RenderError
from calibri.sampling.png import KEY, LARGEST_SETTINGS, read_settings, save_png


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, width: int = 1, height: int = 1) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compressobj(9)
    row = b"\0" * (1 + 3 * width)
    body = b"".join(pixels.compress(row) for _ in range(height)) + pixels.flush()
    made = [chunk(b"IHDR", header), chunk(b"IDAT", body), *chunks, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def settings_of(size: int) -> bytes:
    """JSON of that many bytes."""
    return json.dumps({"a": "x" * (size - len('{"a": ""}'))}).encode()


WAYS = {
    "tEXt": lambda text: chunk(b"tEXt", KEY.encode() + b"\0" + text),
    "zTXt": lambda text: chunk(b"zTXt", KEY.encode() + b"\0\0" + zlib.compress(text, 9)),
    "iTXt": lambda text: chunk(b"iTXt", KEY.encode() + b"\0\0\0en\0clef\0" + text),
    "iTXt, packed": lambda text: chunk(b"iTXt", KEY.encode() + b"\0\1\0\0\0" + zlib.compress(text, 9)),
}


@pytest.mark.parametrize("way", WAYS)
def test_settings_are_read_up_to_their_limit(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(WAYS[way](settings_of(LARGEST_SETTINGS))))
    assert len(read_settings(path)["a"]) == LARGEST_SETTINGS - len('{"a": ""}')
    path.write_bytes(png(WAYS[way](settings_of(LARGEST_SETTINGS + 1))))
    with pytest.raises(RenderError, match=f"at most {LARGEST_SETTINGS} bytes"):
        read_settings(path)


@pytest.mark.parametrize("way", ["zTXt", "iTXt, packed"])
def test_packed_text_of_a_gigabyte_costs_nothing(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(*[WAYS[way](b"[" * 20_000_000)] * 50))
    tracemalloc.start()
    with pytest.raises(RenderError, match="at most"):
        read_settings(path)
    assert tracemalloc.get_traced_memory()[1] < 8 * LARGEST_SETTINGS
    tracemalloc.stop()


def test_pixels_are_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(WAYS["iTXt"](b'{"seed": 3}'), width=15_000, height=11_000))
    assert path.stat().st_size < 700_000  # 0.5 GB of pixels
    tracemalloc.start()
    assert read_settings(path) == {"seed": 3}
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()


def test_the_last_one_counts_as_it_does_for_pillow(tmp_path: Path) -> None:
    path, info = tmp_path / "a.png", PngImagePlugin.PngInfo()
    info.add_itxt(KEY, '{"seed": 1}', lang="de", tkey="é")
    info.add_text(KEY, '{"seed": 2, "prompt": "é"}', zip=True)
    Image.new("RGB", (3, 3)).save(path, pnginfo=info)
    with Image.open(path) as image:
        image.load()
        assert read_settings(path) == json.loads(image.text[KEY]) == {"seed": 2, "prompt": "é"}


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "expected a PNG file"),
        (b"GIF89a", "expected a PNG file"),
        (png()[:-6], "breaks off"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xfftEXt", "breaks off"),
        (png(chunk(b"tEXt", b"calibri\0{}")[:-1] + b"\0"), "damaged"),
        (png(chunk(b"zTXt", b"calibri\0\0none")), "damaged"),
        (png(chunk(b"iTXt", b"calibri\0\0\0\0\0\xff")), "no picture that can be read"),
        (png(), "carries no settings"),
        (png(WAYS["tEXt"](b"[" * 1000)), "at most 64 levels"),
        (png(WAYS["tEXt"](b'{"seed": ' + b"9" * 5000 + b"}")), "at most 400 digits, got 5000"),
        (png(WAYS["tEXt"](b"[]")), "damaged"),
    ],
)
def test_what_cannot_be_read_is_told_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(RenderError, match=words):
        read_settings(path)


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    picture, path = Image.new("RGB", (2, 2)), tmp_path / "a.png"
    most = LARGEST_SETTINGS - len('{"a": ""}')
    save_png(picture, path, {"a": "x" * most})
    assert len(read_settings(path)["a"]) == most
    with pytest.raises(RenderError, match=f"at most {LARGEST_SETTINGS} bytes, got {LARGEST_SETTINGS + 1}"):
        save_png(picture, path, {"a": "x" * (most + 1)})
