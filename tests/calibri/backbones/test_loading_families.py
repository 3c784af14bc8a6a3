"""Stable Diffusion 3 and Qwen-Image from folders paint on a CPU what the pipeline in memory paints."""

import numpy as np
import pytest

import calibri
from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.loading import Backbone, load_backbone
from tests.tiny_families import tiny_qwen, tiny_sd3


@pytest.mark.parametrize("make", [tiny_sd3, tiny_qwen])
def test_a_saved_pipeline_of_another_family_loads_and_paints_the_same(make, tmp_path):
    pipeline = make()
    pipeline.save_pretrained(tmp_path / "saved")  # SD3 without its T5; Qwen's decoder with 3-D convolutions
    saved = load_backbone(tmp_path / "saved", device="cpu")
    here = Backbone(pipeline, BackboneSpec(name="here", source="memory"))
    settings = {"seeds": 3, "steps": 2, "height": 16, "width": 16}
    a, b = (calibri.render(backbone, "a red cube", **settings)[0] for backbone in (saved, here))
    assert np.asarray(a).std() > 0
    np.testing.assert_allclose(np.asarray(a).astype(int), np.asarray(b).astype(int), atol=1)
