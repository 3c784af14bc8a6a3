"""Settings that fit together, presets and bounds, and budgets in words."""

import pytest

from calibri.backbones.catalog import resolve
from calibri.errors import SearchError
from calibri.rewards.base import RewardTerm
from calibri.search.config import Budget, SearchConfig
from calibri.search.pictures import preset_note, preset_pictures
from calibri.search.presets import PRESETS


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


# The paper's own values, each with its place in github.com/v-gen-ai/Calibri at fd44332.
BASE, FLUX = "configs/base.py", "black-forest-labs/FLUX.1-dev"
PAPER = [
    ("bucket", 16, f"{BASE}: optimize.bucket_size"),
    ("sigma0", 0.25, f"{BASE}: optimize.initial_sigma"),
    ("weight_sigma", 0.25, "src/optim/cmaes.py: one sigma0 for scales and weights"),
    ("bounds", (-1.0, 2.0), f"{BASE}: optimize.blocks_bound_low, blocks_bound_high"),
    ("weight_bounds", (-10.0, 10.0), f"{BASE}: optimize.models_bound_low, models_bound_high"),
    ("steps", 15, f"{BASE}: gen.num_inference_steps"),
    ("height", 512, f"{BASE}: gen.image_size"),
    ("width", 512, f"{BASE}: gen.image_size"),
    ("popsize", None, f"{BASE}: optimize.population_size, pycma's own 4 + 3 ln n"),
    ("optimizer", "cma", "src/optim/cmaes.py: cma.CMAEvolutionStrategy without options of its own"),
    ("mirrors", 0.0, "as above"),
    ("mean_rate", "constant", "as above"),
    ("step_limit", "none", "as above"),
    ("pool", 0, "src/optim/cmaes.py: _next_batch, new prompts for each generation"),
    ("race", 0, "src/optim/cmaes.py: every candidate sees the whole bucket"),
    ("start", None, "src/optim/cmaes.py: x0 is the model as it is, all ones"),
    ("convergence", "paper", "the paper's supplement, Fig. 4"),
]


@pytest.mark.parametrize(("name", "value", "source"), PAPER)
def test_the_preset_paper_is_the_papers_setting(make_config, name, value, source):
    rest = {"rewards": ({"name": "r"},), "prompts": ("p",)}
    assert getattr(SearchConfig.make("paper", backbone=FLUX, **rest), name) == value, source


def test_the_papers_guidance_is_that_of_its_configurations():
    """configs/base.py: 3.5, embedded in FLUX.1-dev; configs/calibri.py: SD3.5 7.0, Qwen-Image 4.0."""
    flux, sd3, qwen = (resolve(name) for name in ("FLUX.1-dev", "SD3.5-medium", "Qwen-Image"))
    assert flux.guidance == 3.5 and "guidance" not in preset_pictures("paper", flux)
    assert preset_pictures("paper", sd3)["guidance"] == 7.0
    assert qwen.cfg == 4.0 and "guidance" not in preset_pictures("paper", qwen)


def test_what_is_given_wins_over_the_preset(make_config):
    rest = {"rewards": ({"name": "r"},), "prompts": ("p",), "backbone": FLUX}
    given = {"steps": 8, "height": 1024, "width": 768, "sigma0": 0.1, "bucket": 4, "bounds": (0.5, 1.5)}
    made = SearchConfig.make("paper", **rest, **given)
    assert {name: getattr(made, name) for name in given} == given
    assert SearchConfig.make("paper", **rest, steps=20).width == 512
    assert SearchConfig.make("paper", **rest, height=256, width=256).steps == 15
    sd3 = {**rest, "backbone": "SD3.5-large"}
    assert SearchConfig.make("paper", **sd3, guidance=3.0).guidance == 3.0
    assert SearchConfig.make("paper", **sd3).guidance == 7.0


def test_steps_and_sizes_that_a_backbone_does_not_need_stay_its_own(make_config):
    paper = SearchConfig.make("paper", rewards=({"name": "r"},), prompts=("p",))
    assert (paper.steps, paper.height, paper.width) == (8, None, None)
    tabletop, schnell, dev = (resolve(name) for name in ("tabletop", "FLUX.1-schnell", "FLUX.1-dev"))
    assert preset_pictures("paper", tabletop) == {}
    assert preset_pictures("paper", schnell) == {"height": 512, "width": 512}
    assert preset_note("paper", tabletop) == (
        "preset paper: tabletop keeps its own 8 steps (the preset: 15) "
        "and 128×128 pixels (the preset: 512×512)"
    )
    assert preset_note("paper", schnell).endswith("keeps its own 4 steps (the preset: 15)")
    assert preset_note("paper", dev) == preset_note("default", tabletop) == ""
    assert preset_pictures("default", dev) == {}


def test_a_backbone_that_is_not_known_here_gets_no_pictures(make_config):
    rest = {"rewards": ({"name": "r"},), "prompts": ("p",)}
    assert SearchConfig.make("paper", backbone="no such folder", **rest).height is None
    assert SearchConfig.make("paper", backbone="someone/a-model", **rest).width == 512
