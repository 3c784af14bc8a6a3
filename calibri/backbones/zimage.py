"""Z-Image: sites of `ZImageTransformer2DModel` (Turbo, base, Omni).

Read from diffusers 0.42, models/transformers/transformer_z_image.py. A gate is tanh of a modulation chunk,
times a norm of the branch: only the norm's output, and its weight, can be multiplied. The two refiners of the
noise have gates as well, those of the text have none; both are further sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts, frame_chat
from calibri.backbones.sites import Layer, Site, sites_of_outputs


def _ends(module: str) -> list[tuple[Layer, str, str]]:
    norms: tuple[tuple[Layer, str], ...] = (("attn", "attention_norm2"), ("mlp", "ffn_norm2"))
    return [(layer, f"{module}.{norm}", f"{module}.{norm}") for layer, norm in norms]


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Two sites a block, on image and text tokens together; before them those of the refiners."""
    found = []
    for b in range(config.get("n_refiner_layers", 0)):
        found += sites_of_outputs(f"noise.{b}", "img", _ends(f"noise_refiner.{b}"), "refiners")
    for b in range(config.get("n_refiner_layers", 0)):
        found += sites_of_outputs(f"context.{b}", "txt", _ends(f"context_refiner.{b}"), "refiners")
    for b in range(config["n_layers"]):
        found += sites_of_outputs(f"block.{b}", "joint", _ends(f"layers.{b}"))
    return tuple(found)


def _frame(pipeline: Any, prompt: str) -> str:
    return frame_chat(pipeline.tokenizer, prompt, enable_thinking=True)


# The pipeline's guidance g adds g times the difference: ours is g + 1.
FACTS = {
    "ZImagePipeline": PipelineFacts(
        encoded=("prompt_embeds",),
        rows={"cap_feats": "prompt_embeds"},
        off={"guidance_scale": 0.0},
        encode={"do_classifier_free_guidance": False},
        repeated=("x", "t"),
        as_list=True,
        pads=False,
        frame=_frame,
    ),
    "ZImageOmniPipeline": PipelineFacts(
        encoded=("prompt_embeds",),
        rows={"cap_feats": "prompt_embeds"},
        off={"guidance_scale": 0.0},
        encode={"do_classifier_free_guidance": False},
        repeated=("x", "t", "siglip_feats", "image_noise_mask"),
        as_list=True,
        nested=True,
        pads=False,
        frame=lambda pipeline, prompt: f"<|im_start|>user\n{prompt}",
    ),
}
PIPELINES = tuple(FACTS)
