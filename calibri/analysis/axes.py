"""The sides of a picture grid: what changes along one, and to which values. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from calibri import ranges
from calibri.calibration.scale_names import HIGHEST, LOWEST
from calibri.errors import RenderError
from calibri.prompts import join_line
from calibri.prompts.lines import split_lines

Kind = Literal["steps", "guidance", "embedded-guidance", "seed", "strength", "scale", "arm", "prompt"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: dict[Kind, str] = {
    "steps": "Steps",
    "guidance": "Guidance",
    "embedded-guidance": "Embedded guidance",
    "seed": "Seed",
    "strength": "Strength",
    "scale": "One scale",
    "arm": "Arm",
    "prompt": "Prompt",
}
WHOLE: tuple[Kind, ...] = ("steps", "seed")  # kinds of whole numbers
TEXTS: tuple[Kind, ...] = ("arm", "prompt")
MOST_CELLS = 64
LONGEST_NUMBERS = 4000  # characters of what was typed
LONGEST_TEXTS = MOST_CELLS * ranges.LONGEST_PROMPT

_NUMBER = r"[+-]?(?:\d{1,19}(?:\.\d{0,12})?|\.\d{1,12})"
_RANGE = re.compile(rf"({_NUMBER})\s*(?:-|\.\.)\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?", re.ASCII)
_SAME = str.maketrans({"−": "-", "–": "-", "…": ".."})


@dataclass(frozen=True)
class Axis:
    """One side of a grid: what changes along it, and to what. `scale`: its name, for that kind. Values of
    arms are the names that a grid knows them by."""

    kind: Kind
    values: tuple[Any, ...]
    scale: str = ""

    @property
    def title(self) -> str:
        """What stands beside the heads."""
        return self.scale or WORDS[self.kind]

    @property
    def heads(self) -> list[str]:
        """What stands over or beside each value's pictures."""
        return [self._write(value) for value in self.values]

    @property
    def labels(self) -> list[str]:
        """The heads with what they are of: `Steps 8`; a prompt and an arm say it themselves."""
        return [head if self.kind in TEXTS else f"{self.title} {head}" for head in self.heads]

    def _write(self, value: Any) -> str:
        if self.kind in TEXTS or self.kind in WHOLE:
            return str(value)
        two = f"{value:.2f}"
        return two if self.kind in ("scale", "strength") and float(two) == value else f"{value:g}"


def read_axis(kind: str, typed: str | Sequence[Any], scale: str = "") -> Axis:
    """An axis from what somebody typed: `2, 4, 8` or `2-8:2`, a range with its step, which whole numbers may
    leave out; prompts one a line or with `|` between; arms as a list of names. Raises RenderError."""
    known = next((each for each in KINDS if each == kind), None)
    if known is None:
        raise RenderError(f"expected a setting of {', '.join(KINDS)}, got {str(kind)[:40]!r}")
    name = str(scale or "").strip() if known == "scale" else ""
    if known == "scale" and not name:
        raise RenderError("scale: expected the name of one, such as double.0.attn, got nothing")
    try:
        values = _read_values(known, typed)
    except ValueError as error:
        raise RenderError(f"{WORDS[known].lower()}: {error}") from None
    return Axis(known, tuple(dict.fromkeys(values)), name)


def _read_values(kind: Kind, typed: str | Sequence[Any]) -> list[Any]:
    longest = LONGEST_TEXTS if kind in TEXTS else LONGEST_NUMBERS
    if not isinstance(typed, str):
        parts = [str(each) for each in typed]
    elif len(typed) > longest:
        raise ValueError(f"expected at most {longest} characters, got {len(typed)}")
    elif kind == "prompt":
        lines = split_lines(typed)
        parts = [join_line(part) for part in (typed.split("|") if len(lines) < 2 else lines)]
    else:
        parts = [part.strip() for part in re.split(r"[,;\n]", typed)]
    parts = [part for part in parts if part.strip()]
    if not parts:
        raise ValueError("expected at least one value, got none")
    if kind not in TEXTS:
        parts = [each for part in parts for each in _read_range(kind, part)]
    if len(set(parts)) > MOST_CELLS:
        raise ValueError(f"expected at most {MOST_CELLS} values, got {len(set(parts))}")
    return [_CHECKS[kind](part) for part in parts]


def _read_range(kind: Kind, part: str) -> list[str]:
    """`2-8:2` → 2, 4, 6, 8; a number alone as it is."""
    text = part.translate(_SAME).strip()
    match = _RANGE.fullmatch(text)
    if match is None:
        return [text]
    low, high = Decimal(match[1]), Decimal(match[2])
    if match[3] is None and kind not in WHOLE:
        raise ValueError(f"expected a step behind a range, as in {text}:0.5, got {part[:40]!r}")
    step = Decimal(match[3] or 1)
    if step <= 0 or low > high:
        raise ValueError(f"expected a range from low to high with a step above 0, got {part[:40]!r}")
    many = int((high - low) / step) + 1  # before any is written out
    if many > MOST_CELLS:
        raise ValueError(f"expected at most {MOST_CELLS} values, got {many} in {part[:40]!r}")
    return [format(low + step * place, "f") for place in range(many)]


def _as_number(text: str) -> float:
    if re.fullmatch(_NUMBER, text, re.ASCII) is None:
        raise ValueError(f"expected numbers like 1, 2.5 or a range like 1-7:2, got {text[:40]!r}")
    return float(text)


def _as_whole(text: str) -> int:
    """Digits alone, so that no seed of 63 bits is rounded."""
    if re.fullmatch(r"[0-9]{1,19}(?:\.0*)?", text) is None:
        raise ValueError(f"expected whole numbers like 2, 4, 8 or a range like 2-8:2, got {text[:40]!r}")
    return int(text.partition(".")[0])


def _as_scale(text: str) -> float:
    value = _as_number(text)
    if not LOWEST <= value <= HIGHEST:
        raise ValueError(f"expected numbers from {LOWEST:g} to {HIGHEST:g}, got {text[:40]}")
    return value


_CHECKS: dict[Kind, Callable[[str], Any]] = {
    "steps": lambda text: ranges.read_steps(_as_whole(text)),
    "seed": lambda text: ranges.read_seed(_as_whole(text)),
    "guidance": lambda text: ranges.read_guidance(_as_number(text)),
    "embedded-guidance": lambda text: ranges.read_embedded_guidance(_as_number(text)),
    "strength": _as_scale,
    "scale": _as_scale,
    "arm": str,
    "prompt": ranges.check_prompt,
}
