"""Whole searches on a tiny random pipeline: what they say, when they stop, what they ship."""

import zlib

import numpy as np
import pytest

from calibri.calibration.artifact import Calibration
from calibri.errors import JournalError, SearchError
from calibri.search.config import Budget, SearchConfig
from calibri.search.counting import least_images
from calibri.search.fitted import point_reached
from calibri.search.journal import JournalTail, RunFolder, read_journal
from calibri.search.records import EventRecord, GenerationRecord, ValidationRecord
from calibri.search.run import run_search
from calibri.search.space import SearchSpace
from calibri.search.stopping import tail_average

LAYERS = 7  # scales of the tiny backbone, by layer


@pytest.fixture
def search(tmp_path, backbone, rewards, make_config):
    """Runs a search to its end and returns its records."""

    def run(folder="run", budget=None, config=None, **options):
        resumed = options.pop("resume", False)
        values = options.pop("values", {})
        budget = budget or Budget(generations=3)
        return list(
            run_search(
                None if resumed else config or make_config(**values),
                tmp_path / folder,
                backbone=backbone,
                rewards=options.pop("rewards", rewards),
                budget=budget,
                **options,
            )
        )

    return run


def generations(records):
    return [record for record in records if isinstance(record, GenerationRecord)]


def trajectory(records):
    """What must not depend on when a run was interrupted."""
    return [(g.generation, g.candidates, g.scores, g.images, g.mean, g.point) for g in generations(records)]


def test_a_search_tells_its_story_in_order_and_the_journal_holds_it(search, tmp_path):
    records = search()
    assert [r.kind for r in records] == ["session", "base", *["generation"] * 3, "result"]
    assert read_journal(tmp_path / "run") == records


def test_images_are_counted_as_they_are_rendered(search):
    records = search()
    # 8 pairs of base; the first candidate is the base and costs nothing: 3 × 2, then 4 × 2 each.
    assert [r.images for r in records if hasattr(r, "sigma")] == [14, 22, 30]
    assert records[-1].judgement_images == 8


def test_the_first_candidate_is_the_base_and_scores_zero(search):
    first = generations(search())[0]
    assert (first.candidate_array()[0] == 1).all() and first.scores[0] == 0.0


def test_the_same_seed_gives_the_same_search_and_another_seed_another(search):
    assert trajectory(search("a")) == trajectory(search("b"))
    assert trajectory(search("a")) != trajectory(search("c", values={"seed": 1}))


def test_the_batch_size_changes_no_candidate_of_the_first_generation(search):
    ours, theirs = (
        generations(search(name, values={"batch_size": size}))[0] for name, size in (("a", 3), ("b", 16))
    )
    assert ours.candidates == theirs.candidates
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=0.05)


def test_what_is_shipped_is_the_point_reached_with_its_provenance(search, tmp_path, backbone):
    result = search()[-1]
    found = Calibration.load(tmp_path / "run" / "tail.json")
    assert found.names == backbone.layout("layer").names
    np.testing.assert_array_equal(found.members[0].scales, result.vector)
    for key in ("rewards", "images", "seed", "config", "versions", "backbone_fingerprint", "verdict"):
        assert key in found.found
    assert found.found["verdict"] == result.verdict


def test_the_preset_keeps_the_fitted_point_and_says_so_after_each_generation(search, tmp_path, backbone):
    records = search(budget=Budget(generations=7))
    made, result = generations(records), records[-1]
    layers = len(backbone.layout("layer").names)
    config = SearchConfig.from_json((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    start, steps = np.ones(layers), np.full(layers, config.sigma0)
    for count in (1, 7):
        expected = point_reached(made[:count], config.tail, start, steps)
        np.testing.assert_array_equal(made[count - 1].point, expected)
    np.testing.assert_array_equal(result.vector, made[-1].point)
    assert not np.array_equal(result.vector, tail_average(made, config.tail))
    by_tail = search("tail", values={"point": "tail"})
    assert [g.point for g in generations(by_tail)] == [[]] * 3
    np.testing.assert_array_equal(by_tail[-1].vector, tail_average(generations(by_tail), config.tail))


def test_what_is_not_better_is_not_shipped_as_better(search, tmp_path, rewards):
    class Blind(type(rewards["redness"])):  # scores that no picture moves: gains are nothing but 0
        def score(self, images, prompts):
            return np.array([zlib.crc32(prompt.encode()) % 1000 / 1000 for prompt in prompts])

    result = search(rewards={"redness": Blind()})[-1]
    assert result.verdict != "better" and result.calibration is None
    assert not (tmp_path / "run" / "calibration.json").exists()
    assert "Nothing is shipped" in result.text


def test_what_is_better_is_shipped_with_its_gain(search, tmp_path, formula_scorer):
    # Scores that grow with every scale: the search cannot fail to be better, and its interval shows it.
    grows, free = formula_scorer({"redness": 2.0}), {"sigma0": 0.2, "step_limit": "none"}
    result = search(values=free, scorer=grows, budget=Budget(generations=8))[-1]
    assert result.verdict == "better" and result.objective.low > 0
    found = Calibration.load(tmp_path / "run" / result.calibration)
    assert found.found["gains"]["redness"]["low"] > 0
    assert min(found.members[0].scales) > 1


def test_judges_are_reported_and_never_searched_on(search):
    result = search(values={"judges": ("contrast",)})[-1]
    assert result.judges == ["contrast"] and set(result.gains) == {"redness", "contrast"}
    with pytest.raises(SearchError, match="contrast is a judge"):
        search("other", values={"rewards": ({"name": "contrast"},)})


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(images=20), "20 images"),
        (Budget(generations=2), "2 generations"),
        (Budget(minutes=1e-6), "minutes"),
    ],
)
def test_a_budget_ends_a_search_in_words(search, budget, words):
    assert words in search(budget=budget)[-1].reason


@pytest.mark.parametrize("limit", [16, 20, 29, 30, 31, 47])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"bucket": 4, "race": 2},
        {"preset": "mirrored", "popsize": 4, "bucket": 2},
        {"objective": "win-rate", "base_samples": 2, "bucket": 2},
        {"validation_share": 0.5},
        {"pool": 0, "bucket": 1, "popsize": 5},
    ],
    ids=str,
)
def test_at_most_so_many_images_is_at_most(search, formula_scorer, make_config, tmp_path, limit, values):
    least = sum(least_images(make_config(**values), LAYERS))
    run = {"values": values, "scorer": formula_scorer({"redness": 2.0}), "budget": Budget(images=limit)}
    if limit < least:
        with pytest.raises(SearchError, match=rf"images: expected at least {least} .*got {limit}"):
            search(**run)
        assert read_journal(tmp_path / "run") == []  # nothing was rendered
        return
    records = search(**run)
    assert generations(records) and records[-1].images <= limit
    assert f"the budget of {limit} images is used" in records[-1].reason
    again = search(resume=True, scorer=run["scorer"], budget=Budget(images=limit))
    assert again == records[-1:]  # nothing more fits: it is not judged twice
    more = search(resume=True, scorer=run["scorer"], budget=Budget(images=limit + 60))
    assert len(generations(more)) >= 1 and more[-1].images <= limit + 60


def test_validation_comes_when_it_is_due_and_knows_the_base_once(search):
    records = search(values={"validation_share": 0.5}, budget=Budget(images=60))
    validations = [r for r in records if isinstance(r, ValidationRecord)]
    assert len(validations) >= 2
    assert [bool(v.base_scores) for v in validations] == [True] + [False] * (len(validations) - 1)
    assert [v.spent for v in validations] == [8] + [4] * (len(validations) - 1)


def test_stopping_keeps_what_was_found_and_judges_it(search, tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 12

    result = search(stop=stop, budget=Budget(generations=50))[-1]
    assert result.reason == "stopped by the user" and 0 < result.generation < 50
    assert result.verdict != "not judged" and (tmp_path / "run" / "tail.json").exists()


def test_an_abandoned_judgement_keeps_the_point(search, tmp_path):
    records = search(abandon=lambda: True)
    assert records[-1].verdict == "not judged" and isinstance(records[-2], EventRecord)
    assert Calibration.load(tmp_path / "run" / "tail.json").found["verdict"] == "not judged"


def test_stopped_before_it_began_a_search_leaves_the_start(search, tmp_path):
    result = search(stop=lambda: True)[-1]
    assert result.generation == 0 and result.verdict == "not judged"
    assert set(Calibration.load(tmp_path / "run" / "tail.json").members[0].scales) == {1.0}


def test_a_stopped_search_goes_on_as_if_it_had_not_been(search, tmp_path):
    whole = search("whole", budget=Budget(generations=5))
    asked = []
    search("parts", stop=lambda: asked.append(1) or len(asked) > 7, budget=Budget(generations=5))
    assert 0 < len(generations(read_journal(tmp_path / "parts"))) < 5
    search("parts", resume=True, budget=Budget(generations=5))
    assert trajectory(read_journal(tmp_path / "parts")) == trajectory(whole)


def test_a_finished_search_is_not_judged_again(search, tmp_path):
    result = search()[-1]
    size = (tmp_path / "run" / "journal.jsonl").stat().st_size
    assert search(resume=True) == [result]
    assert (tmp_path / "run" / "journal.jsonl").stat().st_size == size


def test_resumed_parts_are_bitwise_the_whole(search, tmp_path):
    whole = search("whole", budget=Budget(generations=6), values={"validation_share": 0.3})
    for count in (1, 3, 4, 6):
        search("parts", budget=Budget(generations=count), values={"validation_share": 0.3})
    parts = read_journal(tmp_path / "parts")
    assert trajectory(parts) == trajectory(whole)
    validated = [(r.generation, r.images, r.objectives) for r in parts if isinstance(r, ValidationRecord)]
    assert validated == [
        (r.generation, r.images, r.objectives) for r in whole if isinstance(r, ValidationRecord)
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "mirrored-adam"},
        {"bucket": 4, "race": 2},
        {"objective": "win-rate"},
        {"pool": 0},
        {"conditions": ("positive", "negative"), "weights": (1.5, -0.5)},
        {"conditions": ("positive", "positive", "negative")},
        {"convergence": "paper"},
    ],
    ids=str,
)
def test_every_kind_of_search_resumes_bitwise(search, tmp_path, values):
    whole = search("whole", budget=Budget(generations=4), values=values)
    search("parts", budget=Budget(generations=2), values=values)
    search("parts", budget=Budget(generations=4), values=values)
    assert trajectory(read_journal(tmp_path / "parts")) == trajectory(whole)


def test_one_member_with_a_fixed_weight_is_the_plain_search(search):
    plain = search("plain")
    spelt_out = search(
        "spelt", values={"conditions": ("positive",), "weights": (1.0,), "search_weights": False}
    )
    assert trajectory(plain) == trajectory(spelt_out)


def test_a_warm_start_is_the_first_candidate(search):
    start = ((1.1, 0.9, 1.2),)
    first = generations(search(values={"start": start}))[0]
    np.testing.assert_allclose(first.candidate_array()[0], start[0], atol=1e-12)


def test_the_weights_of_an_ensemble_are_searched(search, backbone, make_config):
    values = {"conditions": ("positive", "negative"), "weights": (1.5, -0.5)}
    records = search(values=values)
    last = generations(records)[-1]
    assert len(last.mean) == 8 and last.mean[-2:] != [1.5, -0.5]
    members = SearchSpace.of(make_config(**values), backbone.layout("layer")).decode(np.array(last.mean))
    assert [m.condition for m in members] == ["positive", "negative"]


def test_another_backbone_is_refused(search, tmp_path, rewards, make_config):
    from calibri.backbones.loading import load_backbone
    from tests.tiny import tiny_flux

    search(budget=Budget(generations=1))
    tiny_flux(tmp_path / "other", doubles=1, singles=1, seed=9)
    other = load_backbone(str(tmp_path / "other"), device="cpu", dtype="float32")
    with pytest.raises(JournalError, match="another backbone"):
        list(run_search(make_config(), tmp_path / "run", backbone=other, rewards=rewards))


def test_nan_scores_stop_the_search_and_it_resumes_once_they_are_mended(search, tmp_path, rewards):
    whole = trajectory(search("whole", budget=Budget(generations=3)))

    class Broken(type(rewards["redness"])):
        calls = 0

        def score(self, images, prompts):
            Broken.calls += 1
            scores = super().score(images, prompts)
            if Broken.calls == 7:
                scores[-1] = np.nan
            return scores

    with pytest.raises(SearchError, match=r"redness gave nan for candidate \d on prompt 'red "):
        search("broken", rewards={"redness": Broken()})
    assert (
        trajectory(read_journal(tmp_path / "broken")) == whole[: len(read_journal(tmp_path / "broken")) - 2]
    )
    search("broken", resume=True, budget=Budget(generations=3))
    assert trajectory(read_journal(tmp_path / "broken")) == whole


def test_two_searches_on_one_folder_are_refused(search, tmp_path, backbone, rewards, make_config):
    first = run_search(make_config(), tmp_path / "run", backbone=backbone, rewards=rewards)
    next(first)
    with pytest.raises(JournalError, match="process"):
        search()
    first.close()
    search(budget=Budget(generations=1))


def test_a_tail_sees_the_search_while_it_runs(tmp_path, backbone, rewards, make_config):
    tail = JournalTail(tmp_path / "run")
    for record in run_search(
        make_config(), tmp_path / "run", backbone=backbone, rewards=rewards, budget=Budget(generations=2)
    ):
        assert tail.poll() == [record]


def test_batches_wait_for_their_turn_and_report_progress(search):
    turns, seen = [], []

    class Turn:
        def __enter__(self):
            turns.append(1)

        def __exit__(self, *_):
            turns.append(-1)

    search(turn=Turn, progress=lambda done, total: seen.append((done, total)), budget=Budget(generations=1))
    assert turns and turns[::2] == [1] * (len(turns) // 2) and turns[1::2] == [-1] * (len(turns) // 2)
    assert seen[0] == (4, 8) and all(done <= total for done, total in seen)


def test_a_torn_line_is_mended_and_said(search, tmp_path):
    whole = search("whole", budget=Budget(generations=3))
    search("run", budget=Budget(generations=2))
    with RunFolder(tmp_path / "run"):
        pass
    journal = tmp_path / "run" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:200])
    records = search("run", resume=True, budget=Budget(generations=3))
    assert any("torn last line" in r.text for r in records if isinstance(r, EventRecord))
    assert trajectory(read_journal(tmp_path / "run")) == trajectory(whole)
