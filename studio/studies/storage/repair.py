"""What is left of a damaged file of votes, and what was lost of it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from calibri.files import write_whole
from studio.studies.storage.opening import log_of, opens
from studio.studies.storage.study_store import now


def put_right(path: Path) -> Path:
    """Put a damaged file aside and leave in its place what can be read of it. Returns the old files' folder.

    The longest beginning of the log that DuckDB reads is kept: changes come one after the other there. Where
    the file itself is damaged, nothing is left of it here. No process may have it open.
    """
    aside = path.parent / f"damaged-{now():%Y%m%d-%H%M%S-%f}"
    aside.mkdir()
    log = log_of(path)
    for file in (path, log):
        if file.exists():
            shutil.copy2(file, aside / file.name)
    kept = _find_readable(path, log.read_bytes() if log.exists() else b"")
    if kept is None:
        path.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
    else:
        write_whole(log, kept, durable=True)
    return aside


def _find_readable(path: Path, changes: bytes) -> bytes | None:
    """The longest beginning of `changes` with which the file opens; None where it opens with none."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".try-") as folder:
        copy = Path(folder) / path.name

        def try_out(length: int) -> bool:
            shutil.copyfile(path, copy)
            log_of(copy).write_bytes(changes[:length])
            return opens(copy)

        if not try_out(0):
            return None
        good, bad = 0, len(changes)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if try_out(middle) else (good, middle)
        return changes[:good]
