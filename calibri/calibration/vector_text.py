"""A vector of scales as text that a person can write, and back.

    # the first four double blocks
    double[0-3].attn = 1.05
    double.*.mlp = 0.97
    single[5,7] = 1.1

One assignment a line (or between semicolons); a later one wins; what is not named is 1. `[0-3]` and `[0,2]`
choose indices, `*` any one part. A name also stands for all that is under it or tied by it: at gate
granularity `double.3` sets its four gates and `double.3.attn` two of them. A plain list of all numbers works
too. No torch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence

from calibri.backbones.layouts import Layout
from calibri.errors import LayoutError

_PART = re.compile(r"([A-Za-z_][\w]*|\d+|\*)((?:\[[^\[\]]*\])?)$")
_MOST_INDICES = 10_000


def parse_vector(text: str, layout: Layout) -> tuple[float, ...]:
    """Text → scales (n_scales,) of this layout.

    Raises LayoutError with the line that does not fit, what was expected, and what came.
    """
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        for part in line.split("#", 1)[0].split(";"):
            if part.strip():
                lines.append((number, part.strip()))
    if not lines:
        raise LayoutError("expected lines like `double[0-3].attn = 1.05`, got no text")
    if not any("=" in part for _, part in lines):
        return _plain(lines, layout)
    aliases = [_aliases(name) for name in layout.names]
    values = [1.0] * len(layout.names)
    for number, part in lines:
        pattern, found, value = part.partition("=")
        if not found:
            raise LayoutError(f"line {number}: expected `name = number`, got {part!r}")
        scale = _number(value.strip(), number)
        wanted = _pattern(pattern.strip(), number)
        hits = [i for i, names in enumerate(aliases) if any(wanted.fullmatch(name) for name in names)]
        if not hits:
            raise LayoutError(_no_such(pattern.strip(), number, layout))
        for i in hits:
            values[i] = scale
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


def _plain(lines: list[tuple[int, str]], layout: Layout) -> tuple[float, ...]:
    pieces = [(n, piece) for n, part in lines for piece in re.split(r"[\s,\[\]()]+", part) if piece]
    if len(pieces) != len(layout.names):
        raise LayoutError(
            f"expected lines like `{layout.names[0]} = 1.05`, or all {len(layout.names)} numbers; "
            f"got {len(pieces)} words"
        )
    return tuple(_number(piece, n) for n, piece in pieces)


def _number(text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise LayoutError(f"line {line}: expected a number, got {text!r}") from None
    if not math.isfinite(value):
        raise LayoutError(f"line {line}: expected a finite number, got {text!r}")
    return value


def _aliases(name: str) -> tuple[str, ...]:
    """What may stand for a scale: its own name, its layer, its block, its kind, everything."""
    parts = name.split(".")
    block = ".".join(parts[:2])
    return tuple(dict.fromkeys([name, f"{block}.{parts[-1]}", block, parts[0], "*"]))


def _pattern(text: str, line: int) -> re.Pattern[str]:
    if text == "*":
        return re.compile(r".*")
    pieces = []
    for part in text.split("."):
        found = _PART.match(part.strip())
        if not found:
            raise LayoutError(f"line {line}: expected a name like double[0-3].attn, got {text!r}")
        word, choice = found.groups()
        pieces.append(r"[^.]+" if word == "*" else re.escape(word))
        if choice:
            pieces.append(_indices(choice[1:-1], text, line))
    return re.compile(r"\.".join(pieces))


def _indices(choice: str, text: str, line: int) -> str:
    if choice.strip() == "*":
        return r"\d+"
    chosen: list[int] = []
    for piece in choice.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:[-–]\s*(\d+)\s*)?", piece)
        if not found:
            raise LayoutError(f"line {line}: expected indices like [0-3] or [0,2], got {text!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first > _MOST_INDICES:
            raise LayoutError(f"line {line}: expected a range from low to high, got [{choice}]")
        chosen += range(first, last + 1)
    return "(?:" + "|".join(map(str, chosen)) + ")"


def _no_such(text: str, line: int, layout: Layout) -> str:
    names = sorted({alias for name in layout.names for alias in _aliases(name)})
    close = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"line {line}: no scale is named {text!r} at {layout.granularity} granularity "
        f"({layout.names[0]} to {layout.names[-1]}){hint}"
    )


def _shortest(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
