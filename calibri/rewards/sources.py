"""Where the weights of rewards come from: as people write it, and as it is told in records. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from calibri.errors import RewardError

WRITTEN = "NAME=SOURCE"
_NEXT = re.compile(r",(?=\s*[\w.-]+\s*=)")  # a folder's name may hold commas


def read_sources(texts: Iterable[str], label: str) -> dict[str, str]:
    """Name of a reward → hub id or folder, from texts `NAME=SOURCE`, several in one with commas between.

    Folders that are there become absolute, so that another process finds them. `label`: where the texts
    stand, for messages. Raises RewardError for one that is written otherwise.
    """
    found: dict[str, str] = {}
    for text in (part for whole in texts for part in _NEXT.split(whole)):
        name, mark, source = (part.strip() for part in text.partition("="))
        if not (mark and name and source):
            raise RewardError(f"{label}: expected {WRITTEN}, got {text!r}")
        found[name] = complete_source(source)
    return found


def complete_source(source: str) -> str:
    """A folder's absolute path; any other text as it is."""
    folder = Path(source).expanduser()
    return str(folder.resolve()) if folder.is_dir() else source


def name_source(source: str) -> str:
    """A source as records and pages tell it: a hub id as it is, a folder by its name alone."""
    path = Path(source).expanduser()
    return path.name if path.is_absolute() or path.is_dir() else source
