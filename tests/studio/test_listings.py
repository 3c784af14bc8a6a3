"""One bad entry never hides the others, wherever things are listed: each is told, with why."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from calibri.analysis.settings import SweepSettings
from calibri.calibration.artifact import Calibration, Member
from calibri.cli import main
from calibri.errors import CalibriError
from calibri.files import Unreadable
from calibri.prompts import read_prompts
from calibri.rewards.cache import ScoreCache
from studio.calibrations import CalibrationStore
from studio.diagnose.store import CELLS, Sweep, SweepNote, read_sweeps, write_note
from studio.search.runs import RunStore
from studio.studies.storage.newest import find_newest
from studio.ui.elements import list_unreadable
from tests.studio.search.runfolders import config

Spoil = Callable[[Path], object]
FIVE_THOUSAND = '{"format": "calibri-calibration/1", "found": {"a": ' + "9" * 5000 + "}}"

#: What may lie in a file's place, and what is told of it.
BAD: dict[str, tuple[Spoil, str]] = {
    "digits": (lambda path: path.write_text(FIVE_THOUSAND), "400 digits, got 5000|not |JSON|number"),
    "deep": (lambda path: path.write_text("[" * 100_000), "64 levels|not |JSON"),
    "text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not a text file"),
    "loop": (lambda path: path.symlink_to(path), "a link that leads to itself"),
    "nothing": (lambda path: path.symlink_to(path.parent / "gone"), "a link to nothing|No such file"),
    "folder": (lambda path: path.mkdir(), "expected a file, got a folder"),
    "pipe": (os.mkfifo, "expected a file, got a pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "expected a file, got a device"),
}


def make(title: str = "Warm") -> Calibration:
    names, members = ("double.0", "single.0"), (Member(scales=(1.1, 1.0)),)
    return Calibration(title=title, backbone="tiny", granularity="block", names=names, members=members)


@contextmanager
def patience() -> Iterator[None]:
    """Fails where something waits: a pipe nobody writes to would make a test hang."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# places: each puts two good entries and a bad one between them, and tells what is listed


def library(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    for name in ("a", "z"):
        make(name).save(folder / "own" / f"{name}.json")
    spoil(folder / "own" / "m.json")
    store = CalibrationStore(folder / "built-in", folder / "own")
    assert store.save(make("n")).title == "n" and store.duplicate("own/a").title == "a copy"
    for each in ("own/n", "own/a-copy"):
        store.delete(each)
    assert len(store.trash()) == 2
    return [entry.title for entry in store.entries()], store.unreadable()


def trash(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    store = CalibrationStore(folder / "built-in", folder / "own")
    for name in ("a", "z"):
        store.delete(store.save(make(name)).id)
    spoil(folder / "own" / "trash" / "00-m.json")
    titles = [entry.title for entry in store.trash()]
    return titles[::-1], [Unreadable("m", BAD_WORDS)]  # the trash lists what can be restored


BAD_WORDS = "|".join(words for _, words in BAD.values())


def runs(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    for name in ("a", "m", "z"):
        (folder / name).mkdir(parents=True)
        if name != "m":
            (folder / name / "config.json").write_text(config().to_json())
    spoil(folder / "m" / "config.json")
    store = RunStore(folder)
    return sorted(run.id for run in store.all()), store.unreadable()


def run_folders(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    """Something else in the place of a run folder; a file is no run."""
    (folder / "a").mkdir()
    (folder / "a" / "config.json").write_text(config().to_json())
    (folder / "z").mkdir()
    (folder / "z" / "config.json").write_text(config().to_json())
    spoil(folder / "m")
    store = RunStore(folder)
    told = store.unreadable()
    return sorted(run.id for run in store.all()), told or [Unreadable("m", BAD_WORDS)]


def journals(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    """The run itself is listed, with why its journal is not read."""
    for name in ("a", "m", "z"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(config().to_json())
    spoil(folder / "m" / "journal.jsonl")
    spoil(folder / "m" / "lock")
    spoil(folder / "m" / "studio.json")
    store = RunStore(folder)
    told = {run.id: run.error for run in store.all()}
    error = told.pop("m")
    return sorted(told), [Unreadable("m", error or BAD_WORDS)]  # one line is torn: its writer may go on


def sweep(name: str) -> Sweep:
    settings = SweepSettings(rewards="tabletop-quality", prompts=("a", "b"))
    note = SweepNote(settings=settings, backbone="tiny", fingerprint="f", names=("double.0",), when="2026")
    return Sweep(name, note, "done")


def sweeps(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    for name in ("a", "z"):
        write_note(folder, sweep(name))
    (folder / "m").mkdir()
    spoil(folder / "m" / "studio.json")
    listing = read_sweeps(folder)
    return list(listing.found), listing.unreadable


def cells(folder: Path, spoil: Spoil) -> tuple[list[str], Sequence[Unreadable]]:
    for name in ("a", "m", "z"):
        write_note(folder, sweep(name))
    spoil(folder / "m" / CELLS)
    listing = read_sweeps(folder)
    told = listing.unreadable or [Unreadable("m", BAD_WORDS)]  # one line is torn
    return [name for name in listing.found if name != "m"], told


PLACES = (library, trash, runs, run_folders, journals, sweeps, cells)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_the_others_are_listed_and_the_bad_one_is_told(place: Callable, kind: str, tmp_path: Path) -> None:
    spoil, words = BAD[kind]
    with patience():
        good, unreadable = place(tmp_path, spoil)
    assert good == ["a", "z"]
    [(name, why)] = unreadable
    assert name.startswith("m") and any(each in why for each in words.split("|")), why
    assert str(tmp_path) not in why
    assert name in list_unreadable(unreadable)


@pytest.mark.parametrize("kind", BAD)
def test_calibri_check_goes_on_after_a_bad_file(kind: str, tmp_path: Path, capsys) -> None:
    for name in ("a", "z"):
        make(name).save(tmp_path / f"{name}.json")
    BAD[kind][0](tmp_path / "m.json")
    with patience():
        assert main(["check", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.count(": valid.") == 2 and "m.json" in err and "Traceback" not in err
    with patience():
        assert main(["check", "--json", str(tmp_path / "a.json"), str(tmp_path / "m.json")]) == 1
    good, bad = json.loads(capsys.readouterr()[0])
    assert good["title"] == "a" and "m.json" in bad["error"]


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("pipe", "device")])
def test_a_prompt_file_that_cannot_be_read_says_so(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    BAD[kind][0](path)
    with patience(), pytest.raises(CalibriError, match=r"prompts\.json"):
        read_prompts(path)


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("nothing", "device")])
def test_a_cache_of_scores_that_is_none_says_so(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    BAD[kind][0](path)
    with patience(), pytest.raises(CalibriError, match=r"scores\.sqlite"):
        ScoreCache(path)


@pytest.mark.parametrize("kind", BAD)
def test_the_newest_snapshot_is_found_beside_bad_ones(kind: str, tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2), ("m", 3), ("z", 0)):
        (tmp_path / name).mkdir()
        if name != "m":
            (tmp_path / name / "votes.parquet").write_bytes(b"")
        (tmp_path / name / "number.txt").write_text(str(number))
    if kind not in ("digits", "deep", "text"):  # what a Parquet file holds is read when it is restored
        BAD[kind][0](tmp_path / "m" / "votes.parquet")
    (tmp_path / "z" / "number.txt").unlink()
    BAD[kind][0](tmp_path / "z" / "number.txt")
    with patience():
        assert find_newest(tmp_path) == tmp_path / "b"
