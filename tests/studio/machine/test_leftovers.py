"""Folders of files that can be made again have an age and a total."""

from __future__ import annotations

import os
import time
from pathlib import Path

from studio.machine import leftovers
from studio.machine.leftovers import Leftovers, Shelf, sweep


def put(folder: Path, name: str, size: int, used: float) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))
    return path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_file_goes_when_it_is_too_old(tmp_path: Path) -> None:
    put(tmp_path, "a/old", 1, 1000.0)
    put(tmp_path, "b/young", 1, 1001.0)
    shelf = Shelf(tmp_path, kept=99.0, most=10)
    assert sweep(shelf, now=1099.0) == 0
    assert sweep(shelf, now=1100.0) == 1
    assert names(tmp_path) == {"b/young"} and not (tmp_path / "a").exists()


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, f"{number}", 10, 1000.0 + number)
    assert sweep(Shelf(tmp_path, kept=None, most=50), now=1e12) == 0
    assert sweep(Shelf(tmp_path, kept=None, most=49), now=1e12) == 1
    assert names(tmp_path) == {"1", "2", "3", "4"}
    assert sweep(Shelf(tmp_path, kept=None, most=10), now=1e12) == 3
    assert names(tmp_path) == {"4"}


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    outside = put(tmp_path, "outside/kept", 10, 1.0)
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "link").symlink_to(outside)
    (tmp_path / "shelf" / "folder").symlink_to(outside.parent)
    sweep(Shelf(tmp_path / "shelf", kept=0.0, most=0), now=1e12)
    assert outside.exists() and not (tmp_path / "shelf" / "link").is_symlink()


def test_a_folder_that_is_missing_is_nothing(tmp_path: Path) -> None:
    assert sweep(Shelf(tmp_path / "none", kept=1.0, most=1)) == 0


def test_much_that_comes_is_swept_soon(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "a", kept=None, most=400)
    made = Leftovers([shelf])
    made.start()
    try:
        for number in range(50):
            put(shelf.folder, f"{number}", 100, 1000.0 + number)
            made.note(100)
        end = time.monotonic() + 20
        while len(names(shelf.folder)) > 4 and time.monotonic() < end:
            made.note(100)
            time.sleep(0.02)
        assert names(shelf.folder) == {"46", "47", "48", "49"}
    finally:
        made.close()
    assert leftovers.EVERY > 2 * 20  # it was not the sweep of every minute
