"""Reads a calibration from a file or a text, without Calibri.

- Calibri's own JSON (`calibri-calibration/1`): members, weights and conditions as they are there.
- A JSON object of names and numbers: `{"double.3": 1.05}`.
- Lines `name = number`, as the studio's desk and `calibri export` write them: `double[0-3].attn = 1.05`.
- Rows of a table, `name,number` with commas, semicolons or tabs, with or without a header.
- A plain list of numbers, one for each scale of one granularity.

The last four hold one member; what they don't name is 1. A checkpoint of the paper's own code is refused with
the command that turns it into the first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .table import GRANULARITIES, CalibrationError, Granularity, Site

FORMAT = "calibri-calibration/1"
LARGEST = 8 * 2**20  # characters
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ANY = 10**9  # the end of `[*]`
_PART = re.compile(r"([A-Za-z_]\w*|\d+|\*)(?:\[([\d\s,*-]*)\])?", re.ASCII)


@dataclass(frozen=True)
class Member:
    """One vector on the sites of a model. `positive`: whether it sees the prompt, or the negative one."""

    values: tuple[float, ...]
    weight: float = 1.0
    positive: bool = True


def read_members(text: str, sites: Sequence[Site]) -> tuple[Member, ...]:
    """The members in a text, each with one number for each site. Members of weight 0 are left out.

    Raises CalibrationError with what was expected and what came.
    """
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise CalibrationError("expected a calibration, got an empty text")
    if len(text) > LARGEST:
        raise CalibrationError(f"expected at most {LARGEST} characters, got {len(text)}")
    if text[0] == "{":
        content = _from_json(text)
        if "format" in content or "members" in content or "solution" in content:
            return _from_calibration(content, sites)
        rows = [(f"{name!r}", str(name), value) for name, value in content.items()]
        return (_from_rows(rows, sites),)
    return (_from_text(text, sites),)


def names_at(granularity: Granularity, sites: Sequence[Site]) -> tuple[str, ...]:
    """The scales of a model in Calibri's order."""
    return tuple(dict.fromkeys(site.scale_name(granularity) for site in sites))


def _from_json(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"expected valid JSON: {error}") from error
    assert isinstance(content, dict)  # it begins with {
    return content


def _from_calibration(content: dict[str, Any], sites: Sequence[Site]) -> tuple[Member, ...]:
    if "solution" in content and "shapes" in content:
        raise CalibrationError(
            "it is a checkpoint of the paper's code: make a calibration of it with "
            "`calibri check FILE --backbone NAME --save NEW.json`"
        )
    if content.get("format") != FORMAT:
        raise CalibrationError(f"expected the format {FORMAT!r}, got {content.get('format')!r:.60}")
    granularity, names, members = (content.get(key) for key in ("granularity", "names", "members"))
    if granularity not in GRANULARITIES:
        raise CalibrationError(
            f"granularity: expected one of {', '.join(GRANULARITIES)}, got {granularity!r:.60}"
        )
    if not isinstance(names, list) or not isinstance(members, list) or not members:
        raise CalibrationError("expected a list of names and a list of members")
    place = {str(name): i for i, name in enumerate(names)}
    expected = names_at(granularity, sites)
    wrong = next(
        iter([*(n for n in place if n not in expected), *(n for n in expected if n not in place)]), None
    )
    if wrong is not None or len(place) != len(names):
        raise CalibrationError(
            f"expected a calibration of this model, with {len(expected)} scales at {granularity} granularity "
            f"({expected[0]} to {expected[-1]}), got one of "
            f"{str(content.get('backbone') or 'another model')[:60]} with {len(names)}: "
            f"{str(wrong)[:60]!r} is {'unknown here' if wrong in place else 'missing'}"
        )
    order = [place[site.scale_name(granularity)] for site in sites]
    made = [_member(i, each, len(names), order) for i, each in enumerate(members, 1)]
    found = tuple(member for member in made if member.weight != 0)
    if not found:
        raise CalibrationError("expected a member with a weight other than 0")
    return found


def _member(number: int, content: Any, count: int, order: list[int]) -> Member:
    where = f"member {number}"
    if not isinstance(content, dict) or not isinstance(content.get("scales"), list):
        raise CalibrationError(f"{where}: expected a list of scales")
    scales = [_number(each, where) for each in content["scales"]]
    if len(scales) != count:
        raise CalibrationError(f"{where}: expected {count} scales, one for each name, got {len(scales)}")
    condition = content.get("condition", "positive")
    if condition not in ("positive", "negative"):
        raise CalibrationError(f"{where}: expected the condition positive or negative, got {condition!r:.60}")
    weight = _number(content.get("weight", 1.0), where)
    return Member(tuple(scales[i] for i in order), weight, condition == "positive")


def _from_text(text: str, sites: Sequence[Site]) -> Member:
    lines = [(i, re.split(r"#|//", line)[0].strip()) for i, line in enumerate(text.splitlines(), 1)]
    lines = [(i, line) for i, line in lines if line]
    if any("=" in line or ":" in line for _, line in lines):
        return _from_rows(list(_assignments(lines)), sites)
    cells = [(i, [cell.strip(" \"'") for cell in re.split(r"[,;\t]", line)]) for i, line in lines]
    if all(len(row) == 2 and re.match(r"[A-Za-z*]", row[0]) for _, row in cells):
        if len(cells) > 1 and not _NUMBER.fullmatch(cells[0][1][1]):
            cells = cells[1:]  # a header
        return _from_rows([(f"line {i}", name, value) for i, (name, value) in cells], sites)
    numbers = [
        _number(piece, f"line {i}")
        for i, line in lines
        for piece in re.split(r"[\s,;\[\]()]+", line)
        if piece
    ]
    counts = {len(names_at(granularity, sites)): granularity for granularity in reversed(GRANULARITIES)}
    if len(numbers) not in counts:
        wanted = ", ".join(f"{count} ({granularity})" for count, granularity in sorted(counts.items()))
        raise CalibrationError(f"expected as many numbers as there are scales: {wanted}; got {len(numbers)}")
    granularity = counts[len(numbers)]
    values = dict(zip(names_at(granularity, sites), numbers, strict=True))
    return Member(tuple(values[site.scale_name(granularity)] for site in sites))


def _assignments(lines: list[tuple[int, str]]) -> Iterator[tuple[str, str, str]]:
    for number, line in lines:
        for part in re.split(r"[;,](?![^\[]*\])", line):  # not inside brackets
            if part.strip():
                name, sign, value = part.partition("=" if "=" in part else ":")
                if not sign:
                    raise CalibrationError(
                        f"line {number}: expected `name = number`, got {part.strip()!r:.60}"
                    )
                yield f"line {number}", name.strip().strip("\"'").strip(), value.strip()


def _from_rows(rows: list[tuple[str, str, Any]], sites: Sequence[Site]) -> Member:
    """(where it stands, name, number) → a member, at the coarsest granularity that has all the names."""
    problem: CalibrationError | None = None
    for granularity in GRANULARITIES:
        values = dict.fromkeys(names_at(granularity, sites), 1.0)
        try:
            for where, name, value in rows:
                scale = _number(value, where)
                for each in _matching(name, tuple(values), where):
                    values[each] = scale
        except CalibrationError as error:
            problem = error
            continue
        return Member(tuple(values[site.scale_name(granularity)] for site in sites))
    assert problem is not None
    raise problem


def _matching(name: str, known: tuple[str, ...], where: str) -> list[str]:
    """The scales that a name stands for: itself, those tied by it or under it, those of a pattern."""
    aliases = {scale: _aliases(scale) for scale in known}
    for pattern in (name, f"*.{name}"):  # `*.attn` is of any block
        shape, ranges = _compiled(pattern, where)
        fits = [(s, m) for s in known for alias in aliases[s] if (m := shape.fullmatch(alias))]
        for i, chosen in enumerate(ranges):
            _check_indices({int(match.group(i + 1)) for _, match in fits}, chosen, where)
        found = [scale for scale, match in fits if _chosen(match, ranges)]
        if found:
            return list(dict.fromkeys(found))
    raise CalibrationError(
        f"{where}: expected the name of a scale ({known[0]} to {known[-1]}), got {name!r:.60}"
    )


def _aliases(scale: str) -> tuple[str, ...]:
    parts = scale.split(".")
    block = ".".join(parts[:2])
    return tuple(dict.fromkeys([scale, f"{block}.{parts[-1]}", block, parts[0], "*"]))


Ranges = list[tuple[int, int]]  # both ends are in it


def _compiled(pattern: str, where: str) -> tuple[re.Pattern[str], list[Ranges]]:
    """`double[0-3].attn` as an expression with a group for each pair of brackets, and what they choose."""
    pieces: list[str] = []
    ranges: list[Ranges] = []
    for part in re.split(r"\.(?![^\[]*\])", pattern):
        found = _PART.fullmatch(part.strip())
        if not found:
            raise CalibrationError(f"{where}: expected a name like double[0-3].attn, got {pattern!r:.60}")
        word, choice = found.groups()
        pieces.append(r"[^.]+" if word == "*" else re.escape(word))
        if choice is not None:
            pieces.append(r"(\d+)")
            ranges.append(_ranges(choice, where))
    return re.compile(r"\.".join(pieces)), ranges


def _chosen(match: re.Match[str], ranges: list[Ranges]) -> bool:
    return all(
        any(low <= int(index) <= high for low, high in chosen)
        for index, chosen in zip(match.groups(), ranges, strict=True)
    )


def _check_indices(there: set[int], chosen: Ranges, where: str) -> None:
    """A range that goes past what there is would be left out in part, unseen."""
    for low, high in chosen:
        wrong = next((i for i in (low, high) if there and i not in there and i != _ANY), None)
        if wrong is not None:
            raise CalibrationError(
                f"{where}: expected an index from {min(there)} to {max(there)}, got {wrong}"
            )


def _ranges(choice: str, where: str) -> Ranges:
    if choice.strip() == "*":
        return [(0, _ANY)]
    found = []
    for piece in choice.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", piece)
        if not match:
            raise CalibrationError(f"{where}: expected indices like [0-3] or [0,2], got [{choice[:40]}]")
        found.append((int(match[1]), int(match[2] or match[1])))
    return found


def _number(value: Any, where: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CalibrationError(f"{where}: expected a finite number, got {value!r:.60}")
    return float(value)
