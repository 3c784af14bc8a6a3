"""What was typed becomes a search: by one road for the page, programs and the command line."""

import copy

import pytest

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import LayoutError, SearchError
from calibri.prompts import SPLITS, prompt_set
from calibri.search import presets
from calibri.search.config import Budget
from calibri.search.form import LARGEST_SEED, MOST_IMAGES, Limits, SearchForm

PROMPTS = [f"a red cube {i}" for i in range(20)]
LEAST = {"rewards": ["tabletop-quality"], "prompts": PROMPTS}


def config(backbone, start=None, **values):
    return SearchForm.read(LEAST | values).config(backbone, "tiny", start)


@pytest.mark.parametrize(
    "rewards", ["tabletop-quality:2, tabletop-keep", ["tabletop-quality:2", "tabletop-keep"]]
)
def test_a_text_with_commas_and_a_list_are_the_same(backbone, rewards):
    made = config(
        backbone, rewards=rewards, judges="tabletop-keep,tabletop-facts", prompts="\n".join(PROMPTS)
    )
    assert [term.text for term in made.rewards] == ["tabletop-quality:2", "tabletop-keep"]
    assert made.judges == ("tabletop-facts",)  # what is optimised judges nothing
    assert made == config(backbone, rewards=rewards, judges=["tabletop-facts"])


def test_what_is_left_empty_is_the_presets_and_the_backbones(backbone):
    plain = config(backbone, preset="race")
    empty = {"sigma0": 0, "popsize": 0, "bucket": "", "bounds": "", "minutes": 0, "convergence": ""}
    assert config(backbone, preset="race", **empty) == plain
    assert plain.steps == backbone.spec.steps and plain.bucket == 8 and plain.seed == 0


def test_a_search_of_many_numbers_is_made_for_many(backbone, monkeypatch):
    """By how many the layout of the backbone has, with all members; what is given wins."""
    scales = len(backbone.layout("layer").names)
    monkeypatch.setattr(presets, "MANY", scales + 1)
    few, many = config(backbone), config(backbone, conditions=("positive", "positive"))
    assert (few.optimizer, few.bucket, few.point) == ("cma", 4, "fitted")
    assert (many.optimizer, many.bucket, many.point) == ("mirrored-adam", 2, "fitted")
    assert many.preset == "default" and many.numbers(scales) >= scales + 1
    given = config(backbone, conditions=("positive", "positive"), bucket=8, optimizer="cma")
    assert (given.optimizer, given.bucket) == ("cma", 8)
    monkeypatch.setattr(presets, "MANY", scales)
    assert config(backbone).optimizer == "mirrored-adam"
    assert config(backbone, preset="race").optimizer == "cma"


def test_settings_of_the_config_pass_through_and_unknown_ones_do_not(backbone):
    made = config(backbone, race=1, tail=0.25, weight_bounds="-3,3", bounds=(0.5, 2), dtype="float32")
    assert (made.race, made.tail, made.weight_bounds, made.bounds) == (1, 0.25, (-3.0, 3.0), (0.5, 2.0))
    with pytest.raises(SearchError, match="colour"):
        config(backbone, colour="red")


def test_a_search_starts_from_guidance_a_calibration_or_the_base(backbone):
    assert config(backbone, strength=1.5).weights == (1.5, -0.5)
    grown = config(backbone, strength=2, conditions=("positive", "negative", "negative"))
    assert grown.weights == (2.0, -1.0, 0.0) and grown.search_weights
    layout = backbone.layout("layer")
    made = Calibration(
        title="Bent", backbone="tiny", granularity="layer", names=layout.names,
        members=(Member(scales=(1.2,) * len(layout.names)),),
    )  # fmt: skip
    asked = []
    found = config(backbone, lambda draft: asked.append(draft.bounds) or made, bounds="0.5,1.1")
    assert found.start_from == "Bent" and found.start == ((1.1,) * len(layout.names),)
    assert asked == [(0.5, 1.1)]
    other = made.model_copy(update={"names": tuple(f"x{i}" for i in range(len(layout.names)))})
    with pytest.raises(LayoutError):
        config(backbone, lambda draft: other)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rewards": []}, "REWARDS: expected at least one"),
        ({"rewards": ["beauty"]}, "REWARDS: expected some of .*got 'beauty'"),
        ({"rewards": ["tabletop-quality:x"]}, "name:weight"),
        ({"rewards": 7}, "REWARDS: expected a list of texts, got 7"),
        ({"judges": ["beauty"]}, "JUDGES: expected some of"),
        ({"steps": 0}, "STEPS: expected a whole number from 1 to 1000, got 0"),
        ({"steps": 1.5}, "STEPS: expected a whole number"),
        ({"steps": True}, "STEPS: expected a whole number"),
        ({"seed": None}, "SEED: expected a whole number from 0"),
        ({"seed": LARGEST_SEED + 1}, "SEED: expected"),
        ({"images": MOST_IMAGES + 1}, "IMAGES: expected a whole number from 1 to 10000000"),
        ({"minutes": -1}, "MINUTES: expected a number above 0"),
        ({"minutes": "x"}, "MINUTES: expected a number"),
        ({"strength": None}, "STRENGTH: expected a number above 0 and at most 100, got None"),
        ({"sigma0": float("nan")}, "SIGMA0: expected a number"),
        ({"bounds": "0.5"}, "BOUNDS: expected two numbers"),
        ({"prompts": ["a", 3]}, "PROMPTS: expected a list"),
        ({"prompts": '["a",\n'}, "PROMPTS: line 2: expected JSON"),
        ({"title": 3}, "TITLE: expected"),
    ],
)
def test_a_field_that_does_not_fit_is_named_as_whoever_typed_knows_it(values, words):
    with pytest.raises(SearchError, match=words):
        SearchForm.read(LEAST | values, str.upper)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prompts": ["one"]}, "prompts: expected at least 10.*got 1"),
        ({"granularity": "pixel"}, "granularity: expected 'block', 'layer' or 'gate'"),
        ({"preset": "fast"}, "unknown preset"),
        ({"bounds": "2,1"}, "bounds"),
        ({"conditions": ("positive",)}, "2 or 3 members"),
    ],
)
def test_what_does_not_fit_the_search_is_a_sentence(backbone, values, words):
    with pytest.raises(SearchError, match=words):
        config(backbone, **values)


def test_a_search_on_the_embedded_world_brings_its_prompts(backbone):
    form = SearchForm.read({"rewards": "tabletop-keep", "held_out_prompts": ["a green ball"] * 2})
    made = form.config(backbone, "tabletop")
    assert len(made.prompts) == 512 and made.held_out_prompts == ("a green ball",)


def test_a_search_on_another_backbone_has_the_general_prompts(backbone):
    made = config(backbone, prompts=[])
    found = (made.prompts, made.validation_prompts, made.held_out_prompts)
    assert found == tuple(prompt_set("general", split) for split in SPLITS)


def test_pasted_prompts_are_read_as_files_are():
    text = "Prompt\tCategory\n" + "\n".join(f"a red, red cube {i}\tx" for i in range(10))
    form = SearchForm.read(LEAST | {"prompts": text, "held_out_prompts": '["a cone"]'})
    assert form.prompts == tuple(f"a red, red cube {i}" for i in range(10))
    assert form.held_out_prompts == ("a cone",)


def test_limits_are_a_budget_or_none():
    assert Limits.read({}).budget is None
    assert Limits.read({"images": MOST_IMAGES, "minutes": 0}).budget == Budget(images=MOST_IMAGES)
    assert Limits.read({"minutes": 1.5, "generations": 3}).budget == Budget(minutes=1.5, generations=3)
    assert SearchForm.read(LEAST | {"images": 9}).budget == Budget(images=9)


def test_the_preset_paper_makes_its_pictures_unless_told_otherwise(backbone):
    """On a backbone of 28 steps and 1024 pixels, such as FLUX.1-dev."""
    large = copy.copy(backbone)
    large.spec = backbone.spec.model_copy(update={"steps": 28, "height": 1024, "width": 1024})
    made = config(large, preset="paper")
    assert (made.steps, made.height, made.width) == (15, 512, 512)
    made = config(large, preset="paper", steps=28, height=64, width=96)
    assert (made.steps, made.height, made.width) == (28, 64, 96)
    assert config(large).steps == 28 and config(large).height is None
    small = config(backbone, preset="paper")
    assert small.steps == backbone.spec.steps and small.height is None


def test_the_preset_paper_divides_prompts_as_the_paper_does(backbone):
    """Seven of ten to search on; with others to judge on, all."""
    made = config(backbone, preset="paper", prompts=[f"p{i}" for i in range(1000)])
    counts = len(made.prompts), len(made.validation_prompts), len(made.held_out_prompts)
    assert counts == (700, 100, 200)
    every = {*made.prompts, *made.validation_prompts, *made.held_out_prompts}
    assert len(every) == 1000
    judged = [f"q{i}" for i in range(300)]
    made = config(backbone, preset="paper", prompts=PROMPTS, held_out_prompts=judged)
    assert made.prompts == tuple(PROMPTS)
    assert (len(made.validation_prompts), len(made.held_out_prompts)) == (100, 200)
    assert set(made.validation_prompts) | set(made.held_out_prompts) == set(judged)
    own = config(backbone, preset="paper", prompts=[])
    assert own.prompts == tuple(prompt_set("general", "search"))


@pytest.mark.parametrize(
    "values", [{"prompts": [f"p{i}" for i in range(6)]}, {"held_out_prompts": ["one"]}, {"prompts": ["one"]}]
)
def test_too_few_prompts_for_the_papers_division_are_told(backbone, values):
    with pytest.raises(SearchError, match="expected at least 10"):
        config(backbone, preset="paper", **values)
