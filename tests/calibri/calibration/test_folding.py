"""A member in the weights paints what the hooks paint; what would be wrong is refused."""

import copy

import numpy as np
import pytest
import torch

from calibri.backbones.sites import sites_of
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.fold import fold, fold_calibration
from calibri.errors import CalibriError
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.renderer import Renderer, RenderRequest
from tests import golden_cases as golden
from tests.tiny import flux_transformer, tiny_backbone


def scales_for(sites, seed=0):
    return np.random.default_rng(seed).normal(1, 0.3, len(sites))


def test_folding_equals_hooks():
    model = golden.transformer("flux")
    inputs, sites = golden.inputs("flux"), sites_of(model)
    with torch.no_grad(), ScaleHooks(model, sites) as hooks:
        hooks.set(scales_for(sites))
        hooked = model(**inputs, return_dict=False)[0]
    fold(model, scales_for(sites))
    with torch.no_grad():
        folded = model(**inputs, return_dict=False)[0]
    torch.testing.assert_close(folded, hooked, atol=1e-5, rtol=1e-5)


def test_a_folded_pipeline_paints_the_calibrated_picture():
    backbone = tiny_backbone()
    layout = backbone.layout("layer")
    calibration = Calibration(
        granularity="layer", names=layout.names, members=(Member(scales=scales_for(layout.names).tolist()),)
    )
    request = RenderRequest.of("a red cube", 1, 2, calibration=calibration)
    (hooked,) = Renderer(backbone).render([request])
    fold_calibration(backbone, calibration)
    (folded,) = Renderer(backbone).render([RenderRequest("a red cube", 1, 2)])
    difference = np.abs(np.asarray(hooked.image).astype(int) - np.asarray(folded.image))
    assert difference.max() <= 1


def test_an_ensemble_cannot_be_folded():
    backbone = tiny_backbone()
    names = backbone.layout("block").names
    members = (Member(scales=(1.0,) * len(names)),) * 2
    calibration = Calibration(granularity="block", names=names, members=members)
    with pytest.raises(CalibriError, match="ensemble of 2"):
        fold_calibration(backbone, calibration)


def test_another_weight_cannot_be_folded():
    backbone = tiny_backbone()
    names = backbone.layout("block").names
    member = Member(scales=(1.0,) * len(names), weight=1.2)
    with pytest.raises(CalibriError, match=r"weight 1\.2"):
        fold_calibration(backbone, Calibration(granularity="block", names=names, members=(member,)))


def with_lora(model):
    from peft import LoraConfig

    model.add_adapter(LoraConfig(r=2, target_modules=["norm1.linear"]))


def on_meta(model):
    model.transformer_blocks[1].norm1.linear.to("meta")


def quantised(model):
    class Linear8bit(torch.nn.Linear):
        pass

    model.single_transformer_blocks[0].norm.linear = Linear8bit(32, 96)


def in_fp8(model):
    model.single_transformer_blocks[2].norm.linear.to(torch.float8_e4m3fn)


def shared(model):
    model.transformer_blocks[1].norm1.linear = model.transformer_blocks[0].norm1.linear


@pytest.mark.parametrize(
    "change, words",
    [
        (with_lora, "LoRA"),
        (on_meta, "sequential offload"),
        (quantised, "Linear8bit"),
        (in_fp8, "float8"),
        (shared, "same Linear"),
    ],
)
def test_what_would_be_wrong_is_refused_and_nothing_changes(change, words):
    model = flux_transformer()
    sites = sites_of(model)
    change(model)
    first = model.single_transformer_blocks[1].norm.linear.weight
    before = copy.deepcopy(first.data)
    with pytest.raises(CalibriError, match=words):
        fold(model, scales_for(sites), sites)
    assert torch.equal(first.data, before)


@pytest.mark.parametrize("values", [[1.0], [float("nan")] * 11])
def test_wrong_scales_are_refused(values):
    with pytest.raises(CalibriError):
        fold(flux_transformer(), values)
