"""FLUX.2: sites of `Flux2Transformer2DModel` (dev, klein).

Read from diffusers 0.42, models/transformers/transformer_flux2.py. One modulation Linear makes the gates of
all blocks of a kind, so they are multiplied where a block is given them, and only the branches' last Linears
can be folded. norm1 returns a plain tensor here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts, frame_chat
from calibri.backbones.sites import Argument, Layer, Site, Stream, Whole, make_site

# (stream, layer, argument of the block, its place, chunk of six, last Linear of the branch)
_GATES: tuple[tuple[Stream, Layer, str, int, int, str], ...] = (
    ("img", "attn", "temb_mod_img", 2, 2, "attn.to_out.0"),
    ("img", "mlp", "temb_mod_img", 2, 5, "ff.linear_out"),
    ("txt", "attn", "temb_mod_txt", 3, 2, "attn.to_add_out"),
    ("txt", "mlp", "temb_mod_txt", 3, 5, "ff_context.linear_out"),
)


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Four sites a double block, one a single block."""
    found = []
    for b in range(config["num_layers"]):
        module = f"transformer_blocks.{b}"
        for stream, layer, name, place, chunk, last in _GATES:
            op, fold = Argument(name, place, 6, chunk), Whole((f"{module}.{last}",))
            found.append(make_site(f"double.{b}", stream, layer, module, op, fold))
    for b in range(config["num_single_layers"]):
        module = f"single_transformer_blocks.{b}"
        op, fold = Argument("temb_mod", 2, 3, 2), Whole((f"{module}.attn.to_out",))
        found.append(make_site(f"single.{b}", "joint", "fused", module, op, fold))
    return tuple(found)


def _frame_dev(pipeline: Any, prompt: str) -> str:
    told = [{"role": "system", "content": [{"type": "text", "text": pipeline.system_message}]}]
    told += [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    text = str(pipeline.tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=False))
    return text[: text.rfind(prompt) + len(prompt)] if prompt in text else text


def _frame_klein(pipeline: Any, prompt: str) -> str:
    return frame_chat(pipeline.tokenizer, prompt, enable_thinking=False)


_ROWS = {"encoder_hidden_states": "prompt_embeds"}
FACTS = {
    "Flux2Pipeline": PipelineFacts(encoded=("prompt_embeds",), rows=_ROWS, guidance=4.0, frame=_frame_dev),
    "Flux2KleinPipeline": PipelineFacts(
        encoded=("prompt_embeds",), rows=_ROWS, off={"guidance_scale": 1.0}, frame=_frame_klein
    ),
}
PIPELINES = tuple(FACTS)
