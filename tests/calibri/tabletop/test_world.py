"""The world: scenes keep their word, sets share nothing, pictures depend on the scene alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.errors import CalibriError
from calibri.tabletop.captions import caption, facts_of
from calibri.tabletop.data import scene_at
from calibri.tabletop.degrade import CLEAR_SHARE, degrade, severities, to_tensor
from calibri.tabletop.prompts import EXAMPLES, facts_in, hint, known_words, prompt_set, scenes, unknown_words
from calibri.tabletop.raycast import raycast
from calibri.tabletop.world import COLOURS, SHAPES, Scene, Solid, draw_scene, split_of

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=150, deadline=None)
def test_the_relation_that_a_scene_tells_is_true_of_its_positions(seed):
    scene = draw_scene(np.random.default_rng(seed))
    if scene.kind == "row":
        assert scene.solids[0].x < scene.solids[1].x < scene.solids[2].x
    if scene.kind == "pair":
        a, b = scene.solids
        gap = {"left of": b.x - a.x, "right of": a.x - b.x, "in front of": b.y - a.y, "behind": a.y - b.y}
        assert gap[scene.relation] > 0.5


@given(seeds)
@settings(max_examples=150, deadline=None)
def test_every_wording_tells_exactly_the_facts_of_its_scene(seed):
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    prompt = caption(scene, rng)
    assert facts_in(prompt) == facts_of(scene), prompt
    assert not unknown_words(prompt)


def test_prompt_sets_share_no_combination():
    keys = {name: {scene.key for scene, _ in scenes(name, 300)} for name in ("train", "search", "held-out")}
    assert not keys["train"] & keys["search"]
    assert not keys["train"] & keys["held-out"]
    assert not keys["search"] & keys["held-out"]


def test_the_data_set_holds_training_combinations_only():
    assert {split_of(scene_at(i, 1)) for i in range(200)} == {"train"}


def test_a_longer_prompt_set_begins_with_the_shorter_one():
    assert prompt_set("held-out", 40)[:15] == prompt_set("held-out", 15)
    assert prompt_set("held-out", 15) != prompt_set("held-out", 15, seed=1)


def test_an_unknown_prompt_set_names_the_known_ones():
    with pytest.raises(CalibriError, match=r"train, search, held-out; got 'test'"):
        prompt_set("test", 3)


def test_left_of_and_right_of_are_one_combination():
    a, b = Solid("red", "cube", "big"), Solid("blue", "cone", "big")
    left = Scene("pair", (a, b), "grey", "left of")
    right = Scene("pair", (b, a), "grey", "right of")
    assert left.key == right.key
    assert left.key != Scene("pair", (b, a), "grey", "left of").key


def test_a_picture_shows_the_colour_where_the_solid_stands():
    scene = Scene("single", (Solid("red", "sphere", "big", 0.0, 0.0, 0.3),), "white")
    picture = raycast(scene).astype(int)
    red = (picture[..., 0] - picture[..., 1:].max(-1)) > 60
    columns = np.nonzero(red)[1]
    assert red.sum() > 300
    assert 54 < columns.mean() < 74
    assert not red[:20].any()


def test_every_shape_casts_a_shadow_to_the_lower_right_of_the_light():
    for shape in SHAPES:
        scene = Scene("single", (Solid("cyan", shape, "big", 0.0, 0.0, 0.5),), "white")
        grey = raycast(scene).mean(-1)
        assert grey[66:84, 78:92].min() < 0.75 * grey[66:84, 20:40].min(), shape


def test_a_picture_depends_on_its_scene_alone():
    first = raycast(scene_at(5, 1))
    raycast(scene_at(6, 1))
    assert np.array_equal(first, raycast(scene_at(5, 1)))


def test_severity_zero_leaves_a_picture_as_it_is_and_one_makes_it_pale_and_soft():
    x = to_tensor(np.stack([raycast(scene_at(i, 1)) for i in range(3)]))
    assert torch.allclose(degrade(x, torch.zeros(3)), x, atol=1e-6)
    dull = degrade(x, torch.ones(3))
    assert (dull.std((1, 2, 3)) < 0.6 * x.std((1, 2, 3))).all()


def test_the_share_of_clear_pictures_is_as_stated():
    s = severities(20_000, np.random.default_rng(0))
    assert abs((s == 0).mean() - CLEAR_SHARE) < 0.015
    assert s[s > 0].min() >= 0.15
    assert s.max() <= 1


def test_a_hint_names_unknown_words_and_the_nearest_known_one():
    text = hint("a red teapot beside a blu cone")
    assert "'teapot'" in text
    assert "Did you mean 'blue'?" in text
    assert all(word in text for word in COLOURS)
    assert hint("A Red CUBE, please"[:10]) is None


def test_examples_are_in_the_vocabulary():
    assert not [p for p in EXAMPLES if unknown_words(p)]
    assert {"red", "ball", "cones", "behind"} <= known_words()
