"""A front: its weightings, its points, what is on it, and whole searches for one on a tiny pipeline."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.calibration.artifact import Calibration
from calibri.errors import ArtifactError, SearchError
from calibri.search.config import Budget
from calibri.search.front import (
    front_points,
    hypervolume,
    on_front,
    place_of_equal,
    shares_of,
    weightings,
    weights_of,
)
from calibri.search.front_file import read_front
from calibri.search.journal import read_journal
from calibri.search.records import BaseRecord, GenerationRecord, PointRecord, pack
from calibri.search.run import run_search
from tests.small_search import Blueness, Redness

TWO = ({"name": "redness"}, {"name": "blueness"})


# weightings


@pytest.mark.parametrize(("rewards", "count"), [(2, 2), (2, 5), (3, 5), (3, 7), (4, 7), (6, 30)])
def test_weightings_are_shares_with_each_reward_alone_and_all_equal(rewards, count):
    found = weightings(rewards, count)
    assert len(found) >= count and found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert len(np.unique(found.round(9), axis=0)) == len(found)
    for row in [*np.eye(rewards), np.full(rewards, 1 / rewards)]:
        assert np.isclose(found, row).all(axis=1).sum() == 1


def test_three_rewards_and_seven_points_are_each_alone_each_pair_and_all():
    rows = {tuple(row) for row in weightings(3, 7).round(3).tolist()}
    third = (0.333, 0.333, 0.333)
    assert rows == {*map(tuple, np.eye(3).tolist()), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5), third}


def test_equal_shares_are_the_configs_own_weights(make_config):
    config = make_config(
        rewards=({"name": "redness", "weight": 2}, {"name": "blueness", "weight": -1}), front=3
    )
    shares = shares_of(config)
    weights = weights_of(config, shares)
    np.testing.assert_allclose(weights[place_of_equal(shares)], [2, -1])
    first = int(np.argmax(shares[:, 0]))
    np.testing.assert_allclose(weights[first], [2 * 1.6, -0.4])  # mostly the one, never against the other


def test_a_search_for_one_calibration_has_no_weightings(make_config):
    assert shares_of(make_config()).shape == (0, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "at least 2 rewards, got redness alone"),
        ({"rewards": ({"name": "redness"}, {"name": "b", "weight": 0})}, "a weight other than 0"),
        ({"rewards": TWO, "objective": "win-rate"}, "leave the objective"),
        ({"rewards": tuple({"name": str(i)} for i in range(7))}, "at most 6 rewards, got 7"),
    ],
)
def test_what_has_no_front_is_said(make_config, values, words):
    with pytest.raises(SearchError, match=words):
        make_config(front=5, **values)


# on the front


@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_front_is_what_no_other_point_beats(rows):
    gains = np.array(rows, dtype=float)
    beaten = [any((b >= a).all() and (b > a).any() for b in gains) for a in gains]
    np.testing.assert_array_equal(on_front(gains), ~np.array(beaten))


def test_one_reward_reduces_to_the_best():
    np.testing.assert_array_equal(on_front(np.array([[1.0], [3.0], [2.0]])), [False, True, False])


@given(st.lists(st.tuples(*[st.floats(-1, 2)] * 3), min_size=1, max_size=5))
@settings(deadline=None)
def test_the_hypervolume_is_that_of_the_boxes_together(rows):
    gains = np.array(rows)
    total = 0.0  # inclusion and exclusion over the boxes from 0 to each point
    for size in range(1, len(gains) + 1):
        for some in itertools.combinations(gains, size):
            total -= (-1) ** size * np.prod(np.clip(np.min(some, axis=0), 0, None))
    assert hypervolume(gains) == pytest.approx(total, abs=1e-9)


# points


def test_each_point_lies_towards_the_optimum_of_its_weighting(make_config, make_generation):
    config = make_config(rewards=TWO, front=3)
    aims = {"redness": np.array([1.3, 1.0, 1.0]), "blueness": np.array([0.8, 1.2, 1.0])}
    rng, made = np.random.default_rng(5), []
    for number in range(30):
        x = rng.normal(1, 0.3, (12, 3))
        gains = {name: -4 * ((x - aim) ** 2).sum(axis=1) for name, aim in aims.items()}
        made.append(
            make_generation(
                number,
                candidates=pack(x),
                scores=[0.0] * 12,
                objective=(gains["redness"] + gains["blueness"]).tolist(),
                rewards={name: gain.tolist() for name, gain in gains.items()},
            )
        )
    ones = dict.fromkeys(aims, 1.0)
    base = BaseRecord(pairs=2, means=ones, spread=ones, total_spread=1, base_scores=[], images=0, seconds=0)
    kept = np.array([1.05, 1.1, 1.0])
    points = front_points(config, base, made, np.ones(3), np.full(3, 0.3), kept)
    shares = shares_of(config)
    np.testing.assert_array_equal(points[place_of_equal(shares)], kept)
    for place in (0, 2):
        point, (a, b) = points[place], weights_of(config, shares)[place]
        optimum = (a * aims["redness"] + b * aims["blueness"]) / (a + b)
        np.testing.assert_allclose(point, 0.25 + 0.75 * optimum, atol=0.03)  # a quarter from the tail, 1
    gains = -np.stack([((points - aim) ** 2).sum(axis=1) for aim in aims.values()], axis=1)
    assert on_front(gains).all()


# whole searches


@pytest.fixture
def search(tmp_path, backbone, make_config):
    def run(folder="run", budget=None, **options):
        config = (
            None if options.pop("resume", False) else make_config(rewards=TWO, front=options.pop("front", 3))
        )
        lazy = options.pop("lazy", False)
        records = run_search(
            config,
            tmp_path / folder,
            backbone=backbone,
            rewards={"redness": Redness(), "blueness": Blueness()},
            budget=budget or Budget(generations=6),
            **options,
        )
        return records if lazy else list(records)

    return run


def points_of(records):
    return [record for record in records if isinstance(record, PointRecord)]


def test_a_front_is_searched_judged_and_kept(search, tmp_path):
    records = search()
    kinds = [record.kind for record in records]
    assert kinds[-4:] == ["point", "point", "point", "result"]
    assert read_journal(tmp_path / "run") == records
    result, points = records[-1], points_of(records)
    assert result.judgement_images == 4 + 3 * 4  # the base once, and each point
    front = read_front(tmp_path / "run")
    assert [p.number for p in front.points] == [1, 2, 3] and front.pairs == 4
    gains = np.array([[point.gains[name].mean for name in front.rewards] for point in points])
    assert [p.on_front for p in front.points] == on_front(gains).tolist()
    assert front.hypervolume == pytest.approx(hypervolume(gains / np.array(list(front.spread.values()))))
    for judged, point in zip(front.points, points, strict=True):
        found = Calibration.load(tmp_path / "run" / judged.calibration)
        assert list(found.members[0].scales) == point.vector
        assert found.found["shares"] == point.shares and found.found["gains"]["redness"]["n"] == 4
    equal = next(p for p in points if p.shares["redness"] == 0.5)
    assert equal.vector == result.vector and equal.objective == result.objective
    assert f"{len(front.best)} of 3 points are on the front" in result.text


def test_the_search_is_that_for_one_calibration(search, tmp_path):
    front, plain = search("front"), search("plain", front=0)
    told = [
        [r.model_dump(exclude={"seconds"}) for r in rs if isinstance(r, GenerationRecord)]
        for rs in (front, plain)
    ]
    assert told[0] == told[1]
    assert front[-1].vector == plain[-1].vector and front[-1].gains == plain[-1].gains


def test_a_resumed_search_finds_the_same_front(search, tmp_path):
    search("whole")
    search("parts", budget=Budget(generations=2))
    assert (tmp_path / "parts" / "front.json").exists()
    search("parts", resume=True, budget=Budget(generations=6))
    whole, parts = (json.loads((tmp_path / n / "front.json").read_text()) for n in ("whole", "parts"))
    assert whole == parts
    assert points_of(read_journal(tmp_path / "whole")) == points_of(read_journal(tmp_path / "parts"))[3:]


def test_a_judgement_that_broke_off_goes_on_with_the_next_point(search, tmp_path):
    whole = search("whole")
    records = search("broken", lazy=True)
    assert any(isinstance(record, PointRecord) for record in records)  # and no further
    records.close()
    again = search("broken", resume=True)
    assert [p.number for p in points_of(again)] == [2, 3]
    assert points_of(read_journal(tmp_path / "broken")) == points_of(whole)
    assert again[-1].judgement_images == whole[-1].judgement_images == 16
    whole, broken = (json.loads((tmp_path / n / "front.json").read_text()) for n in ("whole", "broken"))
    assert whole == broken


def test_a_judgement_that_is_skipped_keeps_the_points_that_it_has(search, tmp_path):
    looked = []

    def abandon():
        looked.append(1)
        return len(looked) > 3  # the base, the point that the run keeps, the first of the front

    records = search(abandon=abandon)
    assert [p.number for p in points_of(records)] == [1, 2] and records[-1].verdict != "not judged"
    assert len(read_front(tmp_path / "run").points) == 2


def test_a_search_that_goes_on_without_a_judgement_has_no_front_any_more(search, tmp_path):
    search()
    records = search(resume=True, budget=Budget(generations=7), abandon=lambda: True)
    assert records[-1].verdict == "not judged" and not (tmp_path / "run" / "front.json").exists()


def test_a_run_without_a_front_says_so(search, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ArtifactError, match=r"has no front\.json"):
        read_front(tmp_path / "none")
    (tmp_path / "none" / "front.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is not a front"):
        read_front(tmp_path / "none")
