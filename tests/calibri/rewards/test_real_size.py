"""The benchmark's checkpoints of the published size are in the published layout."""

from __future__ import annotations

import pytest

from benchmarks.real_size import REAL, RENAMES, UNUSED, empty_model, list_tensors, publish
from calibri.rewards.catalog import CATALOG
from calibri.rewards.fill import _places, count_parameters


@pytest.mark.parametrize("name", RENAMES)
def test_each_tensor_of_the_model_has_its_name_in_the_file(name):
    model = empty_model(name)
    places = _places(model)
    assert all(RENAMES[name](publish(name, own)) == own for own in places)
    assert {published: shape for published, shape in list_tensors(name)} == {
        publish(name, own): place.shape for own, place in places.items()
    }
    assert count_parameters(model) + UNUSED.get(name, 0) == CATALOG[name].parameters


def test_the_names_are_those_of_the_published_files():
    """Some that stand in the files' own indices."""
    known = {
        "hpsv3": [
            "model.layers.27.mlp.down_proj.weight",
            "visual.blocks.31.attn.qkv.bias",
            "rm_head.5.weight",
        ],
        "imagereward": [
            "blip.visual_encoder.blocks.23.attn.qkv.weight",
            "blip.text_encoder.encoder.layer.11.crossattention.self.key.weight",
            "mlp.layers.7.bias",
        ],
        "vqascore-xl": [
            "encoder.block.23.layer.0.SelfAttention.q.weight",
            "vision_tower.vision_tower.vision_model.encoder.layers.23.mlp.fc1.weight",
            "mm_projector.2.bias",
            "lm_head.weight",
        ],
    }
    for name, expected in known.items():
        assert set(expected) <= {published for published, _ in list_tensors(name)}
    assert set(REAL) <= set(CATALOG)
