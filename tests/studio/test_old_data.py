"""A data folder of version 0.1.0 opens: nothing that people made with it is lost or changes its meaning."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from studio.calibrations import CalibrationStore
from studio.diagnose.store import read_sweeps
from studio.search.runs import RunStore
from studio.studies.cli import main
from studio.studies.studies import Studies, open_studies
from studio.studies.voting.identity import Who

OLD = Path(__file__).resolve().parents[1] / "data" / "old-0.1.0"
FACTS: dict[str, Any] = json.loads((OLD / "facts.json").read_text("utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(OLD / "data.zip") as kept:
        kept.extractall(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def studies(folder: Path) -> Iterator[Studies]:
    made = open_studies(folder, None)
    yield made
    made.close()


def test_studies_votes_and_results_are_what_they_were(studies: Studies) -> None:
    assert [[s.id, s.name, s.status] for s in studies.store.all()] == FACTS["studies"]
    closed = studies.store.get(FACTS["closed"])
    assert closed.protocol.hash == FACTS["protocol"]
    assert studies.votes.count(closed.id) == FACTS["votes"]
    analysis = studies.analysis(closed.id)
    [table] = analysis.tables["preference"]
    assert (table.tally.wins, table.tally.losses) == (FACTS["wins"], FACTS["losses"])
    assert str(table.headline) == FACTS["headline"]
    assert [analysis.kept, analysis.undone, analysis.invalid] == [
        FACTS[n] for n in ("kept", "undone", "invalid")
    ]
    assert all(studies.images.has(p.image_x or "") for p in studies.store.pairs(closed.id))


def test_links_that_were_sent_still_lead_to_the_same_rater_who_goes_on(studies: Studies) -> None:
    study = FACTS["invited"]
    who = studies.voting.recognise(study, None, FACTS["code"])
    assert who == Who("invite", "7")
    view = studies.voting.look(study, who)
    assert (view.stage, view.done, view.total) == ("vote", 1, 2)
    assert studies.previews.code(FACTS["closed"]) == FACTS["preview"]


def test_quick_votes_go_on_in_their_study(studies: Studies) -> None:
    from studio.quick_vote.votes import analyse_votes, open_quick_study

    assert open_quick_study(studies, "tabletop").id == "quick-tabletop-1"
    found = analyse_votes(studies, "tabletop")
    assert found is not None and found.total == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "preferences.jsonl"])
def test_exports_are_the_same_files(studies: Studies, folder: Path, ending: str) -> None:
    path = folder / "exports" / f"{FACTS['closed']}.{ending}"
    before = path.read_bytes()
    assert studies.export(FACTS["closed"], ending.partition(".")[0]) == path
    assert path.read_bytes() == before


def test_the_report_shows_the_same_tables(studies: Studies, folder: Path) -> None:
    path = folder / "exports" / f"{FACTS['closed']}.html"
    before = path.read_text("utf-8")
    after = studies.export(FACTS["closed"], "html").read_text("utf-8")
    for tag in ("<h2", "<table", "<tr", "<td", "<th ", "<svg", "<circle", "<line ", "<text ", "<pre"):
        assert after.count(tag) == before.count(tag), tag
    numbers = re.compile(r"\d+\.\d+|\d+")
    cells = re.compile(r"<t[dh][^>]*>(.*?)</t[dh]>", re.DOTALL)
    rows = [
        [numbers.findall(unescape(cell)) for cell in cells.findall(text) if "duckdb" not in cell]
        for text in (before, after)
    ]
    assert rows[0] == rows[1]


def test_calibrations_runs_and_sweeps_are_found(folder: Path, tmp_path: Path) -> None:
    entry, digest = FACTS["calibration"]
    found = CalibrationStore(tmp_path / "none", folder / "calibrations").get(entry)
    assert (found.title, found.calibration.hash) == ("Mine of old", digest)
    [run] = RunStore(folder / "runs").all()
    assert (run.title, len(run.generations), run.error) == ("An old search", 6, "")
    assert run.validations[0].objective.mean == 0.5
    sweep, state, cells = FACTS["sweep"]
    read = read_sweeps(folder / "sweeps").found[sweep]
    assert (read.state, read.done) == (state, cells)


def test_the_command_line_lists_the_studies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder), "list"]) == 0
    listed = json.loads(capsys.readouterr().out)["studies"]
    assert [[s["id"], s["name"], s["status"]] for s in listed] == FACTS["studies"]


def test_its_snapshot_restores_into_an_empty_folder(folder: Path, tmp_path: Path) -> None:
    other = open_studies(tmp_path / "other", None)
    [snapshot] = (folder / "snapshots").iterdir()
    other.restore(snapshot)
    assert other.votes.count(FACTS["closed"]) == FACTS["votes"]
    other.close()
