"""How and when a result was made."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from calibri.errors import JournalError

if TYPE_CHECKING:
    from calibri.search.records import SessionRecord


def now() -> str:
    """The time for the log, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "cma", "numpy", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def moved_revisions(sessions: Sequence[SessionRecord], revisions: Mapping[str, str]) -> str:
    """What changed about the rewards since a run was last scored, in a sentence; "" for nothing.

    Raises JournalError where a reward has other weights than before: its scores would not compare.
    """
    before: dict[str, str] = {}
    for session in sessions:
        before |= session.rewards
    moved = []
    for name, revision in revisions.items():
        known = before.get(name, revision)
        if not known or not revision or known == revision:
            continue
        if known.split("-")[0] != revision.split("-")[0]:
            raise JournalError(
                f"this run was scored with other weights of {name} ({known}, now {revision}); its scores "
                "would not compare"
            )
        moved.append(f"{name} ({known} before, {revision} now)")
    return f"Scores may differ slightly from earlier ones: {', '.join(moved)}." if moved else ""
