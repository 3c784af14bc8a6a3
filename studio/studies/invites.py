"""How many invite links each study has. Links are signed: a number is enough to write one again."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from calibri.errors import StudyError
from calibri.files import read_object, write_whole

log = logging.getLogger(__name__)

FILE = "invites.json"
MOST = 10_000  # links of one study that are shown


class Invites:
    """The highest number of a link that was made, for each study of a data folder. Safe from any thread."""

    def __init__(self, data: Path) -> None:
        self._path, self._lock = data / FILE, threading.Lock()

    def count(self, study: str) -> int:
        """Links that were made for this study."""
        return self._read().get(study, 0)

    def note(self, study: str, highest: int) -> None:
        """Remember that links up to this number were made."""
        with self._lock:
            known = self._read()
            if highest > known.get(study, 0):
                write_whole(self._path, json.dumps({**known, study: highest}, indent=1), durable=True)

    def _read(self) -> dict[str, int]:
        if not self._path.exists():
            return {}
        try:
            found = read_object(self._path, StudyError)
        except StudyError as error:  # the links still work; only their list is lost
            log.warning("%s", error)
            return {}
        whole = {name: number for name, number in found.items() if type(number) is int and number > 0}
        return {name: min(number, MOST) for name, number in whole.items()}
