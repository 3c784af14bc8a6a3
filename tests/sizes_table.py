"""The table calibri/backbones/known_sizes.py: the published configurations, built without weights.

    PYTHONPATH=$PWD python -m tests.sizes_table

Configurations: the defaults of diffusers' classes, which are those of the published models, and what the
models' config.json say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from calibri.backbones.sizes import Header, Part, Sizes, measure_part, measure_stream

HEAD = '''"""Sizes of published models, in values: written by `python -m tests.sizes_table`."""

from __future__ import annotations

from calibri.backbones.sizes import Part, Sizes

SOURCE = "this version's table of published configurations"

KNOWN: dict[str, Sizes] = {
'''
SD3: dict[str, Any] = {
    "attention_head_dim": 64,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "sample_size": 128,
}


def _bare(class_name: str, *config: Any, library: str = "diffusers", **values: Any) -> torch.nn.Module:
    import importlib

    with torch.device("meta"):
        return getattr(importlib.import_module(library), class_name)(*config, **values)


def _text(class_name: str, config: str, **values: Any) -> torch.nn.Module:
    import transformers

    return _bare(class_name, getattr(transformers, config)(**values), library="transformers")


def _sd3(blocks: int, heads: int, **values: Any) -> torch.nn.Module:
    width = {"num_attention_heads": heads, "caption_projection_dim": 64 * heads}
    return _bare("SD3Transformer2DModel", num_layers=blocks, **width, **SD3, **values)


def _clip(width: int, layers: int, projected: bool) -> torch.nn.Module:
    kind = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width}
    return _text(kind, "CLIPTextConfig", **sizes, num_hidden_layers=layers, num_attention_heads=width // 64)


def _t5() -> torch.nn.Module:
    sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    return _text("T5EncoderModel", "T5Config", **sizes, feed_forward_proj="gated-gelu", vocab_size=32128)


def _qwen3(width: int, inner: int, tied: bool) -> torch.nn.Module:
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    return _text(
        "Qwen3ForCausalLM",
        "Qwen3Config",
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=36,
        vocab_size=151936,
        tie_word_embeddings=tied,
        **heads,
    )


def _gemma2() -> torch.nn.Module:
    sizes = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "head_dim": 256}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    return _text("Gemma2Model", "Gemma2Config", **sizes, **heads, vocab_size=256000)


def _qwen25() -> torch.nn.Module:
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4}
    text = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "vocab_size": 152064}
    sight = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    return _text(
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLConfig",
        text_config={**text, **heads, "tie_word_embeddings": False},
        vision_config={**sight, "out_hidden_size": 3584},
    )


def _vae16() -> torch.nn.Module:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    more = {"use_quant_conv": False, "use_post_quant_conv": False, "layers_per_block": 2}
    widths = (128, 256, 512, 512)
    return _bare("AutoencoderKL", block_out_channels=widths, latent_channels=16, **blocks, **more)


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "flux-dev": lambda: _bare("FluxTransformer2DModel", guidance_embeds=True),
    "flux-schnell": lambda: _bare("FluxTransformer2DModel"),
    "chroma": lambda: _bare("ChromaTransformer2DModel"),
    "sd3-medium": lambda: _sd3(24, 24, pos_embed_max_size=192),
    "sd3.5-medium": lambda: _sd3(
        24, 24, pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"
    ),
    "sd3.5-large": lambda: _sd3(38, 38, pos_embed_max_size=192, qk_norm="rms_norm"),
    "qwen-image": lambda: _bare("QwenImageTransformer2DModel"),
    "z-image": lambda: _bare("ZImageTransformer2DModel"),
    "lumina2": lambda: _bare("Lumina2Transformer2DModel"),
    "pixart": lambda: _bare("PixArtTransformer2DModel", sample_size=128, caption_channels=4096),
    "t5-xxl": _t5,
    "clip-l": lambda: _clip(768, 12, False),
    "clip-l-projected": lambda: _clip(768, 12, True),
    "clip-g": lambda: _clip(1280, 32, True),
    "qwen2.5-vl-7b": _qwen25,
    "qwen3-4b": lambda: _qwen3(2560, 9728, True),
    "gemma2-2b": _gemma2,
    "vae-16": _vae16,
    "vae-qwen": lambda: _bare("AutoencoderKLQwenImage"),
}
_OF_SD3 = {"text_encoder": "clip-l-projected", "text_encoder_2": "clip-g", "text_encoder_3": "t5-xxl"}
_OF_FLUX = {"text_encoder": "clip-l", "text_encoder_2": "t5-xxl", "vae": "vae-16"}
PIPELINES: dict[str, dict[str, str]] = {
    "FLUX.1-dev": {"transformer": "flux-dev", **_OF_FLUX},
    "FLUX.1-schnell": {"transformer": "flux-schnell", **_OF_FLUX},
    "Chroma1-HD": {"transformer": "chroma", "text_encoder": "t5-xxl", "vae": "vae-16"},
    "SD3-medium": {"transformer": "sd3-medium", **_OF_SD3, "vae": "vae-16"},
    "SD3.5-medium": {"transformer": "sd3.5-medium", **_OF_SD3, "vae": "vae-16"},
    "SD3.5-large": {"transformer": "sd3.5-large", **_OF_SD3, "vae": "vae-16"},
    "Qwen-Image": {"transformer": "qwen-image", "text_encoder": "qwen2.5-vl-7b", "vae": "vae-qwen"},
    "Z-Image-Turbo": {"transformer": "z-image", "text_encoder": "qwen3-4b", "vae": "vae-16"},
    "Z-Image": {"transformer": "z-image", "text_encoder": "qwen3-4b", "vae": "vae-16"},
    "Lumina-Image-2.0": {"transformer": "lumina2", "text_encoder": "gemma2-2b", "vae": "vae-16"},
}


@cache
def header_of(model: str) -> Header:
    """What the headers of its files would say."""
    made = MODELS[model]()
    tied = {id(p): name for name, p in reversed(list(made.named_parameters(remove_duplicate=False)))}
    return {
        name: ("BF16" if tensor.is_floating_point() else "I64", tuple(tensor.shape))
        for name, tensor in made.state_dict(keep_vars=True).items()
        if tied.get(id(tensor), name) == name
    }


def sizes_of(pipeline: str) -> Sizes:
    """The sizes of a published pipeline."""
    found = PIPELINES[pipeline]
    parts = tuple(measure_part(name, header_of(model)) for name, model in found.items())
    channels = 192 if found["vae"] == "vae-qwen" else 256
    return measure_stream(header_of(found["transformer"]), parts, token=16, channels=channels)


def _write(sizes: Sizes) -> list[str]:
    def part(each: Part) -> str:
        numbers = (each.values, each.matrix, each.block, each.rest, each.leaf, each.fixed)
        return f'            Part("{each.name}", {", ".join(f"{number:_}" for number in numbers)}),'

    numbers = (sizes.width, sizes.hidden, sizes.blocks, sizes.work, sizes.token, sizes.channels)
    return [
        "        (",
        *map(part, sizes.parts),
        "        ),",
        f"        {', '.join(map(str, numbers))}, SOURCE,",
    ]


def main() -> None:
    lines = [HEAD.rstrip()]
    for name in PIPELINES:
        lines += [f'    "{name}": Sizes(', *_write(sizes_of(name)), "    ),"]
    place = Path(__file__).parents[1] / "calibri" / "backbones" / "known_sizes.py"
    place.write_text("\n".join([*lines, "}"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
