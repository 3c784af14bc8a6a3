"""Guidance as members of an ensemble: what is written, what is made of it, what is refused."""

import hashlib
import json

import pytest

from calibri.backbones.layouts import Layout
from calibri.backbones.sites import every_site, sites_of_config
from calibri.calibration.artifact import FORMAT, WITH_PHASES, Calibration, Member
from calibri.calibration.guidance import (
    Guide,
    add_guides,
    find_blocks,
    guide_by_negative,
    guide_by_weaker,
    parse_guides,
    skip_attention,
    skip_layers,
    split_guides,
)
from calibri.calibration.phases import count_evaluations, weights_at, weights_by_step
from calibri.errors import ArtifactError, RenderError

SD3 = ("SD3Transformer2DModel", {"num_layers": 12})
FLUX = ("FluxTransformer2DModel", {"num_layers": 3, "num_single_layers": 4})


def base(of=SD3, granularity="layer"):
    return Calibration.base(Layout.from_sites(sites_of_config(*of), granularity), "SD3.5-medium")


@pytest.mark.parametrize(
    "text, guide",
    [
        ("cfg:4.5", Guide("cfg", "", 4.5)),
        ("cfg:4.5@0.1-0.8", Guide("cfg", "", 4.5, 0.1, 0.8)),
        ("skip-layer:7,8,9:2.8", Guide("skip-layer", "7,8,9", 2.8, 0.01, 0.2)),
        ("skip-layer:7-9", Guide("skip-layer", "7-9", 2.8, 0.01, 0.2)),
        ("skip-layer:double.3:1@0-1", Guide("skip-layer", "double.3", 1.0, 0.0, 1.0)),
        ("skip-attention:7:3@0-0.5", Guide("skip-attention", "7", 3.0, 0.0, 0.5)),
        ("auto:0.9:2", Guide("auto", "0.9", 2.0)),
        ("auto:weak.json:1.5", Guide("auto", "weak.json", 1.5)),
    ],
)
def test_guidance_is_read_as_it_is_written(text, guide):
    assert parse_guides(text) == (guide,)
    assert parse_guides(str(guide)) == (guide,)


def test_guides_join_and_may_follow_a_file():
    assert [g.preset for g in parse_guides("cfg:4+skip-layer:7,8:2@0-0.5")] == ["cfg", "skip-layer"]
    assert split_guides("best.json+cfg:4+auto:0.9:2")[0] == "best.json"
    assert split_guides("my+own.json") == ("my+own.json", ())
    assert split_guides("cfg:4")[0] == ""


@pytest.mark.parametrize("text", ["slg:7:2", "cfg:", "cfg:a", "cfg:1:2", "skip-layer:7:x", "cfg:4@0-", ""])
def test_what_is_no_guidance_says_how_one_is_written(text):
    with pytest.raises(ArtifactError, match=r"expected such as cfg:4.5, skip-layer:7,8,9:2.8"):
        parse_guides(text)


def test_skip_layer_guidance_is_one_more_member_that_the_first_one_pays_for():
    made = skip_layers(base(), "7,8,9")
    first, skipping = made.members
    assert first == base().members[0]
    assert (skipping.weight, skipping.start, skipping.stop, skipping.balanced) == (-2.8, 0.01, 0.2, True)
    zeros = {name.split(".")[1] for name, s in zip(made.names, skipping.scales, strict=True) if s == 0}
    assert zeros == {"7", "8", "9"} and set(skipping.scales) == {0.0, 1.0}
    assert weights_at(made.members, 0, 28) == [1.0, 0.0]
    assert weights_at(made.members, 5, 28) == pytest.approx([3.8, -2.8])
    assert weights_at(made.members, 6, 28) == [1.0, 0.0]
    assert made.found["guidance"] == ["skip-layer:block.7,block.8,block.9:2.8"]


def test_classifier_free_guidance_at_every_step_is_two_weights():
    made = guide_by_negative(base(), 4.5)
    assert [(m.weight, m.condition, m.balanced) for m in made.members] == [
        (4.5, "positive", False),
        (-3.5, "negative", False),
    ]
    part = guide_by_negative(base(), 4.5, 0.0, 0.5)
    assert weights_by_step(part.members, 4).tolist() == [[4.5, 4.5, 1, 1], [-3.5, -3.5, 0, 0]]
    with pytest.raises(ArtifactError, match="guided already"):
        guide_by_negative(made, 2)


def test_auto_guidance_leads_away_from_weaker_scales():
    [guide] = parse_guides("auto:0.9:2")
    made = add_guides(base(), [guide])
    assert set(made.members[1].scales) == {0.9} and made.members[1].weight == -1
    with pytest.raises(ArtifactError, match="expected weaker scales, got the same"):
        guide_by_weaker(base(), base(), 2)
    with pytest.raises(ArtifactError, match="with the scales of this one"):
        guide_by_weaker(base(), base(granularity="block"), 2)
    with pytest.raises(ArtifactError, match="base or a factor"):
        add_guides(base(), parse_guides("auto:weak.json:2"))


def test_strength_0_changes_no_weight():
    for made in (skip_layers(base(), "7", 0.0, 0.0, 1.0), guide_by_negative(base(), 1.0)):
        assert [weights_at(made.members, i, 8)[0] for i in range(8)] == [1.0] * 8
        assert count_evaluations(made.members, 8) == 8


def test_blocks_are_numbers_where_there_is_one_kind_and_names_where_there_are_two():
    assert find_blocks(base().names, "7-9") == ("block.7", "block.8", "block.9")
    assert find_blocks(base(FLUX).names, "single.1,double.0-1") == ("double.0", "double.1", "single.1")
    known = "expected some of double.0 to double.2, single.0 to single.3, got '7'"
    with pytest.raises(ArtifactError, match=known):
        skip_layers(base(FLUX), "7")
    with pytest.raises(ArtifactError, match=r"block.0 to block.11, got '12'"):
        skip_layers(base(), "12")
    with pytest.raises(ArtifactError, match="got all of them"):
        skip_layers(base(), "0-11")
    with pytest.raises(ArtifactError, match="got 'nothing'"):
        skip_layers(base(), "")


def test_attention_needs_a_scale_of_its_own():
    made = skip_attention(base(), "7", 3)
    zeros = [name for name, s in zip(made.names, made.members[1].scales, strict=True) if s == 0]
    assert zeros == ["block.7.attn"]
    with pytest.raises(ArtifactError, match="no scale of its own for attention at block granularity"):
        skip_attention(base(granularity="block"), "7", 3)
    with pytest.raises(ArtifactError, match=r"single.0 has no scale of its own"):
        skip_attention(base(FLUX), "single.0", 3)


def test_a_block_that_goes_on_acting_is_no_skipped_one():
    config = {"num_layers": 4}
    every = every_site("PixArtTransformer2DModel", config)
    sites = sites_of_config("PixArtTransformer2DModel", config)
    made = Calibration.base(Layout.from_sites(sites, "layer"))
    words = r"block.2 cannot be left out: its branch cross.2.img.attn2 has a scale only .*\+cross"
    with pytest.raises(ArtifactError, match=words):
        skip_layers(made, "2", every=every)
    whole = skip_layers(Calibration.base(Layout.from_sites(every, "layer")), "block.2", every=every)
    zeros = [name for name, s in zip(whole.names, whole.members[1].scales, strict=True) if s == 0]
    assert zeros == ["block.2.attn", "block.2.mlp", "cross.2.attn2"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"strength": -1.0}, "a strength from 0"),
        ({"strength": float("nan")}, "a strength from 0"),
        ({"start": 0.5, "stop": 0.5}, "start before stop"),
        ({"stop": 1.5}, "shares of the trajectory from 0 to 1"),
    ],
)
def test_strengths_and_shares_that_cannot_be_are_refused(change, words):
    with pytest.raises(ArtifactError, match=words):
        skip_layers(base(), "7", **change)


def test_only_members_with_phases_need_the_new_format():
    plain, guided = guide_by_negative(base(), 4), skip_layers(base(), "7")
    assert json.loads(plain.to_json())["format"] == FORMAT
    assert "balanced" not in plain.to_json() and "start" not in plain.to_json()
    assert json.loads(guided.to_json())["format"] == WITH_PHASES
    again = Calibration.from_json(guided.to_json())
    assert again.members == guided.members and again.hash == guided.hash
    assert guided.hash != skip_layers(base(), "7", stop=0.3).hash


def test_old_hashes_stay():
    old = Calibration(granularity="block", names=("a.0", "a.1"), members=(Member(scales=(1.0, 1.1)),))
    content = (
        '{"backbone": "", "granularity": "block", "members": [{"condition": "positive", '
        '"scales": [1.0, 1.1], "weight": 1.0}], "names": ["a.0", "a.1"]}'
    )
    assert old.hash == hashlib.sha256(content.encode()).hexdigest()


def test_members_that_cannot_be_are_refused():
    ones = (1.0,) * len(base().names)
    with pytest.raises(ArtifactError, match="a balanced one needs a positive one"):
        Calibration(**{**dict(base()), "members": (Member(scales=ones, balanced=True),)})
    with pytest.raises(ArtifactError, match=r"start before stop, got 0.6 and 0.4"):
        Member(scales=ones, start=0.6, stop=0.4)
    with pytest.raises(RenderError, match="at step 3 of 4 no member counts"):
        weights_by_step([Member(scales=ones, stop=0.5)], 4)


def test_other_granularities_keep_the_phase():
    layouts = [Layout.from_sites(sites_of_config(*SD3), g) for g in ("layer", "gate", "block")]
    made = skip_layers(base(), "7")
    for layout in layouts:
        moved = made.on_layout(layout).members[1]
        assert (moved.start, moved.stop, moved.balanced) == (0.01, 0.2, True)
        assert {n.split(".")[1] for n, s in zip(layout.names, moved.scales, strict=True) if s == 0} == {"7"}


def test_guidance_is_added_where_the_hash_was_asked_for_before():
    calibration = base()
    assert calibration.hash
    assert len(guide_by_negative(calibration, 4.0).members) == 2
    assert len(skip_layers(calibration, "7").members) == 2


def test_the_strengths_of_a_lora_are_no_blocks_of_the_backbone():
    names = (*base().names, "lora.ink.block.3")
    assert find_blocks(names, "7,8") == ("block.7", "block.8")
    with pytest.raises(ArtifactError, match="got all of them"):
        find_blocks(names, "0-11")


def test_without_loras_members_keep_their_phases():
    first, ones = base(), (1.0,) * (len(base().names) + 1)
    part = Member(scales=ones, weight=-2.0, start=0.1, stop=0.5, balanced=True)
    mixed = first.changed(names=(*first.names, "lora.ink.block.3"), members=(Member(scales=ones), part))
    kept = mixed.without_loras()
    assert kept.names == first.names
    assert [(m.start, m.stop, m.balanced) for m in kept.members] == [(0.0, 1.0, False), (0.1, 0.5, True)]
