"""What a picture may be asked for: one range of each for the command line, programs and pages.

Values come from argparse, JSON and fields of pages; each reader gives the checked value or raises ValueError
with what was expected.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

LARGEST_SEED = 2**63 - 1  # what torch takes
MOST_STEPS = 1000
STRONGEST_GUIDANCE = 100
LONGEST_PROMPT = 4000  # characters, everywhere; 512 tokens of T5 are about 2,500

_DIGITS = re.compile(r"\s*([0-9]{1,19})\s*")


def read_whole(value: Any, low: int, high: int, *, digits: bool = False) -> int:
    """A whole number: an int or a float without a fraction, no bool. `digits`: as text too, which a page
    sends where a browser's numbers would be rounded."""
    found: int | None = None
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if is_int or (isinstance(value, float) and value.is_integer()):  # no NaN, no infinity
        found = int(value)
    elif digits and isinstance(value, str) and (match := _DIGITS.fullmatch(value)):
        found = int(match[1])
    if found is None or not low <= found <= high:
        raise ValueError(f"expected a whole number from {low} to {high}, got {_short(value)}")
    return found


def read_seed(value: Any) -> int:
    """Of the noise."""
    return read_whole(value, 0, LARGEST_SEED, digits=True)


def read_steps(value: Any) -> int:
    """Sampling steps."""
    return read_whole(value, 1, MOST_STEPS)


def read_guidance(value: Any) -> float:
    """Classifier-free guidance; 1 is none."""
    return _read_number(value, 1, "1 (none)")


def read_embedded_guidance(value: Any) -> float | None:
    """That of distilled models; None, or an empty field, for the backbone's own."""
    return None if value is None or value == "" else _read_number(value, 0, "0")


def _read_number(value: Any, low: float, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= STRONGEST_GUIDANCE:
        raise ValueError(f"expected a number from {name} to {STRONGEST_GUIDANCE}, got {_short(value)}")
    return float(value)


def check_prompt(value: Any, most: int = LONGEST_PROMPT) -> str:
    """The prompt as it is. It may be empty."""
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {_short(value)}")
    if len(value) > most:
        raise ValueError(f"expected at most {most} characters, got {len(value)} in “{value[:40].strip()}…”")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
