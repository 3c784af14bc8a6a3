"""The examples that come with the studio, and which of them were put away here.

An example lies in the studio's own assets, is only read, and is marked wherever it is shown. What somebody
makes lies in the data folder: the two never share a folder.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from calibri.errors import CalibriError
from calibri.files import load_json, read_text, write_whole

log = logging.getLogger(__name__)

LARGEST = 2**16  # bytes of the list


class PutAway:
    """Names of examples that are not shown any more, in one file. Safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._names = self._read()

    def _read(self) -> frozenset[str]:
        if not self._path.exists():
            return frozenset()
        try:
            names = load_json(read_text(self._path, LARGEST, CalibriError))
            return frozenset(name for name in names if isinstance(name, str))
        except (CalibriError, OSError, ValueError, TypeError) as error:
            log.warning("%s is not valid, all examples are shown: %s", self._path.name, error)
            return frozenset()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def put(self, name: str) -> None:
        """Show it no more. Raises OSError."""
        self._change(lambda names: names | {name})

    def bring_back(self, name: str) -> None:
        """Show it again. Raises OSError."""
        self._change(lambda names: names - {name})

    def clear(self) -> None:
        """Show all of them again. Raises OSError."""
        self._change(lambda names: frozenset())

    def _change(self, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        with self._lock:
            names = change(self._names)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(sorted(names)), durable=True)
            self._names = names
