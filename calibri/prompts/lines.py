"""Prompts in plain text, one a line: comments, marks of lists, and what others write beside a prompt."""

from __future__ import annotations

import re
import shlex

from calibri.errors import PromptError
from calibri.prompts.found import Found
from calibri.prompts.tables import refuse_headless

_BREAK = re.compile(r"\r\n|\n|\r")  # and nothing else: U+2028, U+0085 and tabulators lie inside prompts
_OTHER_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
#: Settings behind a prompt, as kohya's sample prompts and Midjourney write them.
_FLAGS = (
    "w h d s l g n ss cn ct fs f i am b ow oh r rd rl nl "
    "ar v q c no seed stylize style sref sw cref cw iw chaos weird stop tile niji quality version aspect "
    "raw hd p repeat video fast turbo relax steps width height cfg scale negative"
)
_FLAG = re.compile(
    rf"\s+(?:--|—)(?:{'|'.join(sorted(_FLAGS.split(), key=len, reverse=True))})(?=\s|=|$)", re.I
)
_UNKNOWN_FLAG = re.compile(r"\s--[a-z]\w*", re.IGNORECASE)
_BULLET = re.compile(r"[-*•–]\s+(?=\S)")
_NUMBER = re.compile(r"(\d{1,6})\s*[.):]\s+(?=\S)")
_WEIGHTS = re.compile(r"\([^()]+:\s*\d+(?:\.\d+)?\)|<(?:lora|lyco|hypernet):[^<>]+>", re.IGNORECASE)
_WILDCARDS = re.compile(r"\{[^{}|]*\|[^{}]*\}|__[\w/-]+__")


def split_lines(text: str) -> list[str]:
    """Lines at CR LF, LF and CR alone."""
    return _BREAK.split(text)


def read_lines(text: str, name: str) -> Found:
    """One prompt a line; lines that begin with # are comments.

    Raises PromptError for lines that are plainly a table, a web page or the like.
    """
    if re.match(r"\s*<(?:!doctype|html|\?xml|svg)\b", text, re.IGNORECASE):
        raise PromptError(f"{name}: expected one prompt a line, got a web page or XML")
    notes: list[str] = []
    rows: list[tuple[int, str]] = []
    comments = 0
    for number, raw in enumerate(split_lines(text), 1):
        line = raw.strip().strip("\ufeff").strip()
        if line.startswith("#"):
            comments += 1
        elif line:
            rows.append((number, line))
    if comments:
        notes.append(f"Comments (lines that begin with #) are left out: {comments}.")
    rows = _read_command_lines(rows, name, notes)
    rows = _drop_quotes(rows, notes)
    refuse_headless([line for _, line in rows], name)
    rows = _drop_marks(rows, notes)
    rows = _drop_flags(rows, notes)
    _note_syntax([line for _, line in rows], notes)
    found = [(f"line {number}", line, "") for number, line in rows]
    return Found("plain text, one prompt a line", found, notes)


def note_breaks(texts: list[str], notes: list[str]) -> None:
    """Say that separators which other programs split at are read as spaces."""
    count = sum(bool(_OTHER_BREAKS.search(text)) for text in texts)
    if count:
        notes.append(
            f"Line separators inside prompts (U+2028, U+0085, vertical tabs) are read as spaces: in {count}."
        )


def _read_command_lines(rows: list[tuple[int, str]], name: str, notes: list[str]) -> list[tuple[int, str]]:
    """`--prompt "a cat" --steps 20`, as the script “Prompts from file” of other studios has it."""
    if not rows or not all(re.match(r"--\w", line) for _, line in rows):
        return rows
    read = []
    for number, line in rows:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise PromptError(f'{name}, line {number}: expected --prompt "…", got {error}') from error
        if "--prompt" not in words[:-1]:
            raise PromptError(f'{name}, line {number}: expected --prompt "…", got {line[:40]!r}')
        read.append((number, words[words.index("--prompt") + 1]))
    notes.append("Settings beside --prompt are no settings here and are left out.")
    return read


def _drop_quotes(rows: list[tuple[int, str]], notes: list[str]) -> list[tuple[int, str]]:
    """Quotes around every line: a column of a spreadsheet, or a list without its brackets."""
    lines = [line for _, line in rows]
    if len(lines) < 2 or not all(re.fullmatch(r'"(?:[^"]|""|\\")+",?', line) for line in lines):
        return rows
    notes.append("Each line stands in double quotes, which are left out.")
    return [(number, line.rstrip(",")[1:-1].replace('""', '"').replace('\\"', '"')) for number, line in rows]


def _drop_marks(rows: list[tuple[int, str]], notes: list[str]) -> list[tuple[int, str]]:
    """`- `, `* ` or `1. ` in front of every line."""
    if len(rows) < 2:
        return rows
    numbers = [_NUMBER.match(line) for _, line in rows]
    first = int(numbers[0][1]) if numbers[0] else 0
    counted = all(m and int(m[1]) == first + i for i, m in enumerate(numbers))
    if not counted and not all(_BULLET.match(line) for _, line in rows):
        return rows
    notes.append(f"The {'numbers' if counted else 'marks'} in front of the lines are left out.")
    pattern = _NUMBER if counted else _BULLET
    return [(number, pattern.sub("", line, count=1)) for number, line in rows]


def _drop_flags(rows: list[tuple[int, str]], notes: list[str]) -> list[tuple[int, str]]:
    """Settings behind a prompt, such as ` --n low quality --w 512`: not read, and not part of the picture."""
    kept, flags, unknown, changed = [], set(), set(), 0
    for number, line in rows:
        found = _FLAG.search(line)
        if found:
            tail = line[found.start() :]
            flags |= {"--" + flag.strip().lstrip("-—") for flag in _FLAG.findall(tail)}
            line, changed = line[: found.start()], changed + 1
        unknown |= {flag.strip() for flag in _UNKNOWN_FLAG.findall(line)}
        kept.append((number, line))
    if changed:
        notes.append(
            f"{', '.join(sorted(flags))} are no settings here: left out with what follows, in {changed}."
        )
    if unknown:
        notes.append(f"{', '.join(sorted(unknown)[:5])} are no settings here: read as part of the prompt.")
    return kept


def _note_syntax(lines: list[str], notes: list[str]) -> None:
    for pattern, what in ((_WEIGHTS, "Weights and tags"), (_WILDCARDS, "Choices and wildcards")):
        found = next((m[0] for line in lines if (m := pattern.search(line))), None)
        if found:
            notes.append(f"{what} such as {found[:40]} have no meaning here: read as part of the prompt.")
