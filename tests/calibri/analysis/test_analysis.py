"""Sweeps and tables: what is measured is a paired difference, and noise is not taken for a gain."""

import numpy as np
import pytest

from calibri.analysis.diagnose import Cell, SweepFile, best_start, read_sweep, sweep
from calibri.analysis.evaluate import Arm, evaluate, pairs_of
from calibri.analysis.settings import SweepSettings
from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import SearchError
from calibri.interval import Interval
from calibri.rewards.base import RewardTerm

NAMES = ("double.0", "single.0", "single.1")
LAYOUT = Layout(granularity="block", names=NAMES, groups=((0, 1), (2,), (3,)))
TERMS = (RewardTerm(name="size"),)


class SumScorer:
    """Scores 10 × the mean scale of a request plus a noise that prompt and seed alone decide."""

    known = ("size",)
    judges = frozenset()

    def __call__(self, requests, names, *, stop=None, progress=None):
        rows = []
        for request in requests:
            members = request.members or (Member(scales=(1.0, 1.0, 1.0)),)
            total = sum(member.weight * np.mean(member.scales) for member in members)
            rows.append([10 * total + request.seed % 89 / 89])
        return np.array(rows)


@pytest.fixture
def pairs():
    return pairs_of([f"prompt {i}" for i in range(6)], seed=0)


def test_each_cell_is_the_difference_that_one_scale_makes(pairs):
    cells = list(sweep(LAYOUT, pairs, SumScorer(), TERMS, steps=2, values=(0.0, 1.5)))
    assert [(cell.name, cell.value) for cell in cells] == [(n, v) for n in NAMES for v in (0.0, 1.5)]
    for cell in cells:
        assert cell.rewards["size"].mean == pytest.approx(10 * (cell.value - 1) / 3)
        assert cell.rewards["size"].high - cell.rewards["size"].low < 1e-9  # the shared noise cancels


def test_a_sweep_goes_on_where_it_stopped(pairs):
    whole = list(sweep(LAYOUT, pairs, SumScorer(), TERMS, steps=2, values=(0.5, 1.5)))
    rest = list(sweep(LAYOUT, pairs, SumScorer(), TERMS, steps=2, values=(0.5, 1.5), done=whole[:3]))
    assert rest == whole[3:]


def test_under_guidance_a_scale_acts_on_both_predictions(pairs):
    seen = []

    class Watching(SumScorer):
        def __call__(self, requests, names, **rest):
            seen.extend(requests)
            return super().__call__(requests, names, **rest)

    list(sweep(LAYOUT, pairs, Watching(), TERMS, steps=2, values=(0.5,), names=["single.0"], guidance=2.0))
    assert [r.guidance for r in seen[:6]] == [2.0] * 6
    first, second = seen[-1].members
    assert first.scales == second.scales == (1.0, 0.5, 1.0)
    assert (first.weight, second.weight, second.condition) == (2.0, -1.0, "negative")


def test_an_unknown_scale_is_named(pairs):
    with pytest.raises(SearchError, match=r"double\.7"):
        list(sweep(LAYOUT, pairs, SumScorer(), TERMS, steps=2, names=["double.7"]))


def cell(name, value, mean, half):
    interval = Interval(mean=mean, low=mean - half, high=mean + half, n=8)
    return Cell(name=name, value=value, objective=interval, rewards={})


def test_the_start_takes_only_what_is_better_with_its_whole_interval():
    cells = [
        cell("double.0", 0.5, 0.3, 0.1),
        cell("double.0", 1.5, 0.5, 0.1),
        cell("single.0", 1.25, 0.9, 1.0),
        cell("single.1", 0.0, 2.0, 0.1),
    ]
    start = best_start(cells, LAYOUT, "tabletop", bounds=(0.5, 1.5))
    assert start.members == (Member(scales=(1.5, 1.0, 1.0)),)


def test_settings_of_a_sweep_are_the_same_typed_as_text_or_given_as_lists():
    typed = SweepSettings.parse(
        rewards="size:2,align", prompts="a red  cube\n\na ball\na red cube\n", values="1.5; 0,0.5", guidance=1
    )
    terms = [RewardTerm(name="size", weight=2), "align"]
    given = SweepSettings.parse(rewards=terms, prompts=["a red cube", "a ball"], values=(0, 0.5, 1.5))
    assert typed == given == SweepSettings.model_validate_json(given.model_dump_json())


def test_a_sweep_file_is_read_up_to_its_last_whole_line(tmp_path):
    path = tmp_path / "sweep.jsonl"
    cells = [cell("double.0", 0.5, 0.3, 0.1), cell("single.0", 0.5, 0.3, 0.1)]
    text = '{"sweep": {}}\n' + "".join(c.model_dump_json() + "\n" for c in cells)
    path.write_text(text + '{"name": "sing')
    assert read_sweep(path) == cells
    path.write_text('{"sweep": {}}\nnonsense\n')
    with pytest.raises(SearchError, match="line 2"):
        read_sweep(path)


def test_a_sweep_file_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "sweep.jsonl"
    first, second = cell("double.0", 0.5, 0.3, 0.1), cell("single.0", 0.5, 0.3, 0.1)
    with SweepFile(path, {"steps": 2}) as file:
        file.append(first)
    with path.open("a") as torn:
        torn.write('{"name": "sing')
    with SweepFile(path, {"steps": 2}) as file:
        assert file.cells == [first]
        file.append(second)
    assert read_sweep(path) == [first, second]
    with pytest.raises(SearchError, match="other settings"):
        SweepFile(path, {"steps": 3})


def test_a_file_torn_in_its_header_starts_anew_and_another_file_is_refused(tmp_path):
    path = tmp_path / "sweep.jsonl"
    path.write_text('{"sweep": {"st')
    SweepFile(path, {"steps": 2}).close()
    assert path.read_text() == '{"sweep": {"steps": 2}}\n'
    path.write_text("my notes\n")
    with pytest.raises(SearchError, match="no sweep"):
        SweepFile(path, {"steps": 2})


def test_progress_counts_the_pictures_of_the_whole_sweep(pairs):
    class Telling(SumScorer):
        def __call__(self, requests, names, *, stop=None, progress=None):
            raw = super().__call__(requests, names)
            for images in range(2, len(requests) + 1, 2):
                progress(images, len(requests))
            return raw

    told = []
    whole = list(
        sweep(LAYOUT, pairs, Telling(), TERMS, steps=2, values=(0.5, 1.5), progress=lambda *t: told.append(t))
    )
    assert told == [(images, 42) for images in range(2, 43, 2)]
    told.clear()
    list(
        sweep(
            LAYOUT,
            pairs,
            Telling(),
            TERMS,
            steps=2,
            values=(0.5, 1.5),
            done=whole[:3],
            progress=lambda *t: told.append(t),
        )
    )
    assert told[-1] == (24, 24) and len(told) == 12


def calibrated(scale):
    return Calibration(
        title="t",
        backbone="tabletop",
        granularity="block",
        names=NAMES,
        members=(Member(scales=(scale,) * 3),),
        found={},
    )


@pytest.fixture
def arms(monkeypatch):
    # The formula needs members only; how a calibration becomes a request is the renderer's own business.
    return [Arm("base", 4), Arm("calibrated", 4, calibrated(1.2))]


def test_arms_are_compared_in_pairs(arms, pairs):
    base, better = evaluate(arms, pairs, SumScorer(), ["size"])
    assert base.differences["size"].mean == 0
    assert better.differences["size"].mean == pytest.approx(2.0)
    assert better.differences["size"].verdict == "better" and better.reference == "base"


def test_arms_need_names_of_their_own(arms, pairs):
    with pytest.raises(SearchError, match="different names"):
        list(evaluate([arms[0], arms[0]], pairs, SumScorer(), ["size"]))


def test_guidance_doubles_the_evaluations():
    assert Arm("base", 4).nfe == 4 and Arm("base", 4, guidance=2.0).nfe == 8


def test_pairs_have_seeds_of_their_own_and_follow_from_the_seed():
    pairs = pairs_of(["a", "b"], seed=3, per_prompt=4)
    assert len({pair.seed for pair in pairs}) == 8 and [p.prompt for p in pairs] == ["a"] * 4 + ["b"] * 4
    assert pairs == pairs_of(["a", "b"], seed=3, per_prompt=4) != pairs_of(["a", "b"], seed=4, per_prompt=4)
    with pytest.raises(SearchError, match="no prompts"):
        pairs_of([])
