"""Numbers, durations and names as people read them."""

from __future__ import annotations

import math
import re
from pathlib import Path


def shown_name(name: str) -> str:
    """A backbone's name for people: a folder's own name instead of its path."""
    return without_paths(Path(name).name if Path(name).expanduser().is_dir() else name)


def without_paths(text: str) -> str:
    """A sentence with the last part of each absolute path in it instead of the whole."""
    return re.sub(r"(?<![\w.:/~-])~?/(?:[^\s/:'\",;()]+/)+([^\s/:'\",;()]*)", r"\1", text)


def three_digits(value: float) -> str:
    """A reward as LOOK writes it: three significant digits, at most three decimals, a real minus sign."""
    text = f"{value:.3f}" if abs(value) < 0.1 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min`, `2 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def signed(difference: float) -> str:
    """`+0.05`, `−0.12`: a difference as LOOK writes it."""
    return f"{'−' if round(difference, 2) < 0 else '+'}{abs(difference):.2f}"


def grouped(number: int) -> str:
    """A count with thin separators: `12 345`."""
    return f"{number:,}".replace(",", "\u202f")


def slug(text: str) -> str:
    """A short readable folder name: `layer-align-quality`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "search"


def long_duration(seconds: float | None) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def grouped_thin(number: int) -> str:
    """`1 168`, with a thin space."""
    return f"{number:,}".replace(",", "\u2009")


def duration_rounded_up(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
