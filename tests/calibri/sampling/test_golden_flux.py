"""Outputs of the paper's own code on small random FLUX transformers."""

import numpy as np
import pytest
import torch

from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of
from calibri.calibration.official import read_official
from calibri.sampling.ensemble import Rows, member_rows
from calibri.sampling.hooks import ScaleHooks
from tests import golden_cases as golden


@pytest.fixture(scope="module")
def model():
    return golden.transformer("flux")


def predict(model, calibration, inputs):
    """The calibration's prediction, with all members in one forward."""
    sites = sites_of(model)
    layout = Layout.from_sites(sites, calibration.granularity)
    batch = len(inputs["hidden_states"])
    rows = Rows.of([[member.weight for member in calibration.members]] * batch)
    scales = np.stack([layout.expand(calibration.members[k].scales) for _, k in rows.order])
    repeated = ("hidden_states", "timestep")
    per_row = ("encoder_hidden_states", "pooled_projections", "guidance")
    conditions = {name: rows.repeat(inputs[name]) for name in per_row}
    with torch.no_grad(), ScaleHooks(model, sites) as hooks, member_rows(model, rows, repeated, conditions):
        hooks.set(scales)
        return model(**inputs, return_dict=False)[0]


def test_the_base_is_the_same(model):
    with torch.no_grad():
        out = model(**golden.inputs("flux"), return_dict=False)[0]
    assert golden.same(out, golden.expected("flux", "base")["out"])


@pytest.mark.parametrize("case", ["block_k1", "layer_k1", "gate_k1", "layer_k2"])
def test_checkpoints_give_what_the_papers_code_gave(model, case):
    calibration = read_official(golden.checkpoint("flux", case), sites_of(model))
    assert len(calibration.members) == int(case[-1])
    assert calibration.granularity == case.split("_")[0]
    out = predict(model, calibration, golden.inputs("flux"))
    expected = golden.expected("flux", case)["out"]
    assert golden.same(out, expected)
    assert not golden.same(golden.expected("flux", "base")["out"], expected)


def test_the_cases_differ_from_the_base(model):
    base = golden.expected("flux", "base")["out"]
    for case in ("block_k1", "layer_k1", "gate_k1", "layer_k2"):
        assert (golden.expected("flux", case)["out"] - base).abs().max() > 1e-2
