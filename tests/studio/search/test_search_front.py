"""The front of a search on its page: what is drawn, what can be chosen, and what opens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import SearchError
from calibri.interval import Interval
from calibri.search.records import PointRecord, ResultRecord
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.search import front, page
from studio.search.form import cost_of, read_page, usual_values
from studio.search.jobs import Searches, default_title
from studio.search.runs import Run, RunStore
from studio.search.view import card, log_list, settings_table
from studio.ui.charts import Figure
from tests.studio.search.runfolders import Writer, config, labels

NAMES = ("tabletop-align", "tabletop-quality", "tabletop-keep")


def gain(mean: float) -> Interval:
    return Interval(mean=mean, low=mean - 0.1, high=mean + 0.1, n=8)


def points(*rows: tuple[float, ...]) -> list[PointRecord]:
    return [
        PointRecord(
            generation=2,
            number=number,
            shares={name: float(place == number - 1) for place, name in enumerate(NAMES[: len(row)])},
            vector=[1 + number / 10] * 4,
            objective=gain(sum(row)),
            gains={name: gain(value) for name, value in zip(NAMES, row, strict=False)},
            images=8,
        )
        for number, row in enumerate(rows, 1)
    ]


def ended(folder: Path, *rows: tuple[float, ...]) -> Run:
    """A run of a front that ended, with these gains of its points; the second is what the run keeps."""
    made = config(rewards=[{"name": name} for name in NAMES[: len(rows[0])]], front=3)
    writer = Writer(folder / "runs" / "ended", made, scales=4)
    writer.generations(0, 2)
    judged = points(*rows)
    writer.put(
        *judged,
        ResultRecord(
            time="2026-01-02T03:04:05+00:00",
            reason="the budget of 90 images is used",
            generation=2,
            images=90,
            seconds=9.0,
            verdict="better",
            objective=gain(1),
            gains=judged[1].gains,
            judges=[],
            vector=judged[1].vector,
            calibration=None,
            judgement_images=32,
            text="2 of 3 points are on the front. At equal weights: better than base.",
        ),
    )
    for point in judged:
        Calibration(
            granularity="layer", names=tuple(labels(4)), members=(Member(scales=tuple(point.vector)),)
        ).save(folder / "runs" / "ended" / "front" / f"{point.number}.json")
    return RunStore(folder / "runs").get("ended")


def traces(figure: Figure) -> dict[str, dict]:
    json.dumps(figure)
    return {trace.get("name", "line"): trace for trace in figure["data"]}


def test_points_on_the_front_and_beaten_ones_are_told_apart(tmp_path: Path) -> None:
    run = ended(tmp_path, (0.5, 0.1), (0.3, 0.3), (0.2, 0.05))
    figure = front.front_figure(run)
    drawn = traces(figure)
    assert drawn["on the front"]["customdata"] == [1, 2]
    assert drawn["beaten by another point"]["customdata"] == [3]
    assert drawn["on the front"]["x"] == [0.5, 0.3] and drawn["on the front"]["y"] == [0.1, 0.3]
    assert drawn["on the front"]["error_x"]["array"] == [0.1, 0.1]
    assert drawn["line"]["x"] == [0.3, 0.5] and drawn["base"]["x"] == [0]
    assert figure["words"].startswith("2 of 3 points are on the front: tabletop-align across")


def test_a_third_reward_is_a_colour_and_in_words(tmp_path: Path) -> None:
    run = ended(tmp_path, (0.5, 0.1, 0.0), (0.3, 0.3, 0.1), (0.2, 0.05, 0.4))
    drawn = traces(front.front_figure(run))
    trace = drawn["on the front"]
    assert trace["marker"]["color"] == [0.0, 0.1, 0.4] and "line" not in drawn
    assert trace["marker"]["colorbar"]["title"]["text"] == "tabletop-keep"
    assert all("tabletop-keep" in words for words in trace["hovertext"])


def test_less_is_better_where_the_weight_is_negative(tmp_path: Path) -> None:
    run = ended(tmp_path, (0.5, 0.1), (0.3, 0.3), (0.2, 0.05))
    terms = [{"name": NAMES[0]}, {"name": NAMES[1], "weight": -1.0}]
    run.config = config(rewards=terms, front=3)
    assert front.best_of(run) == [True, False, True]


def test_the_list_begins_with_what_the_run_keeps(tmp_path: Path) -> None:
    run = ended(tmp_path, (0.5, 0.1), (0.3, 0.3), (0.2, 0.05))
    place, figure, choice = front.show(run)
    assert place.visible and figure["data"] and choice.value == "ended/2"
    words = [label for label, _ in choice.choices]
    assert words[0] == "1 · tabletop-align 100 %" and words[2].endswith("beaten by another point")
    hidden, nothing, none = front.show(None)
    assert not hidden.visible and nothing is None and none.choices == []


def test_a_choice_counts_for_its_own_search_only() -> None:
    assert front.number_of("ended", "ended/3") == 3
    for choice in ("other/3", "ended/", "ended/x", "", None, 3):
        assert front.number_of("ended", choice) == 0


def test_a_point_is_a_calibration(tmp_path: Path) -> None:
    run = ended(tmp_path, (0.5, 0.1), (0.3, 0.3), (0.2, 0.05))
    found = run.calibration("Mine", point=3)
    assert found.members[0].scales == (1.3,) * 4 and found.title.startswith("Mine, ")
    with pytest.raises(SearchError, match="no point 4"):
        run.calibration(point=4)


@pytest.fixture
def searches(stocked: Core, tmp_path: Path) -> Iterator[Searches]:
    made = Searches(stocked.host, tmp_path / "runs", tmp_path / "assets")
    yield made
    made.close()


def test_a_search_for_a_front_from_the_form_to_its_points(
    stocked: Core, searches: Searches, tmp_path: Path, visitor: str
) -> None:
    sweeps = Sweeps(tmp_path / "sweeps", stocked.host, pace=searches.pace)
    form = usual_values("tiny") | {
        "rewards": ["tabletop-quality", "tabletop-align"],
        "front": 3,
        "steps": 1,
        "images": 90,
        "popsize": 4,
        "bucket": 2,
        "held_out_pairs": 4,
        "prompts": "\n".join(f"a red cube {i}" for i in range(20)),
    }
    order = read_page(stocked, sweeps, visitor, form)
    assert (
        order.config.front == 3
        and default_title(order.config) == "Front, layer: tabletop-quality + tabletop-align"
    )
    assert cost_of(searches.pace, order, stocked.host.wait_ready()).judging == 4 * 4
    name = searches.start(*order)
    searches.wait(name, 240)
    run = searches.store.get(name)
    assert len(run.points) == 3 and front.beat_of(run) != "none"
    seen = searches.see(name)
    assert seen is not None
    read = re.sub(r"<[^>]*>", "", card(seen.status, run))  # words of the glossary are marked
    assert "points are on the front" in read and "front.json" not in read
    assert "Point 2 of the front" in log_list(run) and "a front of 3 points" in settings_table(run)
    for point in run.points:
        assert list(searches.calibration(name, point=point.number).members[0].scales) == point.vector
    words = page.beats(searches, searches.survey(), name, [])
    assert front.beat_of(run) in words
    sweeps.close()
