"""The order of snapshots, which no clock changes."""

from __future__ import annotations

from pathlib import Path

from calibri.errors import StudyError
from calibri.files import open_file, read_folder, read_text

NUMBER = "number.txt"  # in a snapshot's folder: its place in the order


def find_newest(folder: Path) -> Path | None:
    """The snapshot in `folder` that was taken last; None where there is none."""
    listing = read_folder(folder, "*/votes.parquet", _read_place)
    newest = max(listing.found, key=listing.found.__getitem__, default=None)
    return folder / newest if newest is not None else None


def _read_place(snapshot: Path) -> tuple[int, str]:
    open_file(snapshot / "votes.parquet", StudyError).close()
    return read_order(snapshot)


def read_order(snapshot: Path) -> tuple[int, str]:
    """The place of a snapshot: earlier versions gave no number, so their names count."""
    try:
        return int(read_text(snapshot / NUMBER, 40, StudyError)), snapshot.name
    except (StudyError, ValueError):
        return 0, snapshot.name
