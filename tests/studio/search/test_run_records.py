"""Rename, tag, delete and undo of searches, on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calibri.errors import SearchError
from calibri.search.config import Budget
from calibri.search.journal import JOURNAL, RunFolder
from studio.search.records import DELETED, LONGEST_TITLE, MOST_DELETED, RunRecords, read_tags
from studio.search.runs import NOTE, RunStore
from studio.search.status import State
from tests.studio.search.runfolders import Writer, config


def open_records(tmp_path: Path, state: State = "done") -> RunRecords:
    store = RunStore(tmp_path / "runs", tmp_path / "shelf")
    return RunRecords(store, lambda run_id: state)


def ids(records: RunRecords) -> list[str]:
    return sorted(run.id for run in records.store.all())


def test_a_title_and_tags_stay_after_a_restart_with_what_the_note_said_before(tmp_path: Path) -> None:
    records = open_records(tmp_path)
    path = records.store.create("Old", "ann", Budget(images=7))
    with RunFolder(path, config()):
        pass
    records.store.refresh(now=True)
    records.rename("old", "  A new\n title ")
    records.tag("old", "paper, layer,, paper ")
    assert records.store.get("old").title == "A new title"
    again = RunStore(tmp_path / "runs").get("old")
    assert (again.title, again.note.tags) == ("A new title", ("paper", "layer"))
    assert (again.note.by, again.limits.images, again.begun) == ("ann", 7, records.store.get("old").begun)


def test_a_run_of_another_program_gets_a_note_and_keeps_its_date(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "foreign")
    os.utime(writer.folder / "config.json", (1e9, 1e9))
    records = open_records(tmp_path)
    records.rename("foreign", "Mine")
    again = RunStore(tmp_path / "runs").get("foreign")
    assert (again.title, again.begun) == ("Mine", 1e9)


@pytest.mark.parametrize(
    ("title", "words"), [("", "got none"), (" \n", "got none"), (None, "got none"), ("x" * 81, "got 81")]
)
def test_a_bad_title_is_refused_and_the_old_one_stays(tmp_path: Path, title: object, words: str) -> None:
    Writer(tmp_path / "runs" / "one")
    records = open_records(tmp_path)
    with pytest.raises(SearchError, match=words):
        records.rename("one", title)
    assert records.store.get("one").title == "one" and not (tmp_path / "runs" / "one" / NOTE).exists()
    assert len("x" * 81) == LONGEST_TITLE + 1


def test_bad_tags_are_refused() -> None:
    assert read_tags(None) == () and read_tags(" a  b ,c") == ("a b", "c")
    with pytest.raises(SearchError, match="at most 24"):
        read_tags("y" * 25)
    with pytest.raises(SearchError, match="at most 8 tags, got 9"):
        read_tags("1,2,3,4,5,6,7,8,9")


def test_a_deleted_run_comes_back_byte_for_byte(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "one")
    writer.generations(0, 3)
    before = (writer.folder / JOURNAL).read_bytes()
    records = open_records(tmp_path)
    assert not records.can_undo
    records.delete("one")
    assert ids(records) == [] and records.can_undo
    assert records.store.unreadable() == ()
    assert records.undo() == "one"
    assert (tmp_path / "runs" / "one" / JOURNAL).read_bytes() == before
    assert len(records.store.get("one").generations) == 3 and not records.can_undo


def test_undo_takes_the_last_one_whatever_the_clock_says_and_after_a_restart(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Writer(tmp_path / "runs" / name)
    records = open_records(tmp_path)
    for name in ("b", "c", "a"):
        records.delete(name)
        hidden = next((tmp_path / "runs" / DELETED).glob(f"*-{name}"))
        os.utime(hidden, (1e9 - ord(name), 1e9 - ord(name)))  # a clock that runs back
    again = open_records(tmp_path)
    assert [again.undo(), again.undo(), again.undo()] == ["a", "c", "b"]
    with pytest.raises(SearchError, match="no deleted search"):
        again.undo()


def test_the_id_of_a_deleted_run_is_not_given_again(tmp_path: Path) -> None:
    """Pictures of a run are kept under its id."""
    records = open_records(tmp_path)
    Writer(tmp_path / "runs" / "found-in-two-minutes")
    records.delete("found-in-two-minutes")
    assert records.store.create("Found in two minutes", "", None).name == "found-in-two-minutes-2"


def test_a_note_is_whole_whoever_changes_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "one")  # begun by a command: without a note
    records = open_records(tmp_path)
    records.store.note(records.store.get("one"), stopped=True)
    records.rename("one", "First")
    run = open_records(tmp_path).store.get("one")
    assert (run.note.stopped, run.note.title, bool(run.note.when)) == (True, "First", True), writer.folder


def test_a_name_taken_meanwhile_makes_another_one(tmp_path: Path) -> None:
    Writer(tmp_path / "runs" / "one").generations(0, 2)
    records = open_records(tmp_path)
    records.delete("one")
    Writer(tmp_path / "runs" / "one")
    assert records.undo() == "one-2"
    assert ids(records) == ["one", "one-2"]
    assert len(records.store.get("one-2").generations) == 2 and not records.store.get("one").generations


@pytest.mark.parametrize("state", ["running", "queued", "paused", "stopping", "elsewhere"])
def test_what_is_under_way_is_not_deleted(tmp_path: Path, state: State) -> None:
    Writer(tmp_path / "runs" / "one")
    records = open_records(tmp_path, state)
    with pytest.raises(SearchError, match="Stop it first"):
        records.delete("one")
    assert ids(records) == ["one"]


def test_only_the_last_twenty_wait_to_be_brought_back(tmp_path: Path) -> None:
    records = open_records(tmp_path)
    for i in range(MOST_DELETED + 2):
        Writer(tmp_path / "runs" / f"r{i}")
        records.store.refresh(now=True)
        records.delete(f"r{i}")
    waiting = sorted(path.name for path in (tmp_path / "runs" / DELETED).iterdir())
    assert len(waiting) == MOST_DELETED and waiting[0].endswith("-r2")


def test_an_example_is_put_away_and_brought_back_and_never_written(tmp_path: Path) -> None:
    Writer(tmp_path / "shelf" / "example").generations(0, 2)
    Writer(tmp_path / "runs" / "mine")
    held = {path: path.read_bytes() for path in (tmp_path / "shelf").rglob("*") if path.is_file()}
    records = open_records(tmp_path)
    assert records.store.get("example").example and not records.store.get("mine").example
    for change in (records.rename, records.tag):
        with pytest.raises(SearchError, match="came with the studio as an example"):
            change("example", "other")
    records.delete("example")
    assert ids(records) == ["mine"] == ids(open_records(tmp_path))
    assert records.undo() == "example" and ids(records) == ["example", "mine"]
    records.delete("example")
    again = open_records(tmp_path)
    again.bring_examples_back()
    assert ids(again) == ["example", "mine"]
    assert held == {path: path.read_bytes() for path in (tmp_path / "shelf").rglob("*") if path.is_file()}


def test_a_list_of_examples_that_is_damaged_hides_none(tmp_path: Path) -> None:
    Writer(tmp_path / "shelf" / "example")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "examples-put-away.json").write_text("{", encoding="utf-8")
    assert ids(open_records(tmp_path)) == ["example"]


def test_a_full_or_closed_disk_is_a_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    Writer(tmp_path / "runs" / "one")
    records = open_records(tmp_path)
    (tmp_path / "runs" / DELETED).write_text("in the way", encoding="utf-8")
    with pytest.raises(SearchError, match="was not deleted: "):
        records.delete("one")
    assert ids(records) == ["one"]
