"""Prompts in tables whose first line names the columns: CSV, TSV and other separators."""

from __future__ import annotations

import csv
import io
import re

from calibri.errors import PromptError
from calibri.prompts.found import (
    CATEGORY_NAMES,
    PROMPT_NAMES,
    SURE_NAMES,
    Found,
    find_name,
    list_names,
    plain_name,
)

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_ALONE = "\x1f"  # separates nothing: for tables of one column, whose prompts may hold commas
_SIDE = frozenset({*CATEGORY_NAMES, "id", "index", "seed", "note", "notes", "number", "no", "n", "name"})
_EXCEL = re.compile(r"sep=(.)\s*", re.IGNORECASE)


def split_rows(text: str, separator: str, quotes: bool = True) -> list[tuple[int, list[str]]]:
    """(number of its last line, cells) of every row that is not empty. Raises csv.Error."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=separator != "\t",
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]


def find_header(text: str, ending: str) -> tuple[str, list[str]] | None:
    """(separator, names) of the first line; None where it names no column with prompts.

    A file that is not called a table needs names that no line of prompts has by chance.
    """
    line = _first_line(_skip_comments(text)[0])
    best: tuple[str, list[str]] | None = None
    for separator in SEPARATORS:
        try:
            [(_, names)] = split_rows(line, separator) or [(0, [])]
        except (csv.Error, ValueError):
            continue
        names = [name.strip() for name in names]
        if len(names) > 1 and _is_header(names, ending) and (best is None or len(names) > len(best[1])):
            best = separator, names
    if best is None:
        alone = line.strip().strip('"').strip()
        wanted = PROMPT_NAMES if ending in ENDINGS else ("prompt", "prompts", "caption", "captions")
        if plain_name(alone) in wanted and len(alone) < 20:
            return _ALONE, [alone]
    return best


def read_table(text: str, name: str, ending: str) -> Found:
    """Raises PromptError that names the line, or the columns where none holds prompts."""
    text, notes = _skip_comments(text)
    match = _EXCEL.fullmatch(_first_line(text))
    if match:
        text = _blank_first_line(text)
    header = find_header(text, ".csv" if match else ending)
    if header is None:
        got = list_names(re.split(r"[,\t;|]", _first_line(text)))
        raise PromptError(
            f"{name}, line 1: expected the names of columns, one of them “prompt”, “caption” or “text”, "
            f"got {got}"
        )
    separator, names = header
    rows = _read_rows(text, separator, name)[1:]
    field, category = find_name(names, PROMPT_NAMES), find_name(names, CATEGORY_NAMES)
    assert field is not None
    at, beside = names.index(field), names.index(category) if category else None
    found = []
    for number, row in rows:
        if all(not cell.strip() or set(cell.strip()) <= set("-:") for cell in row):
            continue  # the line under the head of a Markdown table
        cells = [cell.strip() for cell in row]
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) > len(names):
            raise PromptError(
                f"{name}, line {number}: expected {len(names)} cells as in the first line, got {len(cells)}; "
                f"put a prompt with {SEPARATORS.get(separator, 'separators')} in it into double quotes"
            )
        cells += [""] * (len(names) - len(cells))
        found.append((f"line {number}", cells[at], cells[beside] if beside is not None else ""))
    others = [each for each in names if each not in (field, category) and each]
    if others:
        notes.append(f"Columns that are left out: {list_names(others)}.")
    kind = {"\t": "TSV", ",": "CSV", _ALONE: "a table of one column"}
    told = kind.get(separator) or f"CSV with {SEPARATORS[separator]}"
    words = f", categories of “{category}”" if category else ""
    return Found(f"{told}, prompts of “{field}”{words}", found, notes)


def refuse_headless(lines: list[str], name: str) -> None:
    """Raises PromptError for lines that look like a table whose columns have no names.

    That is: tabs in most lines, or in all lines the same number of separators with no space behind any.
    """
    wanted = "expected one prompt a line, or a first line that names the columns (one of them “prompt”)"
    if 2 * sum("\t" in line.strip() for line in lines) > len(lines):
        raise PromptError(f"{name}: {wanted}, got lines with tabs")
    if len(lines) < 2:
        return
    for separator in ",;|":
        try:
            rows = [row for _, row in split_rows("\n".join(lines), separator)]
        except csv.Error:
            continue
        counts = {len(row) for row in rows}
        tight = all(not re.search(rf"{re.escape(separator)}\s", line) for line in lines)
        quoted = all(line.startswith('"') and f'"{separator}' in line for line in lines)
        if len(counts) == 1 and counts.pop() > 1 and (tight or quoted):
            raise PromptError(f"{name}: {wanted}, got lines with {SEPARATORS[separator]} and no such line")


def _is_header(names: list[str], ending: str) -> bool:
    plain = [plain_name(name) for name in names]
    if not set(plain) & set(PROMPT_NAMES):
        return False
    if ending in ENDINGS:
        return True
    short = all(re.fullmatch(r"[\w .()/-]{0,30}", name) and name.count(" ") < 3 for name in names)
    beside = set(plain) & _SIDE
    return short and (bool(set(plain) & SURE_NAMES) or bool(beside))


def _read_rows(text: str, separator: str, name: str) -> list[tuple[int, list[str]]]:
    try:
        return split_rows(text, separator)
    except csv.Error as error:
        if separator == "\t":  # many publish TSV without any quoting
            try:
                return split_rows(text, separator, quotes=False)
            except csv.Error:
                pass
        number = _broken_line(text, separator)
        raise PromptError(
            f"{name}, line {number}: expected a row of a table, got a double quote that does not fit "
            f"({error}); write one inside a quoted cell twice"
        ) from error


def _broken_line(text: str, separator: str) -> int:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    start = 1
    try:
        for _ in reader:
            start = reader.line_num + 1
    except csv.Error:
        return start
    return start


def _first_line(text: str) -> str:
    return next((line for line in re.split(r"\r\n|\n|\r", text) if line.strip()), "")


def _blank_first_line(text: str) -> str:
    """Leaves the line itself, so that numbers of lines stay true."""
    return re.sub(r"[^\r\n]*\S[^\r\n]*", "", text, count=1)


def _skip_comments(text: str) -> tuple[str, list[str]]:
    """The text with nothing in the lines that begin with # above the names of the columns."""
    count = 0
    while re.match(r"\s*#", text):
        text, count = _blank_first_line(text), count + 1
    return text, [f"Lines with # above the table are left out: {count}."] if count else []
