"""The searched vector and the members that it stands for."""

import numpy as np
import pytest

from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import SearchError
from calibri.search.space import (
    SearchSpace,
    calibration_start,
    ensemble_start,
    guidance_start,
    plain_start,
)
from tests.tiny import flux_transformer

NAMES = ("double.0.attn", "double.0.mlp", "single.0.fused")


@pytest.fixture
def layout():
    return Layout(granularity="layer", names=NAMES, groups=((0,), (1,), (2,)))


@pytest.fixture
def pair_space(make_config, layout):
    return SearchSpace.of(make_config(conditions=("positive", "negative")), layout)


def test_one_member_with_a_fixed_weight_is_the_plain_vector(make_config, layout):
    space = SearchSpace.of(make_config(), layout)
    assert space.size == 3 and space.labels == list(NAMES)
    assert space.decode(np.array([1.1, 0.9, 1.0])) == (Member(scales=(1.1, 0.9, 1.0)),)


def test_members_and_weights_lie_one_after_the_other(pair_space):
    vector = np.array([1.1, 1.2, 1.3, 0.7, 0.8, 0.9, 2.5, -1.5])
    first, second = pair_space.decode(vector)
    assert first == Member(scales=(1.1, 1.2, 1.3), weight=2.5, condition="positive")
    assert second == Member(scales=(0.7, 0.8, 0.9), weight=-1.5, condition="negative")
    assert (pair_space.encode((first, second)) == vector).all()
    assert pair_space.labels[3] == "2: double.0.attn" and pair_space.labels[-1] == "2: weight"


@pytest.mark.parametrize("vector", [np.ones(7), np.array([1.0, 1, 1, 1, 1, np.nan, 1, 0])])
def test_vectors_that_do_not_fit_are_refused(pair_space, vector):
    with pytest.raises(SearchError):
        pair_space.decode(vector)


def test_scales_and_weights_have_bounds_and_steps_of_their_own(make_config, layout):
    config = make_config(conditions=("positive", "negative"), sigma0=0.1, weight_sigma=0.4)
    settings = SearchSpace.of(config, layout).settings(config)
    np.testing.assert_array_equal(settings.start, [1, 1, 1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(settings.steps, [0.1] * 6 + [0.4] * 2)
    np.testing.assert_array_equal(settings.lower, [0.5] * 6 + [-10] * 2)
    np.testing.assert_array_equal(settings.upper, [1.5] * 6 + [10] * 2)


def test_guidance_is_an_ensemble_of_two():
    start = guidance_start(1.5)
    assert start.conditions == ("positive", "negative") and start.weights == (1.5, -0.5)


@pytest.mark.parametrize(
    "conditions", [("positive", "negative"), ("positive", "positive"), ("positive", "positive", "negative")]
)
def test_new_members_start_with_weight_zero_so_that_nothing_changes(conditions):
    start = ensemble_start(plain_start(), conditions)
    assert start.conditions == conditions and start.weights == (1.0,) + (0.0,) * (len(conditions) - 1)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (("positive",), "2 or 3 members"),
        (("positive",) * 4, "2 or 3 members"),
        (("negative", "positive"), "must come first"),
        (("positive", "neutral"), "neutral"),
    ],
)
def test_ensembles_that_cannot_be_are_refused(conditions, words):
    with pytest.raises(SearchError, match=words):
        ensemble_start(plain_start(), conditions)


def calibration(granularity, names, scales):
    return Calibration(
        title="t",
        backbone="tabletop",
        granularity=granularity,
        names=names,
        members=(Member(scales=scales),),
        found={},
    )


def test_a_start_from_a_calibration_keeps_its_scales_within_the_bounds(layout):
    found = calibration("layer", NAMES, (1.2, 0.2, 1.9))
    start = calibration_start(found, layout, (0.5, 1.5), "a file")
    assert start.scales == ((1.2, 0.5, 1.5),) and start.words == "a file"


def test_a_start_may_come_from_a_coarser_granularity():
    layout = Layout.from_sites(sites_of(flux_transformer(doubles=1, singles=1)), "layer")
    found = calibration("block", layout.at("block").names, (1.2, 0.8))
    start = calibration_start(found, layout, (0.5, 1.5), "a file")
    assert layout.names == ("double.0.attn", "double.0.mlp", "single.0.fused")
    assert start.scales == ((1.2, 1.2, 0.8),)


def guided(layout, *added):
    first = Member(scales=(1.2, 0.9, 0.1))
    return Calibration(granularity="layer", names=layout.names, members=(first, *added), title="guided")


def test_a_member_that_guides_follows_the_first_one_without_its_blocks(make_config, layout):
    skipping = Member(scales=(0.0, 0.0, 0.1), weight=-2.8, start=0.01, stop=0.2, balanced=True)
    start = calibration_start(guided(layout, skipping), layout, (0.5, 1.5), "guided")
    config = make_config(
        conditions=start.conditions, weights=start.weights, start=start.scales, roles=start.roles
    )
    space = SearchSpace.of(config, layout)
    assert space.labels == [*(f"1: {name}" for name in NAMES), "1: weight", "2: weight"]
    assert config.numbers(3) == space.size == 5
    first, second = space.decode(np.array([1.1, 1.2, 1.3, 1.0, -2.0]))
    assert first.scales == (1.1, 1.2, 1.3) and not first.balanced
    assert second.scales == (0.0, 0.0, 1.3) and second.weight == -2.0
    assert (second.start, second.stop, second.balanced) == (0.01, 0.2, True)
    np.testing.assert_array_equal(space.settings(config).start, [1.2, 0.9, 0.5, 1.0, -2.8])
    again = type(config).from_json(config.to_json())
    assert again == config and again.nfe == config.nfe


def test_a_weaker_member_keeps_its_scales(make_config, layout):
    weaker = Member(scales=(0.3, 0.4, 0.5), weight=-1.0, balanced=True)
    start = calibration_start(guided(layout, weaker), layout, (0.5, 1.5), "guided")
    config = make_config(
        conditions=start.conditions, weights=start.weights, start=start.scales, roles=start.roles
    )
    _, second = SearchSpace.of(config, layout).decode(np.array([1.1, 1.2, 1.3, 1.0, -2.0]))
    assert second.scales == (0.3, 0.4, 0.5)
    assert config.nfe == 2 * config.steps


def test_the_first_member_of_a_search_may_count_late_but_has_a_weight_of_its_own(layout):
    def begun(**first):
        members = (Member(scales=(1.0, 1.0, 1.0), **first), Member(scales=(1.0, 1.0, 1.0)))
        found = Calibration(granularity="layer", names=layout.names, members=members)
        return calibration_start(found, layout, (0.5, 1.5), "late")

    assert [role.start for role in begun(start=0.5).roles] == [0.5, 0.0]
    with pytest.raises(SearchError, match="must have a weight of its own"):
        begun(balanced=True)
