"""Judges on the validation pairs: when one falls while the reward rises, it is told and pictures are kept."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from calibri.commands.live import LinesView
from calibri.interval import paired_interval
from calibri.rewards.base import RewardInfo
from calibri.rewards.scoring import LocalScorer, Pair
from calibri.sampling.png import read_settings
from calibri.sampling.renderer import Renderer
from calibri.search.config import Budget, SearchConfig
from calibri.search.guard import MOST_SPOTS, find_blind_spots, find_falls, judge_spreads
from calibri.search.journal import CONFIG, JOURNAL, _line, read_journal
from calibri.search.progress import SearchProgress
from calibri.search.records import ResultRecord, ValidationRecord
from calibri.search.run import run_search
from calibri.search.spot_pictures import FOLDER, spot_files
from tests.small_search import Redness, make_small

PAIRS = 40
NOISE = np.random.default_rng(5).normal(0, 0.1, PAIRS)


def validation(after, gain, **judges):
    """The objective gains `gain`, the judges what is said, each with noise over the pairs."""
    judged = {name: (value + NOISE).tolist() for name, value in judges.items()}
    objectives = gain + NOISE[::-1]
    return ValidationRecord(
        generation=after,
        images=10 * after,
        seconds=1.0,
        objective=paired_interval(objectives),
        rewards={name: paired_interval(values) for name, values in judged.items()},
        objectives=objectives.tolist(),
        judged=judged,
        base_scores=[[0.0, 1.0 + 3 * (i % 2)] for i in range(PAIRS)],
        spent=PAIRS,
    )


def test_a_judge_that_falls_below_the_base_while_the_reward_rises_is_named():
    [fall] = find_falls([validation(3, 0.5, judge=-0.4, other=0.1)])
    assert (fall.name, fall.generation, fall.since) == ("judge", 3, 0)
    assert fall.judge.mean == pytest.approx(-0.4 + NOISE.mean()) and fall.rise == pytest.approx(
        0.5 + NOISE.mean()
    )
    assert "judge falls after generation 3" in fall.text and "against the base" in fall.text


def test_a_judge_that_rose_first_is_held_against_its_best():
    rises = [validation(1, 0.2, judge=0.1), validation(4, 0.4, judge=0.6), validation(9, 0.6, judge=0.3)]
    assert find_falls(rises[:1]) == find_falls(rises[:2]) == []
    [fall] = find_falls(rises)
    assert (fall.generation, fall.since, fall.judge.mean) == (9, 4, pytest.approx(-0.3))
    assert "its best, after generation 4" in fall.text


@pytest.mark.parametrize(
    "made",
    [
        [],
        [validation(3, 0.5)],  # no judge
        [validation(3, -0.5, judge=-0.4)],  # all falls: the search is bad, and hacks nothing
        [validation(3, 0.5, judge=-0.4), validation(6, 0.4, judge=0.0)],  # it came back
        [validation(3, 0.5, judge=-0.01 - NOISE.mean())],  # within its interval
    ],
)
def test_what_is_no_fall_is_not_told(made):
    assert find_falls(made) == []


def test_judges_compare_by_their_spread_on_the_base():
    assert judge_spreads([validation(1, 0.1, judge=0.2)]) == {"judge": pytest.approx(1.5)}
    assert judge_spreads([]) == judge_spreads([validation(1, 0.1)]) == {}


def test_blind_spots_are_where_the_reward_rose_most_while_a_judge_fell():
    pairs = [Pair(prompt=f"p{i}", seed=i) for i in range(30)]
    gains = np.linspace(-1, 2, 30)
    judged = np.stack(
        [np.where(np.arange(30) % 2, -1.0, 1.0), np.where(np.arange(30) == 27, -8.0, 5.0)], axis=1
    )
    spots = find_blind_spots(pairs, gains, judged, np.array([1.0, 4.0]), ["one", "two"])
    assert [spot.prompt for spot in spots] == [f"p{i}" for i in range(29, 10, -2)][:MOST_SPOTS]
    assert {spot.prompt: (spot.judge, spot.fall) for spot in spots}["p27"] == ("two", -8.0)
    assert all(spot.gain > 0 and spot.fall < 0 for spot in spots)
    assert find_blind_spots(pairs, gains, judged[:, :0], np.empty(0), []) == []
    many = find_blind_spots(pairs * 2, np.ones(60), -np.ones((60, 1)), np.ones(1), ["one"])
    assert len(many) == MOST_SPOTS


class Paleness(Redness):
    """Falls by as much as redness rises."""

    info = RewardInfo(name="paleness", role="judge", version="1", description="less red", range_hint=(0, 1))

    def score(self, images, prompts):
        return 1 - super().score(images, prompts)


@pytest.fixture
def searched(tmp_path, backbone):
    """Runs a search on redness that paleness judges."""

    def run(folder="run", budget=120, scorer=None, **values):
        usual = {"validation_share": 0.5, "convergence": "none", "bounds": (0.2, 3.0), "sigma0": 0.8}
        config = make_small(**{"judges": ("paleness",), **usual, **values})
        rewards = {"redness": Redness(), "paleness": Paleness()}
        found = run_search(
            config,
            tmp_path / folder,
            backbone=backbone,
            rewards=rewards,
            budget=Budget(images=budget),
            scorer=scorer,
        )
        return list(found)

    return run


def kinds(records, kind):
    return [record for record in records if isinstance(record, kind)]


def test_a_search_scores_its_judges_on_the_validation_pairs_without_more_pictures(searched):
    records = searched()
    made = kinds(records, ValidationRecord)
    assert [v.spent for v in made] == [8] + [4] * (len(made) - 1) and len(made) >= 2
    for record in made:
        redness = record.rewards["redness"].mean
        assert record.rewards["paleness"].mean == pytest.approx(-redness, abs=1e-9)
        assert np.mean(record.judged["paleness"]) == pytest.approx(-redness, abs=1e-9)
    assert np.array(made[0].base_scores).shape == (4, 2)


def test_a_search_that_hacks_its_reward_says_so_and_can_stop(searched, formula_scorer, tmp_path, capsys):
    def run(folder, **values):
        scorer = formula_scorer({"redness": 1.0, "paleness": -1.0}, n_scales=7)
        return searched(folder, 300, scorer, validation_pairs=16, **values)

    records = run("run")
    progress = SearchProgress(make_small())
    view = LinesView(make_small(), tmp_path)
    told = []
    for record in records:
        progress.take(record)
        view.show(record)
        told += [fall.text for fall in progress.falls] if isinstance(record, ValidationRecord) else []
    assert told, "expected a fall of the judge: it is the reward turned around"
    assert told[0] in capsys.readouterr().out and told[0] in [what for _, what in progress.log]
    stopped = run("stopped", stop_on_fall=True)
    assert stopped[-1].reason == f"a judge fell: {told[0]}" and stopped[-1].images < records[-1].images
    same = [(v.generation, v.judged) for v in kinds(records, ValidationRecord)]
    assert [(v.generation, v.judged) for v in kinds(stopped, ValidationRecord)] == same[
        : len(same) - len(told) + 1
    ]


def test_blind_spots_are_kept_with_the_run_and_their_pictures_with_their_settings(searched, tmp_path):
    result = searched(seed=2, held_out_pairs=12)[-1]
    assert isinstance(result, ResultRecord) and result.blind_spots
    assert read_journal(tmp_path / "run")[-1] == result
    files = spot_files(tmp_path / "run", len(result.blind_spots))
    assert len(list((tmp_path / "run" / FOLDER).iterdir())) == 2 * len(files)
    for spot, (base, found) in zip(result.blind_spots, files, strict=True):
        scores = [Redness().score([Image.open(file)], [spot.prompt])[0] for file in (base, found)]
        assert scores[1] > scores[0], "expected a redder picture: the reward rose"
        settings = read_settings(found)
        assert (settings["prompt"], settings["seed"], settings["steps"]) == (spot.prompt, spot.seed, 2)
        assert settings["calibration"]["members"][0]["scales"] == result.vector
        assert read_settings(base)["calibration"] is None


def test_spots_of_pictures_that_were_rendered_elsewhere_are_told_without_them(tmp_path, backbone):
    class Elsewhere:
        """The scorer of a worker: no renderer to ask."""

        def __init__(self, scorer):
            self.scorer = scorer

        def __getattr__(self, name):
            if name == "renderer":
                raise AttributeError(name)
            return getattr(self.scorer, name)

        def __call__(self, *args, **more):
            return self.scorer(*args, **more)

    rewards = {"redness": Redness(), "paleness": Paleness()}
    scorer = Elsewhere(LocalScorer(Renderer(backbone, batch_size=4), rewards, 4))
    config = make_small(judges=("paleness",), seed=2, held_out_pairs=12, sigma0=0.8, bounds=(0.2, 3.0))
    found = run_search(
        config, tmp_path / "run", backbone=backbone, rewards={}, budget=Budget(images=60), scorer=scorer
    )
    assert list(found)[-1].blind_spots and not (tmp_path / "run" / FOLDER).exists()


def test_a_search_without_judges_keeps_no_spots(tmp_path, backbone):
    config = make_small(validation_share=0.5)
    found = run_search(
        config, tmp_path / "run", backbone=backbone, rewards={"redness": Redness()}, budget=Budget(images=60)
    )
    records = list(found)
    assert records[-1].blind_spots == [] and not (tmp_path / "run" / FOLDER).exists()
    assert all(v.judged == {} for v in kinds(records, ValidationRecord))


def test_a_config_of_before_has_the_same_text(tmp_path):
    assert "stop_on_fall" not in json.loads(make_small().to_json())
    stopping = make_small(stop_on_fall=True)
    assert SearchConfig.from_json(stopping.to_json()) == stopping and stopping.hash != make_small().hash


def test_a_run_that_began_without_judged_validations_goes_on(searched, tmp_path, backbone):
    """A journal of the version before: its first validation knows the base's rewards alone."""
    searched(budget=60)
    folder = tmp_path / "run"
    records = read_journal(folder)
    end = next(i for i, record in enumerate(records) if isinstance(record, ValidationRecord)) + 1
    previous = hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest()
    with open(folder / JOURNAL, "wb") as file:
        for record in records[:end]:
            if isinstance(record, ValidationRecord):
                base = [row[:1] for row in record.base_scores]
                record = record.model_copy(update={"judged": {}, "base_scores": base})
            data, previous = _line(record, previous)
            file.write(data)
    rewards = {"redness": Redness(), "paleness": Paleness()}
    more = run_search(None, folder, backbone=backbone, rewards=rewards, budget=Budget(images=90))
    later = kinds(list(more), ValidationRecord)
    assert later and all(v.judged == {} and list(v.rewards) == ["redness"] for v in later)
