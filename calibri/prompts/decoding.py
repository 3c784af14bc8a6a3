"""From bytes to text: byte-order marks, UTF-8, UTF-16, Windows-1252, and files that hold no text."""

from __future__ import annotations

import codecs
import re

from calibri.errors import PromptError

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a picture or sound (RIFF)"),
    (b"%PDF", "a PDF"),
    (b"{\\rtf", "a rich text document"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"PAR1", "a Parquet table"),
    (b"ARROW1", "an Arrow table"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "a database"),
)
_SEQUENCE = re.compile(  # of one character in UTF-8 that takes several bytes
    rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_RUN = re.compile(rb"[\x80-\xff]{4}")
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")  # in Windows-1252
_SAVE = "save it as UTF-8"


def decode(data: bytes, name: str) -> tuple[str, str]:
    """The text, and a note where its encoding was guessed. Raises PromptError for what is no text."""
    for start, kind in _NO_TEXT:
        if data.startswith(start):
            raise PromptError(f"{name}: expected a text file with prompts, got {kind}")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_as(data, encoding, name), ""
    if b"\0" in data:
        return _decode_wide(data, name), ""
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        return _decode_western(data, name, error.start)


def _decode_as(data: bytes, encoding: str, name: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        wanted = encoding.upper().removesuffix("-SIG")
        raise PromptError(
            f"{name}: expected {wanted}, as its byte-order mark says, got a damaged character at byte "
            f"{error.start}; {_SAVE}"
        ) from error
    if "\0" in text:
        raise PromptError(f"{name}: expected a text file with prompts, got binary data")
    return text


def _decode_wide(data: bytes, name: str) -> str:
    """UTF-16 without a mark: in most texts one half of each character is 0, and always the same half."""
    odd, even = data[1::2].count(0), data[::2].count(0)
    if len(data) % 2 == 0 and 8 * min(odd, even) <= max(odd, even):
        try:
            text = data.decode("utf-16-le" if odd > even else "utf-16-be")
        except UnicodeDecodeError:
            text = ""
        if text and "\0" not in text:
            return text
    raise PromptError(f"{name}: expected a text file with prompts, got binary data")


def _decode_western(data: bytes, name: str, at: int) -> tuple[str, str]:
    """Windows-1252, of which Latin-1's letters are a part. Refused where it is likely another encoding."""
    line = data.count(b"\n", 0, at) + 1
    whole = sum(map(len, _SEQUENCE.findall(data)))
    rest = sum(byte > 0x7F for byte in data) - whole
    if whole > rest:
        raise PromptError(f"{name}, line {line}: expected UTF-8, got a damaged character; {_SAVE}")
    if whole or _RUN.search(data) or _UNDEFINED.search(data):
        raise PromptError(
            f"{name}, line {line}: expected UTF-8, UTF-16 or Windows-1252, got another encoding; {_SAVE}"
        )
    return data.decode("cp1252"), f"It is not UTF-8; read as Windows-1252 (Latin-1), see line {line}."
