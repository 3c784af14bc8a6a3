"""The studies of a data folder, opened and closed in one place, for pages and commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from calibri.errors import StudyError
from calibri.files import write_whole
from calibri.words import count
from studio.examples import PutAway
from studio.studies.example import ExampleStudy
from studio.studies.invites import Invites
from studio.studies.planning import NewStudy, plan
from studio.studies.rendering import StudyRenders
from studio.studies.results.analysis import ALL, Analysis, Filter, analyse
from studio.studies.results.examples import make_examples
from studio.studies.results.exports import (
    FORMATS,
    to_bom_csv,
    to_csv,
    to_jsonl,
    to_parquet,
    to_preferences,
    to_zip,
    write_csv,
)
from studio.studies.results.reports import to_html, to_markdown
from studio.studies.results.scores import StudyScores
from studio.studies.storage.archive import Archive
from studio.studies.storage.archive_places import open_place
from studio.studies.storage.database import Database, open_secret
from studio.studies.storage.opening import DamagedFile
from studio.studies.storage.panel_store import list_participants
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.picture_watch import PictureWatch
from studio.studies.storage.repair import put_right
from studio.studies.storage.snapshots import Snapshots, backup, count_missing, restore
from studio.studies.storage.study_store import Status, Study, StudyStore
from studio.studies.storage.vote_store import VoteStore
from studio.studies.voting.previews import Previews
from studio.studies.voting.voting import Voting

FILE = "votes.duckdb"
AWAY = "examples-put-away.json"
ENDINGS = {"preferences": "preferences.jsonl", "csv-bom": "bom.csv"}  # of formats that are no endings


@dataclass
class Studies:
    """The stores, the voting, the rendering and the snapshots of one data folder."""

    data: Path
    db: Database
    store: StudyStore
    votes: VoteStore
    images: ImageStore
    watch: PictureWatch
    voting: Voting
    previews: Previews
    snapshots: Snapshots
    renders: StudyRenders
    key: Callable[[], bytes]
    scores: StudyScores
    invites: Invites
    example: ExampleStudy | None = None
    """The example that comes with the studio, with simulated votes."""
    archive: Archive | None = None
    """Where votes and studies are kept a second time, if anywhere."""

    def open(self) -> None:
        """Open the file of votes now, at the start of a studio. Raises StudyError that says what to do."""
        self.db.open()

    def tell_dropped(self) -> str:
        """What was lost of the votes since the file was last open, and what a snapshot has of it; or ""."""
        dropped = self.db.dropped
        if dropped is None:
            return ""
        why = (
            f"their log was damaged, and is kept as {dropped.kept.name}"
            if dropped.kept
            else f"{FILE} is older than when it was last open"
        )
        told = f"The last {count(dropped.changes, 'change')} to the votes could not be read: {why}."
        newest = self.snapshots.latest()
        missing = count_missing(self.db, newest) if newest else 0
        if newest is None or not missing:
            return f"{told} No snapshot has more votes than there are here."
        return (
            f"{told} The newest snapshot, {newest.name}, has {count(missing, 'vote')} more: "
            f"`calibri study restore {newest.name}` adds what is missing."
        )

    def repair(self) -> dict[str, Any]:
        """Put a damaged file of votes aside, keep what can be read, and add what the newest snapshot has.

        Returns what was kept, dropped and added. Raises StudyError where nothing is damaged.
        """
        try:
            self.db.open()
        except DamagedFile:
            assert self.db.path is not None
            aside = put_right(self.db.path)
        else:
            raise StudyError("The file of votes can be read: there is nothing to repair.")
        [(kept,)] = self.db.read("SELECT count(*) FROM votes")
        newest = self.snapshots.latest()
        added = self.restore(newest) if newest else {}
        return {
            "votes_read": kept,
            "changes_dropped": self.db.dropped.changes if self.db.dropped else None,
            "old_files": aside.name,
            "snapshot": newest.name if newest else None,
            "votes_added": added.get("votes", 0),
        }

    def create(self, new: NewStudy) -> Study:
        """Write a new draft. `renders.start` renders its pictures."""
        study, arms, pairs = plan(new, self.key())
        self.store.add(study, arms, pairs)
        return study

    def set_status(self, study: str, status: Status) -> Study:
        """Open, close or archive, recorded as an event; closing takes a snapshot."""
        known = self.store.get(study)
        changed = self.store.set_status(known.id, status)
        self.voting.forget(known.id)
        if status in ("open", "closed"):
            detail = {"protocol": known.protocol.hash, "votes": self.votes.count(known.id)}
            self.votes.note(known.id, "open" if status == "open" else "close", detail)
        if status == "closed":
            self.snapshots.take("close")
            if self.archive is not None:
                self.archive.ship_soon()
        return changed

    def unblind(self, study: str, reason: str) -> None:
        """Record that somebody looked at the results of an open study: reports say so."""
        known = self.find(study)
        if known.status == "open":
            detail = {"reason": reason[:200], "votes": self.votes.count(known.id)}
            self.votes.note(known.id, "unblind", detail)

    @cached_property
    def away(self) -> PutAway:
        """Whether the example is put away."""
        return PutAway(self.data / AWAY)

    def is_example(self, study: object) -> bool:
        return self._find_example(study) is not None

    def _find_example(self, study: object) -> ExampleStudy | None:
        return self.example if self.example is not None and study == self.example.study.id else None

    def find(self, study: object) -> Study:
        """The study of this id, or the example. Raises StudyError."""
        if (example := self._find_example(study)) is not None:
            return example.study
        return self.store.get(study)

    def rows(self, study: object) -> list[dict[str, Any]]:
        """One row a vote, of a study or of the example."""
        if (example := self._find_example(study)) is not None:
            return list(example.rows)
        return self.votes.rows(self.store.get(study).id)

    def analysis(self, study: str, filter: Filter = ALL) -> Analysis:
        """The results of a study, or of the example, under a filter."""
        if (example := self._find_example(study)) is not None:
            return analyse(example.study, example.arms, example.rows, (), filter)
        known = self.store.get(study)
        rows, events = self.votes.rows(known.id), self.votes.events(known.id)
        return analyse(known, self.store.arms(known.id), rows, events, filter)

    def export(self, study: str, format: str, filter: Filter = ALL) -> Path:
        """Write one of `exports.FORMATS`, or a report (`html`, `md`), into the data folder. Returns the file.

        Raises StudyError for an unknown format, and for `zip` while the study is not closed.
        """
        known = self.find(study)
        if format not in (*FORMATS, "html", "md"):
            raise StudyError(f"Unknown format {format!r}; known: html, md, {', '.join(FORMATS)}.")
        path = self.data / "exports" / f"{known.id}.{ENDINGS.get(format, format)}"
        if format in ("parquet", "zip") and self.is_example(study):
            raise StudyError("The example has no pictures and no file of votes. Choose another kind of file.")
        if format == "parquet":
            return to_parquet(self.db, known.id, path)
        analysis, rows = self.analysis(known.id, filter), self.rows(known.id)
        if format == "zip":
            return to_zip(self.db, self.images, analysis, rows, path)
        flagged = frozenset(r.rater for r in analysis.flagged)
        writers: dict[str, Callable[[], str]] = {
            "csv": lambda: to_csv(rows),
            "csv-bom": lambda: to_bom_csv(rows),
            "jsonl": lambda: to_jsonl(rows),
            "preferences": lambda: to_preferences(rows, flagged),
            "html": lambda: to_html(analysis, make_examples(analysis, rows, self.images)),
            "md": lambda: to_markdown(analysis),
        }
        write_whole(path, writers[format]())
        return path

    def write_participants(self, study: str) -> Path:
        """A CSV of who takes part, with the ids of their panel: see panel_store. Returns the file."""
        known = self.store.get(study)
        path = self.data / "exports" / f"{known.id}.participants.csv"
        write_whole(path, write_csv(*list_participants(self.db, known.id)))
        return path

    def backup(self, path: Path) -> Path:
        return backup(self.db, path)

    def restore(self, folder: Path) -> dict[str, int]:
        """Add the rows of a snapshot that are missing. Returns how many of each table were new."""
        new = restore(self.db, folder)
        for study in self.store.all():
            self.voting.forget(study.id)
        return new

    def close(self) -> None:
        """Stop rendering, finish snapshots, close the file. Safe to call twice."""
        self.renders.close()
        self.scores.close()
        self.watch.close()
        self.snapshots.close()
        if self.archive is not None:
            self.archive.close()
        self.db.close()


def open_studies(
    data: Path, host: Any, *, every: int = 200, archive: str = "", key_text: str = "", **voting: Any
) -> Studies:
    """The studies of a data folder, whose files are opened at first use. `host`: a ModelHost. `archive`: a
    folder or `owner/name` of a dataset on the hub; it does nothing before its `begin`. `key_text`: from which
    a folder without a key gets its own. Raises StudyError."""
    db = Database(data / FILE)
    store, images = StudyStore(db), ImageStore(data / "pictures")
    snapshots = Snapshots(db, data / "snapshots", every)
    key = open_secret(data / "studies.key", key_text)
    watch = PictureWatch(db, images)
    voting |= {"on_vote": lambda _: snapshots.count_vote(), "on_lost": watch.note}
    taker = Voting(db, store, images, key, **voting)
    renders = StudyRenders(host, store, images, taker.forget)
    previews = Previews(store, taker.pictures.read_padded, key)
    scores = StudyScores(store, images, data)
    votes = VoteStore(db)
    made = Studies(
        data, db, store, votes, images, watch, taker, previews, snapshots, renders, key, scores, Invites(data)
    )
    if archive:
        made.archive = Archive(db, open_place(archive), data / "archive", made.restore)
    return made
