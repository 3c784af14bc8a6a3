"""Tiny models of ComfyUI's own classes, with the weights of tiny models of diffusers.

They need a checkout of ComfyUI, and what it needs, beside what the tests need:

    CALIBRI_COMFYUI=../ComfyUI python -m pytest tests/integrations
    CALIBRI_COMFYUI=../ComfyUI python -m tests.comfy_models      # writes tests/data/comfyui-modules.json anew
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel, SD3Transformer2DModel

from tests.house import ROOT
from tests.tiny import fill, flux_transformer

CHECKOUT = os.environ.get("CALIBRI_COMFYUI", "")
RECORDED = ROOT / "tests" / "data" / "comfyui-modules.json"
TOKENS, SIDE = 5, 8  # of text; of latents


def comfy() -> Any:
    """ComfyUI's packages, on the CPU."""
    if CHECKOUT not in sys.path:
        sys.path.append(CHECKOUT)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.model_base
    import comfy.model_detection
    import comfy.model_patcher
    import comfy.samplers
    import comfy.supported_models

    return comfy


def is_here() -> bool:
    """Whether ComfyUI can be imported."""
    if not CHECKOUT:
        return False
    comfy()
    return True


def sd3_transformer() -> SD3Transformer2DModel:
    """With heads of 64, as all of SD3 has; its first block has a second image attention."""
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=64,
        num_attention_heads=3,
        joint_attention_dim=32,
        caption_projection_dim=192,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    fill(transformer, 0)
    return transformer


def qwen_transformer() -> QwenImageTransformer2DModel:
    """On 16 latent channels, as the VAE of all of them has."""
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    fill(transformer, 0)
    return transformer


@dataclass(frozen=True)
class Twin:
    """A family in both programs. `make`: diffusers' model. `config`: ComfyUI's class of its configuration.
    `told`: what that is told which cannot be seen from so small weights. `text`, `pooled`: their widths.
    `shape`: of a picture's latents. `predict`: diffusers' prediction for latents, noise levels, text and
    pooled text.
    """

    make: Callable[[], torch.nn.Module]
    config: str
    told: Mapping[str, Any]
    text: int
    pooled: int
    shape: tuple[int, ...]
    predict: Callable[..., torch.Tensor]


def packed(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) → (B, H·W/4, 4·C)"""
    tokens = x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))  # (B, C, H/2, 2, W/2, 2)
    return tokens.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: torch.Tensor) -> torch.Tensor:
    """The way back, to SIDE × SIDE."""
    parts = tokens.unflatten(1, (SIDE // 2, SIDE // 2)).unflatten(-1, (-1, 2, 2))
    return parts.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def predict_flux(model: Any, x: Any, sigma: Any, text: Any, pooled: Any) -> torch.Tensor:
    rows = torch.arange(SIDE // 2, dtype=torch.float32)
    places = torch.stack(torch.meshgrid(rows, rows, indexing="ij"), -1).flatten(0, 1)
    told = {"guidance": torch.full((len(x),), 3.5), "txt_ids": torch.zeros(text.shape[1], 3)}
    told["img_ids"] = torch.nn.functional.pad(places, (1, 0))
    found = model(packed(x), text, pooled, sigma, return_dict=False, **told)[0]
    return unpacked(found)


def predict_sd3(model: Any, x: Any, sigma: Any, text: Any, pooled: Any) -> torch.Tensor:
    found: torch.Tensor = model(x, text, pooled, sigma * 1000, return_dict=False)[0]
    return found


def predict_qwen(model: Any, x: Any, sigma: Any, text: Any, pooled: Any) -> torch.Tensor:
    shapes = [[(1, SIDE // 2, SIDE // 2)]] * len(x)
    found = model(packed(x[:, :, 0]), text, timestep=sigma, img_shapes=shapes, return_dict=False)[0]
    return unpacked(found)[:, :, None]


TWINS = {
    "flux": Twin(
        lambda: flux_transformer(guidance_embeds=True),
        "Flux",
        {"num_heads": 2, "axes_dim": [4, 4, 8], "hidden_size": 32, "context_in_dim": 32, "out_channels": 4},
        32,
        24,
        (4, SIDE, SIDE),
        predict_flux,
    ),
    "sd3": Twin(sd3_transformer, "SD3", {}, 32, 32, (4, SIDE, SIDE), predict_sd3),
    "qwen": Twin(
        qwen_transformer,
        "QwenImage",
        {
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 16,
            "axes_dims_rope": (4, 4, 8),
        },
        16,
        8,
        (16, 1, SIDE, SIDE),
        predict_qwen,
    ),
}


@cache
def opened(name: str) -> tuple[Any, Any]:
    """diffusers' transformer, and a ModelPatcher of ComfyUI with the same weights, converted by ComfyUI."""
    twin, program = TWINS[name], comfy()
    transformer = twin.make()
    weights = {key: value.clone() for key, value in transformer.state_dict().items()}
    converted = program.model_detection.convert_diffusers_mmdit(dict(weights)) or weights
    found = program.model_detection.detect_unet_config(converted, "")
    config = getattr(program.supported_models, twin.config)({**found, **twin.told})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(converted, "")
    model.diffusion_model.load_state_dict(converted)
    model.eval()
    cpu = torch.device("cpu")
    return transformer, program.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def at_full_size(backbone: str) -> torch.nn.Module:
    """ComfyUI's model of a published backbone, without its weights."""
    program = comfy()
    told = {"dtype": torch.bfloat16, "device": "meta", "operations": program.ops.disable_weight_init}
    if backbone == "Qwen-Image":
        return program.ldm.qwen_image.model.QwenImageTransformer2DModel(**told)
    if backbone.startswith("FLUX"):
        config = {"in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096}
        config |= {
            "hidden_size": 3072,
            "mlp_ratio": 4.0,
            "num_heads": 24,
            "depth": 19,
            "depth_single_blocks": 38,
        }
        config |= {"axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True}
        return program.ldm.flux.model.Flux(guidance_embed=True, **config, **told)
    depth, dual = (24, range(13)) if backbone == "SD3.5-medium" else (38, ())
    config = {
        "input_size": None,
        "in_channels": 16,
        "depth": depth,
        "adm_in_channels": 2048,
        "qk_norm": "rms",
    }
    wrapper = program.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper
    return wrapper(x_block_self_attn_layers=list(dual), **config, **told)


def list_modules(model: torch.nn.Module) -> dict[str, Any]:
    """Path → (rows, columns) of a Linear, or the class of another module."""
    return {
        path: [each.out_features, each.in_features]
        if isinstance(each, torch.nn.Linear)
        else type(each).__name__
        for path, each in model.named_modules()
        if path
    }


def recorded() -> dict[str, Any]:
    """Of each family the class and the modules of ComfyUI's tiny model, from tests/data."""
    return dict(json.loads(RECORDED.read_text(encoding="utf-8")))


def record() -> dict[str, Any]:
    """The same of today's ComfyUI."""
    models = {name: opened(name)[1].model.diffusion_model for name in TWINS}
    return {
        name: {"class": type(each).__name__, "modules": list_modules(each)} for name, each in models.items()
    }


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(record(), indent=0) + "\n", encoding="utf-8")
    print(Path(RECORDED).name)
