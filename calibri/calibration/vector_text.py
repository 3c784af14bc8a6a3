"""A vector of scales as text that a person can write, and back.

    # the first four double blocks
    double[0-3].attn = 1.05
    double.*.mlp = 0.97
    single[5,7] = 1.1

One assignment a line (or between semicolons or commas); a later one wins; what is not named is 1. `[0-3]` and
`[0,2]` choose indices, `*` any one part, and in front also any block: `*.attn`. A name also stands for all
that is under it or tied by it: at gate granularity `double.3` sets its four gates and `double.3.attn` two of
them. Rows of a table (`double.3.attn,1.05`) and a plain list of all numbers work too. No torch.

Anybody may send such a text: characters and assignments are counted first, and a range is compared with,
never written out, so that the work grows with the text alone.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calibri.backbones.layouts import Layout
from calibri.errors import LayoutError

LONGEST_TEXT = 64_000  # characters; 240 assignments of one scale each take 6,000
MOST_ASSIGNMENTS = 2000
MOST_PARTS = 16  # of a name
MOST_CHOICES = 500  # indices and ranges between two brackets
_LONGEST_SHOWN = 60  # characters of what did not fit

_PART = re.compile(r"([A-Za-z_]\w*|\d+|\*)\s*(?:\[([^\[\]]*)\])?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_RANGE = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", re.ASCII)
_COMMENT = re.compile(r"#|//")
_SAME = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-", "：": ":", "＝": "="}) | dict.fromkeys(
    map(ord, "\ufeff\u200b\u2060")
)


@dataclass(frozen=True)
class _Part:
    """One part of a name as it was typed. `word`: None for `*`. `indices`: ranges (low, high), both in it."""

    word: str | None
    indices: tuple[tuple[int, int], ...] | None = None

    def fits(self, part: str) -> bool:
        return self.word is None or self.word == part

    def chooses(self, part: str) -> bool:
        return part.isdigit() and any(low <= int(part) <= high for low, high in self.indices or ())


class _Names:
    """The scales of a layout under all names that they have: alias → their places."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.known: dict[tuple[str, ...], list[int]] = {}
        for place, name in enumerate(layout.names):
            for alias in _aliases(name):
                self.known.setdefault(tuple(alias.split(".")), []).append(place)

    def find(self, text: str, line: int) -> list[int]:
        """Places of the scales that a typed name means. Raises LayoutError for none, and for an index that
        the backbone does not have."""
        exact = tuple(text.split("."))
        if exact in self.known:
            return self.known[exact]
        parts = _parts(text, line)
        hits = self._match(parts, text, line)
        if not hits and parts[0].word is None and parts[0].indices is None:
            hits = self._match([_Part(None), *parts], text, line)  # `*.attn`: of any block
        if not hits:
            raise LayoutError(_no_such(text, line, self.layout))
        return hits

    def _match(self, parts: list[_Part], text: str, line: int) -> list[int]:
        length = sum(2 if part.indices is not None else 1 for part in parts)
        alike: list[tuple[list[str], list[int]]] = []  # what fits but for the indices, with its indices
        for known, places in self.known.items():
            if len(known) == length and (indices := _fit(parts, known)) is not None:
                alike.append((indices, places))
        chosen = [part for part in parts if part.indices is not None]
        for number, part in enumerate(chosen):
            there = {int(indices[number]) for indices, _ in alike if indices[number].isdigit()}
            _check_indices(part, there, text, line)
        return [
            place
            for indices, places in alike
            if all(part.chooses(index) for part, index in zip(chosen, indices, strict=True))
            for place in places
        ]


def parse_vector(text: str, layout: Layout) -> tuple[float, ...]:
    """Text → scales (n_scales,) of this layout.

    Raises LayoutError with the line that does not fit, what was expected, and what came.
    """
    if len(text) > LONGEST_TEXT:
        raise LayoutError(f"expected at most {LONGEST_TEXT} characters, got {len(text)}")
    text = text.translate(_SAME).strip()
    if text.startswith("{") and text.endswith("}"):  # a JSON object of names and numbers
        text = text[1:-1]
    lines = list(_lines(text))
    if not lines:
        raise LayoutError("expected lines like `double[0-3].attn = 1.05`, got no text")
    if not any(re.search("[=:]", line) for _, line in lines):
        rows = _rows(lines)
        if rows is None:
            return _plain(lines, layout)
    else:
        rows = list(_assignments(lines))
    if len(rows) > MOST_ASSIGNMENTS:
        raise LayoutError(f"expected at most {MOST_ASSIGNMENTS} assignments, got {len(rows)}")
    names = _Names(layout)
    values = [1.0] * len(layout.names)
    for number, name, value in rows:
        scale = _number(value, number)
        for place in names.find(name, number):
            values[place] = scale
    return tuple(values)


def format_vector(values: Sequence[float], layout: Layout) -> str:
    """Scales (n_scales,) → text; equal scales of neighbouring blocks share a line, ones are left out.

    `parse_vector` gives the same numbers back, to the last bit.
    """
    numbers = [float(v) for v in layout.checked(values)]
    columns: dict[tuple[str, str], list[tuple[int, float]]] = {}
    alone: list[str] = []
    for name, value in zip(layout.names, numbers, strict=True):
        parts = name.split(".")
        if len(parts) > 1 and parts[1].isdigit():
            columns.setdefault((parts[0], ".".join(parts[2:])), []).append((int(parts[1]), value))
        elif value != 1:
            alone.append(f"{name} = {_shortest(value)}")
    lines = []
    for (kind, rest), cells in columns.items():
        tail = f".{rest}" if rest else ""
        run: list[tuple[int, float]] = []
        for cell in [*cells, None]:
            if run and (cell is None or cell[1] != run[-1][1] or cell[0] != run[-1][0] + 1):
                first, last, value = run[0][0], run[-1][0], run[0][1]
                index = f".{first}" if first == last else f"[{first}-{last}]"
                if value != 1:
                    lines.append((first, f"{kind}{index}{tail} = {_shortest(value)}"))
                run = []
            if cell is not None:
                run.append(cell)
    text = [line for _, line in lines] + alone
    return "\n".join(text) if text else "# all scales are 1\n* = 1"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of every line with something on it, without its comment."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if rest := _COMMENT.split(line, maxsplit=1)[0].strip():
            yield number, rest


def _split(text: str, separators: str) -> list[str]:
    """The parts between separators, but for those inside brackets."""
    parts, begin, inside = [], 0, False
    for at, letter in enumerate(text):
        if letter in "[]":
            inside = letter == "["
        elif letter in separators and not inside:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def _assignments(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """(line, name, value) of lines like `a = 1, b = 2`."""
    for number, line in lines:
        parts = [part.strip() for part in _split(line, ";,")]
        for part in filter(None, parts):
            name, sign, value = part.partition("=" if "=" in part else ":")
            if not sign:
                hint = " (write 1.05 with a point)" if part.isdecimal() and len(parts) > 1 else ""
                raise LayoutError(f"line {number}: expected `name = number`, got {_cut(part)}{hint}")
            yield number, name.strip().strip("\"'").strip(), value.strip()


def _rows(lines: list[tuple[int, str]]) -> list[tuple[int, str, str]] | None:
    """(line, name, value) of a table with two columns, with or without a header; None for something else."""
    cells = [(number, [cell.strip(" \"'") for cell in _split(line, ",;\t")]) for number, line in lines]
    if any(len(row) != 2 or not re.match(r"[A-Za-z*]", row[0]) for _, row in cells):
        return None
    if len(cells) > 1 and not _NUMBER.fullmatch(cells[0][1][1]):
        cells = cells[1:]
    return [(number, name, value) for number, (name, value) in cells]


def _plain(lines: list[tuple[int, str]], layout: Layout) -> tuple[float, ...]:
    pieces = [(n, piece) for n, part in lines for piece in re.split(r"[\s,;\[\]()]+", part) if piece]
    if not all(_NUMBER.fullmatch(piece) for _, piece in pieces):
        for number, line in lines:
            if not re.fullmatch(r"[\s,;\[\]()\w.+-]*", line, re.ASCII) or re.search("[A-Za-z*]", line):
                raise LayoutError(f"line {number}: expected `name = number`, got {_cut(line)}")
    if len(pieces) != len(layout.names):
        raise LayoutError(
            f"expected lines like `{layout.names[0]} = 1.05`, or all {len(layout.names)} numbers; "
            f"got {len(pieces)} words"
        )
    return tuple(_number(piece, n) for n, piece in pieces)


def _number(text: str, line: int) -> float:
    if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        raise LayoutError(f"line {line}: expected a finite number, got {text!r}")
    if not _NUMBER.fullmatch(text):
        raise LayoutError(f"line {line}: expected a number, got {_cut(text)}")
    value = float(text)
    if not math.isfinite(value):
        raise LayoutError(f"line {line}: expected a finite number, got {_cut(text)}")
    return value


def _cut(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")


def _aliases(name: str) -> tuple[str, ...]:
    """What may stand for a scale: its own name, its layer, its block, its kind, everything."""
    parts = name.split(".")
    block = ".".join(parts[:2])
    return tuple(dict.fromkeys([name, f"{block}.{parts[-1]}", block, parts[0], "*"]))


def _parts(text: str, line: int) -> list[_Part]:
    """The parts of a typed name. Raises LayoutError."""
    made = []
    parts = _split(text, ".")
    if len(parts) > MOST_PARTS:
        raise LayoutError(f"line {line}: expected a name of at most {MOST_PARTS} parts, got {_cut(text)}")
    for part in parts:
        found = _PART.fullmatch(part.strip())
        if not found:
            raise LayoutError(f"line {line}: expected a name like double[0-3].attn, got {_cut(text)}")
        word, choice = found.groups()
        indices = None if choice is None else _ranges(choice, text, line)
        made.append(_Part(None if word == "*" else word, indices))
    return made


def _ranges(choice: str, text: str, line: int) -> tuple[tuple[int, int], ...]:
    if choice.strip() == "*":
        return ((0, 10**9),)
    ranges = []
    pieces = choice.split(",")
    if len(pieces) > MOST_CHOICES:
        raise LayoutError(f"line {line}: expected at most {MOST_CHOICES} indices, got {len(pieces)}")
    for piece in pieces:
        found = _RANGE.fullmatch(piece.strip())
        if not found:
            raise LayoutError(f"line {line}: expected indices like [0-3] or [0,2], got {_cut(text)}")
        low, high = int(found[1]), int(found[2] or found[1])
        if high < low:
            raise LayoutError(f"line {line}: expected a range from low to high, got [{_cut(choice)[1:-1]}]")
        ranges.append((low, high))
    return tuple(ranges)


def _fit(parts: list[_Part], known: tuple[str, ...]) -> list[str] | None:
    """What stands at the indices of this name where it fits the typed parts, else None."""
    indices, at = [], 0
    for part in parts:
        if not part.fits(known[at]):
            return None
        at += 1
        if part.indices is not None:
            indices.append(known[at])
            at += 1
    return indices


def _check_indices(part: _Part, there: set[int], text: str, line: int) -> None:
    """Raises LayoutError where a range goes past what there is: half of it would be left out unseen."""
    if not there:
        return
    first, last = min(there), max(there)
    for low, high in part.indices or ():
        wrong = low if not first <= low <= last else high if high > last and high != 10**9 else None
        if wrong is not None or (low == high and low not in there):
            where = "index" if part.word is None else f"index of {part.word}"
            raise LayoutError(
                f"line {line}: expected an {where} from {first} to {last}, "
                f"got {low if wrong is None else wrong} in {_cut(text)}"
            )


def _no_such(text: str, line: int, layout: Layout) -> str:
    names = sorted({alias for name in layout.names for alias in _aliases(name)})
    close = difflib.get_close_matches(text[:_LONGEST_SHOWN], names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"line {line}: no scale is named {_cut(text)} at {layout.granularity} granularity "
        f"({layout.names[0]} to {layout.names[-1]}){hint}"
    )


def _shortest(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
