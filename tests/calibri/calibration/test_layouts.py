"""Layouts: which scale drives which site."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import sites_of_config
from calibri.errors import LayoutError

SITES = sites_of_config("FluxTransformer2DModel", {"num_layers": 2, "num_single_layers": 3})
LAYOUTS = {g: Layout.from_sites(SITES, g) for g in GRANULARITIES}


def test_names_run_in_order_of_depth():
    assert LAYOUTS["block"].names == ("double.0", "double.1", "single.0", "single.1", "single.2")
    assert LAYOUTS["layer"].names[:3] == ("double.0.attn", "double.0.mlp", "double.1.attn")
    assert LAYOUTS["layer"].names[-1] == "single.2.fused"
    assert LAYOUTS["gate"].names == tuple(site.name for site in SITES)


def test_a_layer_drives_both_streams():
    layout = LAYOUTS["layer"]
    driven = [SITES[i].name for i in layout.groups[layout.index("double.1.mlp")]]
    assert driven == ["double.1.img.mlp", "double.1.txt.mlp"]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_site_gets_the_scale_of_its_group(granularity):
    layout = LAYOUTS[granularity]
    values = np.arange(1.0, len(layout.names) + 1)
    sites = layout.expand(values)
    for value, group in zip(values, layout.groups, strict=True):
        assert all(sites[i] == value for i in group)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_finer_granularity_and_back_is_exact(data):
    coarse, fine = data.draw(st.sampled_from([("block", "layer"), ("block", "gate"), ("layer", "gate")]))
    here, there = LAYOUTS[coarse], LAYOUTS[fine]
    numbers = st.floats(-10, 10, allow_nan=False)
    values = np.array(data.draw(st.lists(numbers, min_size=len(here), max_size=len(here))))
    np.testing.assert_allclose(there.convert(here.convert(values, there), here), values, atol=1e-12)


def test_a_coarser_granularity_is_the_mean_over_tied_sites():
    gate, block = LAYOUTS["gate"], LAYOUTS["block"]
    values = np.ones(len(gate.names))
    values[:4] = [1.0, 2.0, 3.0, 6.0]
    assert block.expand(gate.convert(values, block))[:4].tolist() == [3.0] * 4


def test_the_same_sites_at_another_granularity():
    assert LAYOUTS["gate"].at("block") == LAYOUTS["block"]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: LAYOUTS["layer"].expand([1.0]), "expected 7 scales"),
        (lambda: LAYOUTS["layer"].expand(np.ones((7, 1))), "shape"),
        (lambda: LAYOUTS["block"].expand([1, 1, float("nan"), 1, 1]), "single.0"),
        (lambda: LAYOUTS["block"].index("double.7"), "double.7"),
        (lambda: Layout.from_sites(SITES, "head"), "'head'.*block, layer, gate"),
        (lambda: Layout.from_sites((), "block"), "at least one site"),
        (lambda: Layout("block", ("a", "a"), ((0,), (1,))), "'a' comes twice"),
        (lambda: Layout("block", ("a",), ((0,), (1,))), "1 names for 2"),
        (lambda: Layout("block", ("a", "b"), ((0,), (0,))), "exactly one"),
        (lambda: Layout("block", ("a",), ((0,),)).convert([1.0], LAYOUTS["block"]), "do not fit"),
        (lambda: Layout("block", ("a",), ((0,),)).at("gate"), "does not know its sites"),
    ],
)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(LayoutError, match=words):
        call()
