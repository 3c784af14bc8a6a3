"""What a person does with searches that are there: rename, tag, delete, undo. On the disk, and in the store.

A deleted run moves into `DELETED` beside the others, under a running number, so that "the last one" is known
whatever the clock says. The last MOST_DELETED can be brought back. An example is never written: it is put
away, and comes back the same way.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable

from calibri.errors import SearchError
from calibri.files import explain, sync
from studio.search.runs import DELETED, Deleted, Run, RunStore, list_deleted
from studio.search.status import ALIVE, State

log = logging.getLogger(__name__)

MOST_DELETED = 20  # that can be brought back; older ones are gone
LONGEST_TITLE = 80  # characters
LONGEST_TAG, MOST_TAGS = 24, 8
OF_THE_STUDIO = "This search came with the studio as an example."


class RunRecords:
    """Changes to the runs of one store. Safe to call from any thread. `state`: of a run, by its id."""

    def __init__(self, store: RunStore, state: Callable[[str], State]) -> None:
        self.store, self._state = store, state
        self._lock = threading.Lock()
        self._last: list[Deleted] = []  # of this process, in order: also examples

    def rename(self, run_id: object, title: object) -> Run:
        """Raises SearchError for an empty title, an unknown run and an example."""
        words = " ".join(str(title or "").split())
        if not words:
            raise SearchError("Expected a title, got none.")
        if len(words) > LONGEST_TITLE:
            raise SearchError(f"Expected a title of at most {LONGEST_TITLE} characters, got {len(words)}.")
        return self._note(run_id, title=words)

    def tag(self, run_id: object, text: object) -> Run:
        """Set the tags to those in `text`, with commas between them. Raises SearchError."""
        return self._note(run_id, tags=read_tags(text))

    def delete(self, run_id: object) -> Deleted:
        """Take a run out of the list, so that `undo` can bring it back. Raises SearchError for one that is
        under way, and where the disk refuses."""
        run = self.store.get(run_id)
        if self._state(run.id) in (*ALIVE, "elsewhere"):
            raise SearchError(f"“{run.title}” is under way. Stop it first, then delete it.")
        with self._lock, _told("deleted"):
            if run.example:
                self.store.away.put(run.id)
                gone = Deleted(0, run.id)
            else:
                gone = Deleted(max([0, *(one.number for one in self._kept())]) + 1, run.id)
                place = self.store.folder / DELETED
                place.mkdir(exist_ok=True)
                os.rename(run.folder, place / _name(gone))
                sync(self.store.folder)
                self._forget()
            self._last.append(gone)
        self.store.refresh(now=True)
        return gone

    def undo(self) -> str:
        """Bring the search back that was deleted last. Returns its id, which is another one where its own was
        taken meanwhile. Raises SearchError where there is none."""
        with self._lock, _told("brought back"):
            kept = self._kept()
            last = self._last.pop() if self._last else (kept[-1] if kept else None)
            if last is None or (last.number and last not in kept):
                raise SearchError("There is no deleted search to bring back.")
            run_id = last.id
            if last.number:
                run_id = self._free_name(last.id)
                os.rename(self.store.folder / DELETED / _name(last), self.store.folder / run_id)
                sync(self.store.folder)
            else:
                self.store.away.bring_back(last.id)
        self.store.refresh(now=True)
        return run_id

    def bring_examples_back(self) -> None:
        """Show every example again. Raises SearchError where the disk refuses."""
        with self._lock, _told("brought back"):
            self.store.away.clear()
            self._last = [one for one in self._last if one.number]
        self.store.refresh(now=True)

    @property
    def can_undo(self) -> bool:
        return bool(self._last or self._kept())

    def _note(self, run_id: object, **changes: object) -> Run:
        run = self.store.get(run_id)
        if run.example:
            raise SearchError(f"{OF_THE_STUDIO} Clone its settings for one of your own.")
        with _told("written"):
            self.store.note(run, **changes)
        return run

    def _kept(self) -> list[Deleted]:
        """Those that can be brought back, the last deleted last."""
        return list_deleted(self.store.folder)

    def _forget(self) -> None:
        for old in self._kept()[:-MOST_DELETED]:
            shutil.rmtree(self.store.folder / DELETED / _name(old), ignore_errors=True)

    def _free_name(self, name: str) -> str:
        number, free = 1, name
        while (self.store.folder / free).exists():
            number += 1
            free = f"{name}-{number}"
        return free


def _name(gone: Deleted) -> str:
    return f"{gone.number:06d}-{gone.id}"


class _told:
    """What the disk refuses, in a sentence."""

    def __init__(self, verb: str) -> None:
        self.verb = verb

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise SearchError(f"The search was not {self.verb}: {explain(error)}.") from error


def read_tags(text: object) -> tuple[str, ...]:
    """The tags in `paper, layer`: each once, in this order. Raises SearchError for too many or too long
    ones."""
    tags = tuple(dict.fromkeys(filter(None, (" ".join(part.split()) for part in str(text or "").split(",")))))
    if long := next((tag for tag in tags if len(tag) > LONGEST_TAG), None):
        raise SearchError(f"Expected tags of at most {LONGEST_TAG} characters, got {long[:40]!r}.")
    if len(tags) > MOST_TAGS:
        raise SearchError(f"Expected at most {MOST_TAGS} tags, got {len(tags)}.")
    return tags
