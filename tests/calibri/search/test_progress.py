"""Where a search stands, folded from its records."""

import json

import numpy as np
import pytest

from calibri.errors import JournalError, SearchError
from calibri.interval import Interval
from calibri.search.config import Budget
from calibri.search.progress import SearchProgress
from calibri.search.records import (
    BaseRecord,
    EventRecord,
    ResultRecord,
    SessionRecord,
    ValidationRecord,
    read_generation,
)
from calibri.search.run import run_search

GAIN = Interval(mean=0.2, low=0.1, high=0.3, n=4)


def session(**values):
    return SessionRecord(time="2026-01-02T03:04:05", pid=1, host="here", generation=0, **values)


def base(seconds=0.5):
    return BaseRecord(
        pairs=4,
        means={"r": 1.0},
        spread={"r": 1.0},
        total_spread=1.0,
        base_scores=[],
        images=4,
        seconds=seconds,
    )


def result(verdict="better", **values):
    made = {"reason": "enough", "generation": 2, "images": 30, "seconds": 9.0, "text": "Better."} | values
    return ResultRecord(
        time="", verdict=verdict, objective=GAIN, gains={}, judges=[], vector=[1.0], calibration=None,
        judgement_images=8, **made,
    )  # fmt: skip


@pytest.fixture
def progress(make_config):
    return SearchProgress(make_config())


def test_a_search_goes_from_nothing_to_its_verdict(progress, make_generation):
    assert (progress.images, progress.budget, progress.last, progress.verdict) == (0, None, None, "")
    assert progress.state(written=True) == "running" and progress.state(written=False) == "interrupted"
    for record in (session(images_limit=50), base(), make_generation(0, seconds=1.0)):
        progress.take(record)
    assert (progress.images, progress.seconds, progress.budget) == (10, 1.0, Budget(images=50))
    gain = {"rewards": {}, "objectives": [0.2] * 4, "base_scores": [], "spent": 8}
    progress.take(ValidationRecord(generation=1, images=18, seconds=2.0, objective=GAIN, **gain))
    assert (progress.images, len(progress.validations), progress.last.generation) == (18, 1, 0)
    progress.take(result())
    assert progress.over and progress.verdict == "better" and progress.state(written=False) == "done"
    assert progress.images == 18 and progress.seconds == 9.0  # the judgement counts no images
    progress.take(session(images_limit=80))
    assert not progress.over and progress.verdict == "" and progress.budget == Budget(images=80)
    assert [when[:4] for when, _ in progress.log if when] == ["2026", "2026"]
    assert "began on here" in progress.log[0][1] and "went on" in progress.log[-1][1]


def test_what_cannot_be_read_is_a_failure_whoever_writes(progress):
    progress.error = "line 3 was altered"
    assert progress.state(written=True) == progress.state(written=False) == "failed"


def test_time_left_is_that_of_the_nearest_limit_at_the_speed_of_this_session(progress, make_generation):
    progress.take(session(images_limit=100, generations_limit=4))
    assert progress.speed is None and progress.seconds_left() is None
    for number in (0, 1):
        progress.take(make_generation(number, seconds=10.0 * number + 10))
    assert progress.speed == pytest.approx(1.0)
    assert progress.seconds_left() == pytest.approx(20.0)  # two generations; its images would take 80 s
    assert progress.seconds_left(Budget(images=100)) == pytest.approx(80.0)
    assert progress.seconds_left(Budget(images=100), extra=30) == pytest.approx(50.0)
    assert progress.seconds_left(Budget(images=100), speed=4.0) == pytest.approx(20.0)
    assert progress.seconds_left(Budget(minutes=0.5)) == pytest.approx(10.0)
    assert progress.seconds_left(Budget(images=5)) == 0.0
    progress.take(session(images_limit=100))  # another machine, perhaps
    assert progress.speed is None and progress.seconds_left() is None


def test_the_same_fold_reads_a_journal_line_and_a_record(make_config, make_generation):
    whole, light = SearchProgress(make_config(tail=0.5)), SearchProgress(make_config(tail=0.5))
    with pytest.raises(SearchError, match="no generation"):
        whole.point()
    for number in range(6):
        record = make_generation(number, seconds=number + 1.0, mean=[1.0 + number, 2.0, 3.0])
        whole.take(record)
        light.take(read_generation(record.model_dump_json().encode()))
        assert np.array_equal(whole.point(), light.point())
    assert (whole.images, whole.seconds, whole.speed) == (light.images, light.seconds, light.speed)
    with pytest.raises(JournalError, match="expected a generation, got event"):
        read_generation(json.dumps(EventRecord(time="", text="x").model_dump()).encode())


def test_the_loop_its_journal_and_a_reader_agree(tmp_path, backbone, rewards, make_config):
    told = SearchProgress(make_config())
    for record in run_search(
        make_config(), tmp_path / "run", backbone=backbone, rewards=rewards, budget=Budget(generations=3)
    ):
        told.take(record)
        assert told.state(written=True) == "running"
    assert (len(told.generations), told.state(written=False)) == (3, "done")
    assert told.result.images == told.images and told.verdict == told.result.verdict
    assert told.result.vector == told.point().tolist()
