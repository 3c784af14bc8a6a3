"""Several calibrations as one, and their scales for other programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import sites_of_config
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.compose import compose
from calibri.calibration.export import FORMS, write_scales
from calibri.calibration.reading import parse_calibration
from calibri.cli import main
from calibri.errors import ArtifactError, LayoutError

SITES = sites_of_config("FluxTransformer2DModel", {"num_layers": 4, "num_single_layers": 3})
LAYOUTS = {g: Layout.from_sites(SITES, g) for g in GRANULARITIES}
LAYER = LAYOUTS["layer"]
scale = st.floats(-3, 3).filter(lambda value: value == 0 or abs(value) > 1e-3)
vector = st.lists(scale, min_size=len(LAYER), max_size=len(LAYER))


def made(scales, layout=LAYER, title="", **fields):
    member = Member(scales=tuple(float(v) for v in np.broadcast_to(scales, len(layout))))
    values = {"granularity": layout.granularity, "names": layout.names, "members": (member,), **fields}
    return Calibration(title=title, **values)


@settings(max_examples=50, deadline=None)
@given(vector, vector, st.floats(0.01, 5), st.floats(0.01, 5))
def test_a_blend_is_the_weighted_mean_and_a_product_the_weighted_power(a, b, v, w):
    one, two = np.array(a), np.array(b)
    blend = compose([made(a), made(b)], [v, w]).members[0].scales
    np.testing.assert_allclose(blend, (v * one + w * two) / (v + w), rtol=1e-12, atol=1e-12)
    product = compose([made(a), made(b)], [v, w], "product").members[0].scales
    signs = np.sign(one) * np.sign(two)
    np.testing.assert_allclose(product, signs * np.abs(one) ** v * np.abs(two) ** w, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(vector)
def test_reductions(a):
    """A blend of one with itself is itself; a product with ones is itself, as folding nothing changes it."""
    np.testing.assert_allclose(compose([made(a), made(a)]).members[0].scales, a, rtol=1e-15)
    assert compose([made(a), made(1.0)], way="product").members[0].scales == pytest.approx(a, rel=1e-15)
    assert Calibration.compose([made(a), made(1.0)], [1, 0]).members[0].scales == tuple(a)


def test_granularities_are_brought_together():
    block = made([1.1, 1.2, 1.3, 1.4, 0.9, 0.8, 0.7], LAYOUTS["block"])
    found = compose([block, made(1.0)], [1, 0], layout=LAYOUTS["gate"])
    assert found.granularity == "gate" and found.names == LAYOUTS["gate"].names
    expected = LAYOUTS["block"].convert(block.members[0].scales, LAYOUTS["gate"])
    assert found.members[0].scales == tuple(expected)
    with pytest.raises(ArtifactError, match=r"block granularity.*at layer.*name the granularity"):
        compose([block, made(1.0)])


def test_names_in_another_order_are_the_same_scales():
    ramp = np.linspace(0.5, 1.5, len(LAYER))
    other = made(ramp).model_copy(
        update={"names": LAYER.names[::-1], "members": (Member(scales=tuple(ramp[::-1].tolist())),)}
    )
    assert compose([made(ramp), other]).members[0].scales == pytest.approx(ramp, rel=1e-15)


def test_members_of_ensembles_are_composed_one_by_one():
    def pair(scales, weight):
        ones = (float(scales),) * len(LAYER)
        members = (Member(scales=ones, weight=weight), Member(scales=ones, weight=-0.5, condition="negative"))
        return made(1.0, members=members)

    found = compose([pair(1.0, 1.5), pair(2.0, 2.5)])
    assert [m.weight for m in found.members] == [2.0, -0.5] and set(found.members[1].scales) == {1.5}
    assert [m.weight for m in compose([pair(1.0, 1.5), pair(2.0, 2.5)], way="product").members] == [1.5, -0.5]
    with pytest.raises(ArtifactError, match="the same members in both"):
        compose([pair(1.0, 1.5), made(1.0)])


@pytest.mark.parametrize(
    "parts, weights, way, words",
    [
        ([made(1.0)], None, "blend", "expected 2 to 32 calibrations, got 1"),
        ([made(1.0)] * 2, [1.0], "blend", "expected 2 weights, one for each, got 1"),
        ([made(1.0)] * 2, [1.0, -1.0], "blend", "sum other than 0"),
        ([made(1.0)] * 2, [1.0, float("nan")], "blend", "finite"),
        ([made(1.0)] * 2, None, "sum", "expected blend or product, got 'sum'"),
        ([made(0.0)] * 2, [-1.0, 1.0], "product", "no power below 0"),
        ([made(1.0, backbone="a"), made(1.0, backbone="b")], None, "blend", "is for a, .* for b"),
    ],
)
def test_what_does_not_fit_together_is_a_sentence(parts, weights, way, words):
    with pytest.raises(ArtifactError, match=words):
        compose(parts, weights, way)
    with pytest.raises(LayoutError):
        compose([made(1.0), made(1.0)], layout=Layout("layer", ("x",), ((0,),)))


def test_what_is_composed_names_its_parts():
    one, two = made(1.1, title="Warm"), made(0.9, title="Sharp")
    found = compose([one, two], [2, 1], "product")
    assert found.title == "Warm × Sharp"
    assert [(part["title"], part["hash"], part["weight"]) for part in found.found["of"]] == [
        ("Warm", one.hash, 2.0),
        ("Sharp", two.hash, 1.0),
    ]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None)
@given(vector)
def test_exported_scales_come_back_to_the_last_bit(form, a):
    found = parse_calibration(write_scales(made(a), form), SITES, backbone="tiny")
    assert found.members[0].scales == tuple(a) and found.granularity in ("layer", "block")


def test_the_commands(tmp_path, capsys):
    for title, value in (("Warm", 1.2), ("Sharp", 0.8)):
        made(value, title=title).save(tmp_path / f"{title}.json")
    files = [str(tmp_path / "Warm.json"), str(tmp_path / "Sharp.json")]
    out = tmp_path / "both.json"
    assert main(["compose", *files, "--weights", "3,1", "-o", str(out)]) == 0
    assert Calibration.load(out).members[0].scales[0] == pytest.approx(1.1)
    assert "“Warm + Sharp”, layer, scales 1.10 to 1.10" in capsys.readouterr().out
    assert main(["export", files[0], "--as", "csv", "-o", str(tmp_path / "warm.csv")]) == 0
    assert (tmp_path / "warm.csv").read_text().splitlines()[:2] == ["name,scale", "double.0.attn,1.2"]
    assert main(["compose", *files, "--weights", "3;1"]) == 1
    assert "--weights: expected numbers" in capsys.readouterr().err
    assert main(["export", files[0], "--member", "2"]) == 1
