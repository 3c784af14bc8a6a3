"""The studio's log: on stderr, and in files of the data folder that take turns."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

FOLDER, NAME = "logs", "studio.log"
LARGEST, KEPT = 5_000_000, 5  # bytes of a file, and earlier files beside it
LONGEST_LINE = 2000  # characters; a trace has more lines
WORDS = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """A message is one line of a bounded length, whatever somebody sent: nobody can forge a second line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        words = super().formatMessage(record)
        line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in words[:LONGEST_LINE])
        return line + "…" if len(words) > LONGEST_LINE else line


class _Files(RotatingFileHandler):
    """Makes its folder with the first line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8", delay=True)

    def _open(self):  # type: ignore[no-untyped-def]  # as logging has it
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def open_logs(data: Path) -> list[logging.Handler]:
    """Handlers for stderr and for `data`/logs/studio.log."""
    handlers: list[logging.Handler] = [logging.StreamHandler(), _Files(data / FOLDER / NAME)]
    for handler in handlers:
        handler.setFormatter(OneLine(WORDS))
    return handlers
