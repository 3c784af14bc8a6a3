"""The examples that come along: whole, marked, small, and with no names of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from calibri.assets import ASSETS
from calibri.errors import SearchError
from calibri.files import load_json
from calibri.search.journal import read_journal
from calibri.search.records import SessionRecord
from studio.diagnose.store import read_sweeps
from studio.diagnose.sweeps import Sweeps
from studio.examples import PutAway
from studio.machine.host import ModelHost
from studio.search.runs import RunStore
from studio.shell.prepare_examples import NOWHERE

MOST = 40 * 2**20  # bytes of all assets


def test_every_search_is_finished_and_can_be_opened(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", ASSETS / "runs")
    runs = store.all()
    assert len(runs) >= 2 and store.unreadable() == ()
    for run in runs:
        assert run.example and run.over and not run.error and run.title.startswith("Example: ")
        assert run.calibration().backbone == "tabletop" and len(run.generations) >= 5
    assert len({tuple(run.sessions[0].labels) for run in runs}) == 1  # so that they can be compared
    assert any(run.verdict == "better" for run in runs)


def test_the_sweep_is_whole_and_is_only_read(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path / "sweeps", ModelHost(), examples=ASSETS / "sweeps")
    [sweep] = sweeps.all()
    assert sweep.example and sweep.state == "done" and sweep.title.startswith("Example · tabletop")
    assert len(sweeps.cells(sweep.id)) == sweep.total > 50
    with pytest.raises(SearchError, match="came with the studio as an example"):
        sweeps.resume(sweep.id)
    sweeps.put_away(sweep.id)
    assert (
        sweeps.all() == []
        and Sweeps(tmp_path / "sweeps", ModelHost(), examples=ASSETS / "sweeps").all() == []
    )
    sweeps.bring_back()
    assert sweeps.all() == [sweep]
    sweeps.close()


def test_no_file_names_the_machine_that_made_it() -> None:
    for path in [*ASSETS.glob("runs/*/*"), *ASSETS.glob("sweeps/*/*"), *ASSETS.glob("studies/*")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(home|root|tmp|work|Users|opt|mnt)/", text), (
            path.name
        )  # base64 has slashes too
    for folder in (ASSETS / "runs").iterdir():
        for record in read_journal(folder):
            if isinstance(record, SessionRecord):
                assert (record.host, record.pid) == (NOWHERE, 0)
    assert read_sweeps(ASSETS / "sweeps").unreadable == ()


def test_all_assets_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < MOST


def test_what_is_put_away_stays_so_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "away.json"
    PutAway(path).put("one")
    again = PutAway(path)
    again.put("two")
    assert "one" in again and len(again) == 2 and load_json(path.read_text()) == ["one", "two"]
    again.bring_back("one")
    assert "one" not in PutAway(path) and "two" in PutAway(path)
    again.clear()
    assert len(PutAway(path)) == 0
