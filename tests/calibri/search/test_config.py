"""Settings that fit together, presets and bounds, and budgets in words."""

import pytest

from calibri.errors import SearchError
from calibri.rewards.base import RewardTerm
from calibri.search.config import PRESETS, Budget, SearchConfig


def test_a_config_survives_its_json(make_config):
    config = make_config(start=((1.1, 0.9),), seed=0)
    assert SearchConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_set_what_they_say(make_config, preset):
    chosen = SearchConfig.make(preset, rewards=({"name": "r"},), prompts=("p",))
    for name, value in PRESETS[preset].items():
        assert getattr(chosen, name) == value


def test_bounds_are_tight_on_tabletop_and_as_published_elsewhere(make_config):
    assert make_config().bounds == (0.5, 1.5)
    assert make_config(backbone="black-forest-labs/FLUX.1-dev").bounds == (-1.0, 2.0)
    assert make_config("paper").bounds == (-1.0, 2.0)
    assert make_config("paper", bounds=(0.5, 1.5)).bounds == (0.5, 1.5)
    assert make_config().weight_bounds == (-10.0, 10.0)


def test_weights_are_searched_when_there_are_several_members(make_config):
    two = make_config(conditions=("positive", "negative"))
    assert two.search_weights and two.weights == (1.0, 0.0) and two.numbers(16) == 34
    assert make_config().numbers(16) == 16


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": 1}, "colour"),
        ({"sigma0": float("nan")}, "sigma0"),
        ({"bounds": (1.5, 0.5)}, "below the upper"),
        ({"conditions": ("negative",)}, "positive prompt"),
        ({"conditions": ("positive", "negative"), "weights": (1.0,)}, "2 members need 2 weights"),
        ({"rewards": ({"name": "a"}, {"name": "a"})}, "twice"),
        ({"rewards": ({"name": "a", "weight": 0},)}, "other than 0"),
        ({"race": 2}, "smaller than bucket"),
        ({"pool": 1}, "at least one bucket"),
        ({"held_out_prompts": ("red 0",)}, "also searched on"),
        ({"seed": -1}, "seed"),
        ({"height": 64}, "together"),
    ],
)
def test_settings_that_do_not_fit_say_why(make_config, values, words):
    with pytest.raises(SearchError, match=words):
        make_config(**values)


def test_an_unknown_preset_is_named_with_the_known_ones(make_config):
    with pytest.raises(SearchError, match="default, race, paper, mirrored"):
        make_config("fast")


@pytest.mark.parametrize(("text", "weight"), [("a", 1.0), ("a:2", 2.0), (" a:0.5 ", 0.5), ("a:-1", -1.0)])
def test_rewards_are_written_with_their_weight(text, weight):
    assert RewardTerm.parse(text) == RewardTerm(name="a", weight=weight)


@pytest.mark.parametrize("text", ["", ":2", "a:much", "a:nan"])
def test_a_reward_that_cannot_be_read_is_an_error(text):
    with pytest.raises(SearchError, match="name:weight"):
        RewardTerm.parse(text)


def test_the_estimate_of_images_is_near_what_a_search_renders(make_config):
    config = make_config(popsize=12, bucket=8, pool=512, race=0, validation_pairs=64)
    assert config.estimate_images(16, 20) == pytest.approx(20 * 12 * 8 + 20 * 8, rel=0.15)
    assert make_config(popsize=12, bucket=8, race=4, pool=512).estimate_images(16, 20) < 0.8 * 2400


def test_a_budget_says_which_limit_is_reached():
    budget = Budget(images=100, minutes=2, generations=5)
    assert budget.reason_to_stop(images=99, seconds=119, generations=4) is None
    assert "100 images" in budget.reason_to_stop(images=100, seconds=0, generations=0)
    assert "2 minutes" in budget.reason_to_stop(images=0, seconds=120, generations=0)
    assert "5 generations" in budget.reason_to_stop(images=0, seconds=0, generations=5)
