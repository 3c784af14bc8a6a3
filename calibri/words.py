"""Numbers, durations and names as people read them."""

from __future__ import annotations

import math
import re
from pathlib import Path

_SNAPSHOT = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\][^/\\]+[/\\]?$")


def hub_id_of(folder: str) -> str:
    """`owner/name` of a folder of the hub's cache, `models--owner--name/snapshots/…`; empty for others."""
    found = _SNAPSHOT.search(folder)
    return f"{found[1]}/{found[2]}" if found else ""


def shown_name(name: str) -> str:
    """A backbone's name for people: a folder's own name instead of its path, and a hub id instead of a
    snapshot's hash."""
    if hub_id := hub_id_of(name):
        return hub_id
    return without_paths(Path(name).name if Path(name).expanduser().is_dir() else name)


def without_paths(text: str) -> str:
    """A sentence with the last part of each absolute path in it instead of the whole."""
    return re.sub(r"(?<![\w.:/~-])~?/(?:[^\s/:'\",;()]+/)+([^\s/:'\",;()]*)", r"\1", text)


def three_digits(value: float) -> str:
    """A reward as LOOK writes it: three significant digits, at most three decimals, a real minus sign."""
    text = f"{value:.3f}" if abs(value) < 0.1 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def duration(seconds: float | None, *, exact: bool = False) -> str:
    """`0.42 s`, `4.2 s`, `42 s`, `3 min`, `2.5 h`; `exact`: `3 min 05 s`, `2 h 10 min`; None: `unknown`."""
    if seconds is None or math.isnan(seconds):
        return "unknown"
    if seconds < 60 or (seconds < 90 and not exact):
        return f"{seconds:.{2 if seconds < 0.995 else 1 if seconds < 9.95 else 0}f} s"
    if not exact:
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def signed(difference: float) -> str:
    """`+0.05`, `−0.12`: a difference as LOOK writes it."""
    return f"{'−' if round(difference, 2) < 0 else '+'}{abs(difference):.2f}"


def grouped(number: int) -> str:
    """A count with thin separators that no line breaks at: `12 345`."""
    return f"{number:,}".replace(",", "\u202f")


def count(number: int, noun: str, nouns: str = "") -> str:
    """`1 image`, `12 345 images`. `nouns`: the plural where it is not the noun with an s."""
    return f"{grouped(number)} {noun if number == 1 else nouns or noun + 's'}"


def data_size(size: float) -> str:
    """Bytes for people: `0.3 MB`, `412 MB`, `4.3 GB`, `17 GB`."""
    unit, value = ("GB", size / 1e9) if size >= 9.995e8 else ("MB", size / 1e6)
    return f"{value:.{1 if value < 9.95 else 0}f} {unit}"


def slug(text: str, otherwise: str, longest: int = 40) -> str:
    """A short name for files and ids, of a to z, digits and hyphens: `layer-align-quality`.

    `otherwise`: the name where nothing of the text is left.
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-") or otherwise
