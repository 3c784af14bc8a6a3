"""`read_prompts`: what a prompt file holds, whatever its format. Known formats are read by their header; the
rest is refused with a sentence, and nothing is searched raw in silence.
"""

from __future__ import annotations

import csv
import io
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from calibri.errors import PromptError
from calibri.prompts.decoding import decode
from calibri.prompts.found import Found
from calibri.prompts.jsons import looks_like_json, read_json
from calibri.prompts.lines import note_breaks, read_lines
from calibri.prompts.tables import ENDINGS, find_header, read_table
from calibri.ranges import LONGEST_PROMPT
from calibri.words import count

MOST_BYTES = 32 * 2**20
MOST_PROMPTS = 50_000
LONGEST_CATEGORY = 60
FIRST = 3  # prompts that a summary shows
JSON_ENDINGS = (".json", ".jsonl", ".ndjson", ".jl")
_OTHER_ENDINGS = {
    ".yaml": "YAML",
    ".yml": "YAML",
    ".toml": "TOML",
    ".ini": "INI",
    ".xml": "XML",
    ".html": "HTML",
    ".htm": "HTML",
    ".py": "a Python script",
    ".ipynb": "a notebook",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".xlsx": "a spreadsheet",
    ".xls": "a spreadsheet",
    ".ods": "a spreadsheet",
    ".docx": "a document",
    ".doc": "a document",
    ".odt": "a document",
    ".safetensors": "weights",
}
_FORMATS = "a text file with one prompt a line, CSV, TSV, JSON or JSON lines"
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")  # those that are no space
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class PromptFile:
    """What a prompt file holds. `prompts`: different ones, in order. `categories`: of each, "" for none.

    `format`: in words. `notes`: sentences about what was left out or read in a certain way.
    """

    name: str
    format: str
    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Category → prompts, in order of the file. Empty where it names no categories."""
        found: dict[str, int] = {}
        for category in self.categories:
            found[category] = found.get(category, 0) + 1
        return {} if list(found) == [""] else found

    def summary(self, first: int = FIRST) -> str:
        """One line: how many, of which format and categories, and the first prompts."""
        shown = ", ".join(
            f"“{prompt if len(prompt) <= 60 else prompt[:59] + '…'}”" for prompt in self.prompts[:first]
        )
        kinds = f" in {count(len(self.counts), 'category', 'categories')}" if self.counts else ""
        return f"{self.name}: {count(len(self.prompts), 'prompt')}{kinds} ({self.format}). First: {shown}"


def join_line(text: object) -> str:
    """A prompt on one line: every run of white space, also U+2028 and its like, as one space."""
    return " ".join(_CONTROL.sub("", str(text)).split())


def read_prompts(source: Path | str | bytes, name: str = "") -> PromptFile:
    """The prompts of a file, or of bytes that are called `name`.

    Raises PromptError in one sentence: where, what was expected and what came.
    """
    if isinstance(source, bytes):
        name = name or "prompts"
        if len(source) > MOST_BYTES:
            raise PromptError(_too_large(name))
        data = source
    else:
        path = Path(source)
        name = name or path.name or str(path)
        data = _read_bytes(path, name)
    text, note = decode(data, name)
    return _read_text(text, name, [note] if note else [])


def read_typed(text: str, name: str = "prompts") -> PromptFile:
    """The prompts of a text that was typed or pasted. Raises PromptError."""
    if len(text) > MOST_BYTES:
        raise PromptError(_too_large(name))
    return _read_text(text, name, [])


def read_field(text: str) -> tuple[str, ...]:
    """The prompts of a form's field; none where it is empty. ValueError, as fields want it, for others."""
    if not text.strip():
        return ()
    try:
        return read_typed(text, "").prompts
    except PromptError as error:
        raise ValueError(str(error).lstrip(":, ")) from error


def _too_large(name: str) -> str:
    return f"{name}: expected at most {MOST_BYTES // 2**20} MB of prompts, got more"


def _read_bytes(path: Path, name: str) -> bytes:
    if path.suffix.lower() in _OTHER_ENDINGS:
        raise PromptError(f"{name}: expected {_FORMATS}, got {_OTHER_ENDINGS[path.suffix.lower()]}")
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise PromptError(f"{path}: expected a prompt file, got a folder")
        with path.open("rb") as file:  # a pipe has no size that could be asked before
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise PromptError(f"expected a prompt file, got {path} ({told})") from error
    if len(data) > MOST_BYTES:
        raise PromptError(_too_large(name))
    return data


def _read_text(text: str, name: str, notes: list[str]) -> PromptFile:
    text = text.lstrip("\ufeff")
    ending = Path(name).suffix.lower()
    if ending in _OTHER_ENDINGS:
        raise PromptError(f"{name}: expected {_FORMATS}, got {_OTHER_ENDINGS[ending]}")
    if not text.strip():
        raise PromptError(f"{name}: expected prompts, got an empty file")
    if ending in JSON_ENDINGS or looks_like_json(text):
        found = read_json(text, name, lines_first=ending in JSON_ENDINGS[1:])
    elif ending in ENDINGS or re.match(r"\s*sep=.\s*[\r\n]", text, re.I) or find_header(text, ending):
        found = read_table(text, name, ending)
    else:
        found = read_lines(text, name)
    return _check(found, name, notes)


def _check(found: Found, name: str, notes: list[str]) -> PromptFile:
    """Cleaned prompts without empty and repeated ones. Raises PromptError."""
    notes = [*notes, *found.notes]
    kept: dict[str, str] = {}
    empty = doubles = 0
    note_breaks([text for _, text, _ in found.rows], notes)
    for where, text, category in found.rows:
        place = f"{name}, {where}" if where else name
        if _SURROGATE.search(text):
            raise PromptError(
                f"{place}: expected text, got half a character ({text[:40]!a}); save it as UTF-8"
            )
        prompt = join_line(text)
        if len(prompt) > LONGEST_PROMPT:
            raise PromptError(
                f"{place}: expected a prompt of at most {LONGEST_PROMPT} characters, got {len(prompt)}"
            )
        if not prompt:
            empty += 1
        elif prompt in kept:
            doubles += 1
        else:
            kept[prompt] = join_line(_SURROGATE.sub("", category))[:LONGEST_CATEGORY]
    if not kept:
        raise PromptError(f"{name}: expected prompts, got none ({found.format} was read)")
    if len(kept) > MOST_PROMPTS:
        raise PromptError(f"{name}: expected at most {MOST_PROMPTS} prompts, got {len(kept)}")
    if empty:
        notes.append(f"Empty prompts are left out: {empty}.")
    if doubles:
        notes.append(f"Repeated prompts are left out: {doubles}.")
    return PromptFile(name, found.format, tuple(kept), tuple(kept.values()), tuple(notes))


def describe(file: PromptFile) -> dict[str, object]:
    """As `calibri prompts --json` prints it."""
    return {
        "file": file.name,
        "format": file.format,
        "count": len(file.prompts),
        "categories": file.counts,
        "first": list(file.prompts[:FIRST]),
        "notes": list(file.notes),
    }


def as_text(file: PromptFile) -> str:
    """The prompts as a person can edit them and `read_typed` reads them again: one a line, or CSV where
    prompts have categories or a line would not be read as it is."""
    plain = "\n".join(file.prompts)
    if not file.counts and _reads_as(plain, file.prompts):
        return plain
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [("prompt", "category"), *zip(file.prompts, file.categories)]
    )
    return out.getvalue().rstrip("\n")


def _reads_as(text: str, prompts: tuple[str, ...]) -> bool:
    try:
        return read_typed(text).prompts == prompts
    except PromptError:
        return False
