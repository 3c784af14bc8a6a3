"""The example that fills Results before anybody voted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from calibri.assets import ASSETS
from calibri.errors import StudyError
from studio.shell.prepare_examples import study_prompts
from studio.studies.example import FILE, ID, SAID, open_example, simulate, write_example
from studio.studies.pages import results
from studio.studies.results.analysis import Filter
from tests.studio.studies.conftest import World


@pytest.fixture
def shown(world: World) -> results.Handlers:
    world.studies.example = open_example(ASSETS)
    rights = SimpleNamespace(study_organisers_only=lambda r: None, may_organise=lambda r: True)
    return results.Handlers(SimpleNamespace(rights=rights), world.studies)  # type: ignore[arg-type]


NOBODY = SimpleNamespace(query_params={})


def test_the_file_is_what_the_simulation_gives(tmp_path: Path) -> None:
    made = write_example(tmp_path, simulate(study_prompts()))
    assert made.read_bytes() == (ASSETS / FILE).read_bytes()


def test_its_results_are_those_it_was_simulated_with_and_a_rater_is_flagged() -> None:
    found = open_example(ASSETS)
    assert found is not None
    from studio.studies.results.analysis import analyse

    analysis = analyse(found.study, found.arms, found.rows)
    liked = {table.arm + " > " + table.other: table.headline.value for table in analysis.tables["preference"]}
    assert liked["layer calibration > base"] > 0.6 and liked["guided ensemble > base"] > 0.65
    assert [r.rater for r in analysis.flagged] == ["rater 14"] and len(analysis.raters) == 14


def test_a_first_visit_sees_it_marked_and_an_own_study_comes_before_it(
    shown: results.Handlers, world: World
) -> None:
    first = shown.on_load(NOBODY)
    assert first[0].value == ID and "simulated" in first[0].choices[0][0]
    assert SAID in first[3]
    own = world.studies.set_status(world.study(prompts=2).id, "closed")
    again = shown.on_load(NOBODY)
    assert again[0].value == own.id and [choice for _, choice in again[0].choices] == [own.id, ID]
    assert SAID not in again[3]


def test_it_can_be_put_away_and_brought_back_and_writes_no_vote(
    shown: results.Handlers, world: World
) -> None:
    assert shown.on_example(ID).visible and shown.on_example(None).visible is False
    left = shown.on_put_away(ID, NOBODY)
    assert left[0].choices == [] and "will appear here" in left[3]
    assert shown.on_example(None).value == results.BRING_BACK
    assert shown.on_put_away(None, NOBODY)[0].value == ID
    assert world.studies.store.all() == [] and world.studies.db.read("SELECT count(*) FROM votes", []) == [
        (0,)
    ]


@pytest.mark.parametrize("format", ["html", "md", "csv", "jsonl"])
def test_its_files_say_that_it_is_simulated(world: World, shown: results.Handlers, format: str) -> None:
    made = Path(results.make_file(world.studies, ID, format, Filter()))
    text = made.read_text(encoding="utf-8")
    assert "simulated" in text or format in ("csv", "jsonl")
    assert str(world.folder) not in text and len(text) > 500


@pytest.mark.parametrize("format", ["zip", "parquet"])
def test_files_that_it_has_not_are_refused(world: World, shown: results.Handlers, format: str) -> None:
    with pytest.raises(StudyError, match="example has no"):
        results.make_file(world.studies, ID, format, Filter())


def test_a_damaged_example_is_none(tmp_path: Path) -> None:
    assert open_example(tmp_path) is None
    (tmp_path / "studies").mkdir()
    (tmp_path / FILE).write_text('{"preset": "side-by-side"}', encoding="utf-8")
    assert open_example(tmp_path) is None
