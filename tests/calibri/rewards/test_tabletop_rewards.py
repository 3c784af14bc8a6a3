"""The rewards and judges of the embedded world on pictures whose truth is known."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from benchmarks.world import also_true, top1_of_64
from calibri.errors import RewardError
from calibri.rewards import known_rewards, load_reward
from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.prompts import scenes
from calibri.tabletop.raycast import raycast
from calibri.tabletop.reward_nets import FOLDER
from calibri.tabletop.train.preference import spoil
from calibri.tabletop.world import Scene, Solid

N = 64


def pictures(x: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(p) for p in (x.permute(0, 2, 3, 1).numpy() * 255 + 0.5).astype(np.uint8)]


@pytest.fixture(scope="module")
def truth():
    """Held-out prompts, clear pictures (n, 3, 128, 128) and a dull view of each."""
    drawn = scenes("held-out", N)
    clear = to_tensor(np.stack([raycast(scene) for scene, _ in drawn]))
    dull = degrade(clear, torch.from_numpy(severities(N, np.random.default_rng(5), clear_share=0.0)))
    return [prompt for _, prompt in drawn], clear, dull


@pytest.fixture(scope="module")
def reward():
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = load_reward(name)
        return loaded[name]

    return get


def test_each_says_whether_it_may_be_optimised(reward):
    roles = {name: reward(name).info.role for name in known_rewards() if name.startswith("tabletop")}
    assert roles == {
        "tabletop-align": "reward",
        "tabletop-quality": "reward",
        "tabletop-keep": "reward",
        "tabletop-judge": "judge",
        "tabletop-facts": "judge",
    }


@pytest.mark.parametrize("name", ["tabletop-facts", "tabletop-keep"])
def test_facts_hold_on_true_pictures_and_not_on_shuffled_prompts(reward, truth, name):
    prompts, clear, dull = truth
    for view in (clear, dull):
        assert reward(name).score(pictures(view), prompts).mean() >= 0.95
        assert reward(name).score(pictures(view), prompts[20:] + prompts[:20]).mean() <= 0.3


def test_a_strict_reading_of_facts_knows_left_from_right(reward, truth):
    prompts, clear, _ = truth
    pairs = [i for i, p in enumerate(prompts) if "left of" in p]
    images = [pictures(clear[i : i + 1])[0] for i in pairs]
    asked = [prompts[i] for i in pairs]
    told = reward("tabletop-facts").all_right(images, asked)
    swapped = [p.replace("left of", "right of") for p in asked]
    assert told.mean() >= 0.9
    assert reward("tabletop-facts").all_right(images, swapped).mean() <= 0.1


def test_align_finds_the_right_prompt_among_those_that_are_not_true(reward, truth):
    _, clear, dull = truth
    for view in (clear, dull):
        assert top1_of_64(reward("tabletop-align"), pictures(view), list(scenes("held-out", N))) >= 0.9


def test_a_prompt_in_other_words_is_no_wrong_answer():
    def scene(kind, *solids, relation=None):
        return Scene(kind, tuple(Solid(*s.split(), "small") for s in solids), "white", relation)

    red, blue = "red cube", "blue sphere"
    left, right = (scene("pair", red, blue, relation=r) for r in ("left of", "right of"))
    mirrored = scene("pair", blue, red, relation="right of")
    assert also_true(scene("single", red), scene("single", red))
    assert also_true(left, mirrored) and also_true(left, scene("beside", blue, red))
    assert not also_true(left, right)
    assert not also_true(scene("row", red, blue, "red cone"), scene("row", blue, red, "red cone"))
    assert not also_true(scene("single", red), scene("count", red, red))
    assert not also_true(scene("single", red), left)


@pytest.mark.parametrize("name", ["tabletop-quality", "tabletop-judge"])
def test_quality_prefers_clear_and_whole_pictures(reward, truth, name):
    prompts, clear, dull = truth
    net = reward(name)
    good = net.score(pictures(clear), prompts)
    assert (good > net.score(pictures(dull), prompts)).mean() >= 0.95
    assert (good > net.score(pictures(spoil(clear, np.random.default_rng(1))), prompts)).mean() >= 0.9


@pytest.mark.parametrize("name", ["tabletop-align", "tabletop-quality", "tabletop-facts"])
def test_a_score_does_not_depend_on_what_else_is_scored(reward, truth, name):
    prompts, clear, _ = truth
    images = pictures(clear[:5])
    together = reward(name).score(images, prompts[:5])
    alone = [reward(name).score([image], [prompt])[0] for image, prompt in zip(images, prompts[:5])]
    assert np.allclose(together, alone, atol=2e-4)
    assert together.dtype == np.float64


def test_no_pictures_have_no_scores(reward):
    for name in known_rewards():
        if name.startswith("tabletop"):
            assert reward(name).score([], []).shape == (0,)


def test_a_prompt_that_asks_for_nothing_known_gets_a_constant(reward, truth):
    _, clear, _ = truth
    assert reward("tabletop-facts").score(pictures(clear[:2]), ["a cat", ""]).tolist() == [0.5, 0.5]


def test_one_prompt_for_each_image_is_asked_for(reward, truth):
    _, clear, _ = truth
    with pytest.raises(RewardError, match="got 2 images, 1 prompts"):
        reward("tabletop-quality").score(pictures(clear[:2]), ["a red cube"])


def test_an_unknown_reward_names_the_known_ones():
    with pytest.raises(RewardError, match=r"unknown reward 'beauty'; known are tabletop-align, "):
        load_reward("beauty")


def test_rewards_and_judges_learnt_from_different_pictures():
    def seed(name):
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            return file.metadata()["scenes_seed"], file.metadata()["width"]

    for of_reward, of_judge in (("quality", "judge"), ("keep", "facts")):
        for mine, other in zip(seed(of_reward), seed(of_judge)):
            assert mine != other
