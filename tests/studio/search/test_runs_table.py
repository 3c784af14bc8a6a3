"""All searches as a table: what it says, what its buttons do, and what is drawn over several."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from calibri.errors import SearchError
from calibri.interval import Interval
from calibri.search.importance import Importance
from calibri.search.records import ResultRecord
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.rendering.arms import DESK
from studio.search import across
from studio.search.clone import clone_fields
from studio.search.fields import Fields
from studio.search.form import read_page, usual_values
from studio.search.jobs import Searches
from studio.search.runs import RunStore
from studio.search.runs_table import TableActs, draw_table, table_key
from tests.studio.search.runfolders import Writer, config

PROMPTS = "\n".join(f"a red cube {i}" for i in range(40))


def judged(writer: Writer, mean: float) -> None:
    gain = Interval(mean=mean, low=mean - 0.1, high=mean + 0.1, n=64)
    writer.put(
        ResultRecord(
            time="2026-01-02T05:00:00+00:00",
            reason="the budget of 500 images is used up",
            generation=3,
            images=500,
            seconds=60.0,
            verdict="better",
            objective=gain,
            gains={"align": gain},
            judges=[],
            vector=[1.0] * writer.scales,
            calibration=None,
            judgement_images=64,
            text="Better than base.",
        )
    )


@pytest.fixture
def made(tmp_path: Path) -> Searches:
    """Two own searches and an example, without a model."""
    for place, name, mean in (("runs", "first", 0.4), ("runs", "second", 0.9), ("assets/runs", "shown", 0.2)):
        writer = Writer(tmp_path / place / name, scales=8)
        writer.generations(0, 4)
        judged(writer, mean)
    from studio.machine.host import ModelHost

    searches = Searches(ModelHost(), tmp_path / "runs", tmp_path / "assets")
    yield searches
    searches.close()


def acts(searches: Searches) -> TableActs:
    rights = SimpleNamespace(organisers_only=lambda request: None)
    return TableActs(SimpleNamespace(rights=rights), searches)  # type: ignore[arg-type]


def test_the_table_says_what_there_is_and_marks_the_example(made: Searches) -> None:
    made.records.tag("first", "paper")
    made.records.rename("second", "Mine <b>")
    html = draw_table(made.survey(), "first", ["second"])
    assert html.count("<tr data-run=") == 3 and html.count(">example</span>") == 1
    assert "Mine &lt;b&gt;" in html and ">paper</span>" in html
    assert "+0.90 [+0.80, +1.00]" in html and "better" in html and "finished" in html
    assert html.index("data-run='shown'") > max(
        html.index("data-run='first'"), html.index("data-run='second'")
    )
    assert "data-run='first' class='chosen'" in html and html.count(" checked") == 1
    assert "Start search" in draw_table({}, None, [])
    assert [s.id for s in made.all()] == [s for s in made.survey() if s != "shown"]


def test_a_change_of_title_tags_or_choice_draws_the_table_anew(made: Searches) -> None:
    keys = [table_key(made.survey(), "first", [])]
    made.records.rename("first", "Other")
    keys.append(table_key(made.survey(), "first", []))
    made.records.tag("first", "a")
    keys.append(table_key(made.survey(), "first", []))
    keys.append(table_key(made.survey(), "first", ["second"]))
    assert len(set(keys)) == 4 and keys[-1] == table_key(made.survey(), "first", ["second"])


def press(**data: Any) -> gr.EventData:
    return gr.EventData(None, data)


def test_a_press_chooses_and_a_box_compares(made: Searches) -> None:
    on = acts(made)
    assert on.pick("first", [], press(run="second", beside=None)) == ("second", [])
    assert on.pick("first", ["second"], press(run="second", beside=None)) == ("second", [])
    assert on.pick("first", [], press(run="second", beside=True)) == ("first", ["second"])
    assert on.pick("first", ["second", "shown"], press(run="second", beside=False)) == ("first", ["shown"])
    assert on.pick("first", [], press(run="first", beside=True)) == ("first", [])
    for run in ("gone", None, 3, ["first"]):
        with pytest.raises((SearchError, TypeError)):
            on.pick("first", [], press(run=run))


def test_parallel_coordinates_have_a_line_for_each_search_of_the_same_scales(
    made: Searches, tmp_path: Path
) -> None:
    Writer(tmp_path / "runs" / "block", config(granularity="block"), scales=4).generations(0, 2)
    made.store.refresh(now=True)
    figure = acts(made).show("first", [])[3]
    [trace] = figure["data"]
    assert trace["type"] == "parcoords" and len(trace["dimensions"]) == 9
    assert sorted(trace["line"]["color"]) == [0.2, 0.4, 0.9]
    assert "3 searches" in figure["words"] and "+0.90" in figure["words"]
    assert acts(made).show("block", [])[3] is None
    many = across.parallel_figure(made.store.several(["first", "second"]))
    assert len(many["data"][0]["dimensions"][0]["values"]) == 2


def test_importance_is_drawn_with_the_most_important_on_top_and_says_what_it_explains(made: Searches) -> None:
    found = Importance(("double.0.attn", "double.0.mlp"), (0.1, 0.6), (0.0, 0.4), (0.2, 0.7), 0.31, 500)
    figure = across.importance_figure(found, "2 searches")
    assert figure["data"][0]["y"] == ["double.0.attn", "double.0.mlp"]  # the last one is drawn on top
    assert "31 %" in figure["words"] and "double.0.mlp 0.60" in figure["words"]
    drawn = acts(made).weigh("first", ["second"], None)
    assert len(drawn["data"][0]["x"]) == 8 and "96 candidates" in drawn["layout"]["title"]["text"]
    with pytest.raises(SearchError, match="Choose a search first"):
        acts(made).weigh(None, [], None)


def test_delete_and_undo_by_the_page(made: Searches) -> None:
    on = acts(made)
    on.delete("shown", None)
    on.delete("first", None)
    assert list(made.survey()) == ["second"] and on.show("second", [])[2].visible is True
    assert on.undo(None) == "first" and on.undo(None) == "shown"
    assert on.show("second", [])[1].interactive is False and len(made.survey()) == 3
    on.delete("shown", None)
    on.bring_examples_back(None)
    assert len(made.survey()) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"granularity": "gate", "preset": "race", "seed": 9, "steps": 3, "size": "64x64"},
        {"members": "guided", "strength": 2.0, "objective": "win-rate", "bounds": "0.2,1.9"},
        {"members": "pair", "sigma0": 0.2, "popsize": 6, "bucket": 5, "convergence": "none"},
        {"preset": "paper", "prompts": PROMPTS, "held_out_pairs": 7},
        {"prompts": PROMPTS, "rewards": ["tabletop-align:2", "tabletop-quality"], "front": 3},
    ],
)
def test_a_clone_is_the_same_search(core: Core, sweeps: Sweeps, tmp_path: Path, changes: dict) -> None:
    visitor = core.visitors.new_id()
    usual = usual_values("tiny") | {"rewards": ["tabletop-quality"], "images": 377, "minutes": 3, **changes}
    order = read_page(core, sweeps, visitor, usual)
    Writer(tmp_path / "own" / "one", order.config)
    run = RunStore(tmp_path / "own").get("one")
    object.__setattr__(run, "note", run.note.model_copy(update={"budget": order.budget}))
    run.sessions.clear()
    fields = clone_fields(core, visitor, run)
    assert list(fields) == Fields.names()
    again = read_page(core, sweeps, visitor, fields)
    assert again.config == order.config and again.budget == order.budget


def test_a_clone_of_a_search_that_began_at_scales_starts_from_the_desk(
    core: Core, sweeps: Sweeps, tmp_path: Path
) -> None:
    visitor = core.visitors.new_id()
    usual = usual_values("tiny") | {"rewards": ["tabletop-quality"]}
    plain = read_page(core, sweeps, visitor, usual).config
    names = core.host.wait_ready().layout("layer").names
    start = (tuple(0.8 + 0.01 * i for i in range(len(names))),)
    from tests.studio.search import runfolders

    made = plain.model_copy(update={"start": start, "start_from": "a file"})
    writer = Writer(tmp_path / "own" / "one", made, scales=len(names))
    store = RunStore(tmp_path / "own")
    run = store.get("one")
    run.sessions[0] = run.sessions[0].model_copy(update={"labels": [f"1: {name}" for name in names]})
    fields = clone_fields(core, visitor, run)
    assert fields["start"] == DESK and writer.scales == len(names) and runfolders
    again = read_page(core, sweeps, visitor, fields).config
    assert again.start is not None and again.start[0] == pytest.approx(start[0])
