"""The order of snapshots, which no clock changes."""

from __future__ import annotations

from pathlib import Path

NUMBER = "number.txt"  # in a snapshot's folder: its place in the order


def find_newest(folder: Path) -> Path | None:
    """The snapshot in `folder` that was taken last; None where there is none."""
    found = [p for p in folder.glob("*") if not p.name.startswith(".") and (p / "votes.parquet").is_file()]
    return max(found, key=read_order, default=None)


def read_order(snapshot: Path) -> tuple[int, str]:
    """The place of a snapshot: earlier versions gave no number, so their names count."""
    try:
        return int((snapshot / NUMBER).read_text()), snapshot.name
    except (OSError, ValueError):
        return 0, snapshot.name
