"""Files with scales of every kind that people have."""

import json

import pytest

from calibri.backbones.catalog import resolve
from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import sites_of_config
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.reading import parse_calibration, read_calibration, read_for_backbone
from calibri.errors import ArtifactError, CalibriError, LayoutError

SPEC = resolve("tabletop")
SITES = sites_of_config(*SPEC.transformer)
LAYOUTS = {g: Layout.from_sites(SITES, g) for g in GRANULARITIES}
CHECKPOINT = {
    "solution": [1.1] * 16 + [1.0],
    "shapes": {"n_models": 1, "n_double": 4, "n_single": 8, "doubles_main": 8},
    "step": 3,
}
OWN = Calibration(
    title="Own",
    backbone="tabletop",
    granularity="layer",
    names=LAYOUTS["layer"].names,
    members=(Member(scales=(1.1,) * 16),),
)


@pytest.mark.parametrize(
    "text, granularity",
    [
        (OWN.to_json(), "layer"),
        (json.dumps(CHECKPOINT), "layer"),
        ("double = 1.1; single = 1.1", "block"),
        ("* = 1.1\ndouble.0.attn = 1.1", "layer"),
        ("* = 1.1\ndouble.0.img.attn = 1.1", "gate"),
        ("name,scale\n" + "".join(f"{name},1.1\n" for name in LAYOUTS["gate"].names), "gate"),
        (json.dumps(dict.fromkeys(LAYOUTS["layer"].names, 1.1)), "layer"),
        (json.dumps([1.1] * 12), "block"),
        ("1.1 " * 24, "gate"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_each_kind_of_file_is_the_same_calibration(text, granularity, mark, tmp_path):
    path = tmp_path / "Warm edges.txt"
    path.write_text(mark + text, encoding="utf-8")
    found = read_for_backbone(path, "tabletop")
    assert (found.granularity, found.backbone) == (granularity, "tabletop")
    assert found.names == LAYOUTS[granularity].names
    assert set(found.members[0].scales) == {1.1}
    assert found.title == ("Own" if "Own" in text else "Warm edges")


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not valid JSON"),
        ("{}", "expected the format 'calibri-calibration/1', got JSON without a format"),
        ('{"format": "other"}', "got 'other'"),
        ("[1.1, 1.2]", r"12 \(block\), 16 \(layer\), 24 \(gate\); got 2"),
        ("double[0-18] = 1.1", "from 0 to 3, got 18"),
        ("hello there", "expected `name = number`"),
        (json.dumps(CHECKPOINT | {"shapes": {**CHECKPOINT["shapes"], "n_double": 19}}), "of 19, not 4"),
        (OWN.to_json().replace('"granularity": "layer"', '"granularity": "block"'), "at block granularity"),
        (OWN.to_json().replace('"backbone": "tabletop"', '"backbone": "FLUX.1-dev"'), "at layer granularity"),
    ],
)
def test_a_wrong_file_is_a_sentence(text, words):
    with pytest.raises((ArtifactError, LayoutError), match=words):
        parse_calibration(text, SITES, backbone="tabletop")


@pytest.mark.parametrize("text", [json.dumps(CHECKPOINT), "double.0 = 1.1", "[1.1, 1.2]"])
def test_what_does_not_name_its_backbone_needs_one(text):
    with pytest.raises(ArtifactError, match="name the backbone"):
        parse_calibration(text)


def test_a_calibration_of_an_unknown_backbone_is_taken_as_it_is():
    foreign = OWN.model_copy(update={"backbone": "my-model", "names": tuple(f"x.{i}" for i in range(16))})
    assert parse_calibration(foreign.to_json(), SITES, backbone="tabletop").hash == foreign.hash


def test_errors_name_the_file_but_for_a_missing_folder_nothing_else(tmp_path):
    with pytest.raises(CalibriError, match=r"none\.json: No such file"):
        read_calibration(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibriError, match=r"binary\.json: not a text file"):
        read_calibration(tmp_path / "binary.json")
