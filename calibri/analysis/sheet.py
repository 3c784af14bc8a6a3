"""Contact sheets: pictures in columns and rows, with heads, as one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from calibri.errors import RenderError

LEAST, MOST = 192, 1024  # px: the sides between which a picture is shown
MOST_PIXELS = 32 * 2**20  # of a sheet
GAP, PAPER, INK, QUIET = 6, (255, 255, 255), (28, 28, 28), (86, 86, 86)
MOST_LINES = 4  # of a head


class _Text(NamedTuple):
    """Lettering of one size."""

    font: ImageFont.ImageFont | ImageFont.FreeTypeFont
    line: int  # px from one line to the next
    letter: float  # px, about, of one letter


def draw_sheet(
    pictures: Sequence[Image.Image],
    columns: Sequence[str],
    rows: Sequence[str] = (),
    *,
    caption: str = "",
) -> Image.Image:
    """One RGB picture of all, row after row. `columns`, `rows`: heads; no `rows` for a single row without
    one. `caption`: below. Pictures have one size; large ones are made smaller, so that a sheet has at most
    about MOST_PIXELS. Raises RenderError for a number of pictures that does not fit."""
    many = max(1, len(rows))
    if not pictures or len(pictures) != len(columns) * many:
        raise RenderError(f"expected {len(columns)} × {many} pictures for a sheet, got {len(pictures)}")
    width, height = _fit(pictures[0].size, len(columns), many)
    text = _letter(max(13, min(width, height) // 16))
    beside = _measure_side(rows, text, width)
    heads = [_wrap(head, text, width) for head in columns]
    top = 2 * GAP + text.line * max(len(lines) for lines in heads)
    total = beside + len(columns) * (width + GAP) + GAP
    foot = _wrap(caption, text, total - 2 * GAP, most=12)
    bottom = GAP + text.line * len(foot) + (GAP if foot else 0)
    sheet = Image.new("RGB", (total, top + many * (height + GAP) + bottom), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, lines in enumerate(heads):
        _write(draw, (beside + GAP + place * (width + GAP), top - GAP - text.line * len(lines)), lines, text)
    for place, head in enumerate(rows):
        lines = _wrap(head, text, beside - GAP)
        y = top + place * (height + GAP) + max(0, (height - text.line * len(lines)) // 2)
        _write(draw, (GAP, y), lines, text)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, len(columns))
        spot = (beside + GAP + column * (width + GAP), top + row * (height + GAP))
        sheet.paste(_resize(picture, (width, height)), spot)
    _write(draw, (GAP, top + many * (height + GAP) + GAP), foot, text, QUIET)
    return sheet


def _fit(size: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """The size in px at which each picture is shown: small ones at a whole multiple."""
    side = max(size)
    factor = float(max(1, -(-LEAST // side))) if side < LEAST else min(1.0, MOST / side)
    room = (MOST_PIXELS / (size[0] * size[1] * columns * rows)) ** 0.5
    factor = min(factor, room)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    larger = size[0] > picture.width
    return picture.resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _letter(pixels: int) -> _Text:
    font = ImageFont.load_default(pixels)
    return _Text(font, round(pixels * 1.35), max(1.0, font.getlength("average words") / 13))


def _measure_side(rows: Sequence[str], text: _Text, width: int) -> int:
    """Room in px for the heads of rows: as much as they need, at most that of a picture."""
    if not rows:
        return 0
    longest = max(text.font.getlength(row) for row in rows)
    return GAP + round(min(max(longest, 6 * text.letter), width))


def _wrap(words: str, text: _Text, width: int, most: int = MOST_LINES) -> list[str]:
    """Lines that fit a width in px, about; the last one ends in dots where there would be more."""
    letters = max(4, int(width / text.letter))
    return textwrap.wrap(words, letters, max_lines=most, placeholder="…")


def _write(
    draw: ImageDraw.ImageDraw,
    spot: tuple[int, int],
    lines: Sequence[str],
    text: _Text,
    ink: tuple[int, int, int] = INK,
) -> None:
    for number, line in enumerate(lines):
        draw.text((spot[0], spot[1] + number * text.line), line, fill=ink, font=text.font)
