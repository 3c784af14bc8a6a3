"""Calibrations on disk: titles stay unique, nothing is lost, and nobody can change what came along."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import ArtifactError
from studio import calibrations
from studio.calibrations import CalibrationStore


def calibration(title: str = "Warm", scale: float = 1.1) -> Calibration:
    return Calibration(
        title=title,
        backbone="tiny",
        granularity="block",
        names=("double.0", "single.0"),
        members=(Member(scales=(scale, 1.0)),),
    )


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    calibration("Shipped", 1.3).save(tmp_path / "built-in" / "shipped.json")
    return CalibrationStore(tmp_path / "built-in", tmp_path / "own")


def titles(store: CalibrationStore) -> list[str]:
    return [entry.title for entry in store.entries()]


def test_the_same_title_with_other_content_gets_a_number(store: CalibrationStore) -> None:
    assert [store.save(calibration(scale=s)).title for s in (1.1, 1.2, 1.1)] == ["Warm", "Warm 2", "Warm"]
    assert store.save(calibration("SHIPPED")).title == "SHIPPED 2"
    assert titles(store) == ["Shipped", "SHIPPED 2", "Warm 2", "Warm"]  # each shelf by file name


def test_a_renamed_one_keeps_its_id_and_date(store: CalibrationStore) -> None:
    entry = store.save(calibration())
    os.utime(entry.path, (1e9, 1e9))
    renamed = store.rename(entry.id, "  Cold \n edges ")
    assert (renamed.id, renamed.title, renamed.saved) == (entry.id, "Cold edges", 1e9)
    assert store.get(entry.id).title == "Cold edges" and titles(store) == ["Shipped", "Cold edges"]
    assert store.rename(entry.id, "cold edges").title == "cold edges"


def test_titles_that_cannot_be(store: CalibrationStore) -> None:
    entry = store.save(calibration())
    for title, words in (
        ("", "Expected a title"),
        ("x" * 121, "121"),
        (" shipped ", "already a calibration called"),
    ):
        with pytest.raises(ArtifactError, match=words):
            store.rename(entry.id, title)
    assert titles(store) == ["Shipped", "Warm"]


def test_a_copy_is_another_one(store: CalibrationStore) -> None:
    first = store.duplicate("studio/shipped")
    second = store.duplicate("studio/shipped")
    assert (first.title, second.title) == ("Shipped copy", "Shipped copy 2") and first.id != second.id
    assert first.calibration.hash == store.get("studio/shipped").calibration.hash and not first.built_in


def test_what_came_with_the_studio_stays(store: CalibrationStore) -> None:
    with pytest.raises(ArtifactError, match="came with the studio and cannot be renamed"):
        store.rename("studio/shipped", "Mine")
    with pytest.raises(ArtifactError, match="cannot be deleted"):
        store.delete("studio/shipped")


def test_deleted_and_restored_it_is_what_it_was(store: CalibrationStore) -> None:
    entry = store.save(calibration())
    os.utime(entry.path, (1e9, 1e9))
    gone = store.delete(entry.id)
    assert titles(store) == ["Shipped"] and [e.title for e in store.trash()] == ["Warm"]
    with pytest.raises(ArtifactError, match="any more"):
        store.get(entry.id)
    back = store.restore(gone)
    assert (back.id, back.saved, back.calibration) == (entry.id, 1e9, entry.calibration)
    assert store.trash() == []
    with pytest.raises(ArtifactError, match="not in the trash"):
        store.restore(gone)
    with pytest.raises(ArtifactError, match="not in the trash"):
        store.restore("../shipped")


def test_restored_beside_a_new_one_of_the_same_title(store: CalibrationStore) -> None:
    entry = store.save(calibration())
    gone = store.delete(entry.id)
    new = store.save(calibration(scale=1.7))
    back = store.restore(gone)
    assert new.id == entry.id != back.id and back.title == "Warm 2"
    assert store.get(new.id).calibration.members[0].scales[0] == 1.7


def test_what_another_visitor_deleted_meanwhile_is_a_sentence(store: CalibrationStore) -> None:
    entry = store.save(calibration())
    store.delete(entry.id)
    for change in (store.delete, store.duplicate, lambda i: store.rename(i, "New")):
        with pytest.raises(ArtifactError, match=r"no saved calibration 'own/warm' \(any more\)"):
            change(entry.id)


def test_the_trash_forgets_the_oldest(store: CalibrationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "MOST_TRASH", 2)
    for number in range(4):
        store.delete(store.save(calibration(f"Number {number}")).id)
    assert [e.title for e in store.trash()] == ["Number 3", "Number 2"]


def test_many_at_once_lose_nothing(store: CalibrationStore) -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            entry = store.save(calibration("Same", 1 + number / 100))
            store.duplicate(entry.id)
            if number % 2:
                store.restore(store.delete(entry.id))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.entries()
    assert errors == [] and len(found) == 17
    assert len({e.title.casefold() for e in found}) == len({e.id for e in found}) == 17
    assert {e.calibration.members[0].scales[0] for e in found[1:]} == {1 + n / 100 for n in range(1, 9)}


def test_a_folder_that_cannot_be_written_is_a_sentence_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("a file", encoding="utf-8")
    store = CalibrationStore(tmp_path / "built-in", tmp_path / "own")
    with pytest.raises(ArtifactError, match="“Warm” cannot be written") as caught:
        store.save(calibration())
    assert str(tmp_path) not in str(caught.value)


def test_every_change_is_seen(store: CalibrationStore) -> None:
    seen = [store.revision]
    entry = store.save(calibration())
    for change in (
        lambda: store.rename(entry.id, "New"),
        lambda: store.duplicate(entry.id),
        lambda: store.restore(store.delete(entry.id)),
    ):
        change()
        seen.append(store.revision)
    assert seen == sorted(set(seen))
