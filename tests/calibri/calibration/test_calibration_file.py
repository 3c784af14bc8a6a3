"""The saved artefact: what is written is what is read, and what is wrong says so."""

import json
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of_config
from calibri.calibration.artifact import (
    LARGEST_FILE,
    LARGEST_FOUND,
    LONGEST_NAME,
    MOST_MEMBERS,
    MOST_NAMES,
    MOST_SCALES,
    Calibration,
    Member,
)
from calibri.errors import ArtifactError, LayoutError

SITES = sites_of_config("FluxTransformer2DModel", {"num_layers": 1, "num_single_layers": 1})
BLOCK, GATE = Layout.from_sites(SITES, "block"), Layout.from_sites(SITES, "gate")


def make(**changes):
    values = {
        "title": "A “title”",
        "backbone": "tabletop",
        "granularity": "block",
        "names": BLOCK.names,
        "members": (
            Member(scales=(1.1, 0.9), weight=1.5),
            Member(scales=(1.0, 1.2), weight=-0.5, condition="negative"),
        ),
        "found": {"images": 12, "gain": {"judge": 0.5}},
    }
    return Calibration(**(values | changes))


def test_a_file_gives_back_what_was_saved(tmp_path):
    make().save(tmp_path / "new folder" / "c.json")
    assert Calibration.load(tmp_path / "new folder" / "c.json") == make()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_numbers_survive_to_the_last_bit(scales):
    calibration = make(members=(Member(scales=scales),))
    assert Calibration.from_json(calibration.to_json()).members[0].scales == tuple(scales)


def test_saving_leaves_one_readable_file(tmp_path):
    for _ in range(2):
        make().save(tmp_path / "c.json")
    assert os.listdir(tmp_path) == ["c.json"]
    assert stat.S_IMODE((tmp_path / "c.json").stat().st_mode) == 0o644


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    make().save(tmp_path / "c.json")
    before = (tmp_path / "c.json").read_text()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left"):
        make(title="new").save(tmp_path / "c.json")
    assert (tmp_path / "c.json").read_text() == before
    assert os.listdir(tmp_path) == ["c.json"]


def test_the_hash_tells_pictures_apart_and_nothing_else():
    assert make(title="other", found={}).hash == make().hash
    assert make(members=(Member(scales=(1.1, 0.9)),)).hash != make().hash
    assert make(backbone="other").hash != make().hash
    assert Calibration.from_json(make().to_json()).hash == make().hash


def test_one_member_is_calibrated_and_several_are_an_ensemble():
    assert make().is_ensemble
    assert not make(members=(Member(scales=(1.1, 0.9)),)).is_ensemble


def test_the_base_has_all_scales_one():
    base = Calibration.base(GATE)
    assert base.members == (Member(scales=(1.0,) * len(GATE.names)),)
    assert base.names == GATE.names


def test_it_can_be_read_at_another_granularity():
    finer = make().on_layout(GATE)
    assert finer.names == GATE.names
    assert finer.members[0].scales == (1.1, 1.1, 1.1, 1.1, 0.9)
    assert finer.members[1].condition == "negative"
    assert finer.on_layout(BLOCK).members[0].scales == pytest.approx((1.1, 0.9))


def test_another_backbones_names_are_refused():
    other = Layout.from_sites(
        sites_of_config("FluxTransformer2DModel", {"num_layers": 2, "num_single_layers": 1}), "gate"
    )
    with pytest.raises(LayoutError, match=r"'double\.1' is missing"):
        make().on_layout(other)


def test_it_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        make().title = "other"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"granularity": "head"}, "granularity.*'head'"),
        ({"names": ("a", "a")}, "'a' comes twice"),
        ({"members": ()}, "members"),
        ({"members": (Member(scales=(1.0,)),)}, "member 1: expected 2 scales.*got 1"),
        ({"members": (Member(scales=(1.0, 1.0), weight=0.0),)}, "at least one weight"),
        ({"members": [{"scales": [1.0, float("nan")]}]}, "member 1: scales.1.*finite"),
        ({"members": [{"scales": [1.0, 1.0]}, {"scales": [1.0, "2"]}]}, "member 2: scales.1.*'2'"),
        ({"members": [{"scales": [1.0, True]}]}, "scales.1"),
        ({"members": [{"scales": [1.0, 1.0], "weight": float("inf")}]}, "weight"),
        ({"members": [{"scales": [1.0, 1.0], "condition": "none"}]}, "condition"),
        ({"members": [{"scales": [1.0, 1.0], "scale": 1}]}, "member 1: scale"),
        ({"members": "x"}, "members"),
        ({"found": {"score": float("nan")}}, "found: must be plain JSON"),
        ({"found": {"score": object()}}, "found: must be plain JSON"),
        ({"colour": "red"}, "colour"),
        ({"format": "calibri-calibration/3"}, "format"),
    ],
)
def test_wrong_content_is_named(changes, words):
    with pytest.raises(ArtifactError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not valid JSON"),
        ("[1]", "expected a JSON object"),
        ("{}", "expected the format"),
        ('{"format": 1}', "expected the format"),
        ("[" * 100_000, "not valid JSON: expected JSON of at most 64 levels"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON: expected an integer of at most 400 digits, got 5000"),
        (b"\xff\xfe", "not a text file"),
    ],
)
def test_files_that_are_none_say_where(tmp_path, text, words):
    path = tmp_path / "c.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ArtifactError, match=words) as caught:
        Calibration.load(path)
    assert "c.json" in str(caught.value)


def test_a_missing_and_a_huge_file_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        Calibration.load(tmp_path / "none.json")
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(ArtifactError, match=f"at most {LARGEST_FILE} bytes, got {LARGEST_FILE + 1}"):
        Calibration.load(tmp_path / "huge.json")


def test_the_file_is_one_line_a_member():
    lines = make().to_json().splitlines()
    assert sum('"scales"' in line for line in lines) == 2
    assert json.loads(make().to_json())["members"][1]["weight"] == -0.5


def found_of(size):
    return {"a": "x" * (size - len('{"a": ""}'))}


@pytest.mark.parametrize(
    "change, most, words",
    [
        (lambda n: {"found": found_of(n)}, LARGEST_FOUND, "found: expected at most {} bytes of JSON, got {}"),
        (lambda n: {"members": (Member(scales=(1.0, 1.0)),) * n}, MOST_MEMBERS, "at most {}, got {}"),
        (
            lambda n: {"names": [str(i) for i in range(n)], "members": (Member(scales=(1.0,) * n),)},
            MOST_NAMES,
            "names: .* at most {} items",
        ),
        (lambda n: {"names": ["a", "b" * n]}, LONGEST_NAME, "names.1: .* at most {} characters"),
    ],
)
def test_the_format_has_limits(change, most, words):
    make(**change(most))
    with pytest.raises(ArtifactError, match=words.format(most, most + 1)):
        make(**change(most + 1))


def test_all_scales_together_have_a_limit():
    names = [str(i) for i in range(MOST_SCALES // 20)]
    member = Member(scales=(1.0,) * len(names))
    make(names=names, members=(member,) * 20)
    with pytest.raises(ArtifactError, match=f"at most {MOST_SCALES} scales together, got"):
        make(names=names, members=(member,) * 21)
