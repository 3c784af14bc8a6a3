"""Parts of tiny random pipelines: tokenizers over bytes, text encoders of the real classes, decoders."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
)
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.tiny import fill

WIDTH = 16  # of every text encoder
#: What matters of the published templates: marks around the message, and one before the answer.
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(*more: str) -> Qwen2Tokenizer:
    """One token a byte, and the marks of chats."""
    marks = ["<|im_start|>", "<|im_end|>", *more]
    vocab = {piece: i for i, piece in enumerate([*sorted(ByteLevel.alphabet()), "<|endoftext|>", *marks])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = CHAT
    return tokenizer


class TextProcessor:
    """What Qwen-Image 2.1 asks of its processor for text alone. The published one needs torchvision."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, messages: list, **options: Any) -> list:
        return [self.tokenizer.apply_chat_template(messages, **options)]

    def __call__(self, text: list[str], **options: Any) -> Any:
        return self.tokenizer(text, **options)


HAS_TORCHVISION = find_spec("torchvision") is not None


def vision_processor(tokenizer: Qwen2Tokenizer) -> Any:
    """The real one where it can be had."""
    if not HAS_TORCHVISION:
        return TextProcessor(tokenizer)
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen3VLVideoProcessor(), chat_template=CHAT)


def pixtral_processor(tokenizer: Qwen2Tokenizer) -> Any:
    """The real one where it can be had."""
    if not HAS_TORCHVISION:
        return tokenizer
    from transformers import PixtralImageProcessor, PixtralProcessor

    return PixtralProcessor(PixtralImageProcessor(), tokenizer, chat_template=CHAT)


def glm_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter, and two marks before every prompt."""
    marks = ["<|endoftext|>", "[gMASK]", "<sop>"]
    vocab = {piece: i for i, piece in enumerate([*marks, *map(chr, range(32, 127))])}
    inner = Tokenizer(BPE(vocab=vocab, merges=[], unk_token="<|endoftext|>"))
    inner.post_processor = TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=[("[gMASK]", 1), ("<sop>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|endoftext|>")


def gemma_tokenizer() -> GemmaTokenizer:
    """One token a letter."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *map(chr, range(33, 127))]
    tokenizer = GemmaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    return tokenizer


def decoder_config(tokenizer: Any, layers: int) -> dict[str, Any]:
    """What configurations of small decoder-only language models have in common."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def filled(module: torch.nn.Module, seed: int) -> Any:
    """Random weights as `fill` draws them."""
    fill(module, seed)
    return module


def qwen3(tokenizer: Any, layers: int) -> Qwen3ForCausalLM:
    return filled(Qwen3ForCausalLM(Qwen3Config(**decoder_config(tokenizer, layers))), 7)


def gemma2(tokenizer: Any) -> Gemma2Model:
    return filled(Gemma2Model(Gemma2Config(**decoder_config(tokenizer, 2))), 7)


def vae_kl(channels: int = 4, blocks: int = 2, shift: float | None = 0.0) -> AutoencoderKL:
    """Its pictures are 2^(blocks-1) times as large as its latents."""
    vae = AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=1.0,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return filled(vae, 8)


def vae_flux2() -> AutoencoderKLFlux2:
    """4 channels, latents packed 2×2."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    )
    return filled(vae, 8)


def vae_qwen() -> AutoencoderKLQwenImage:
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return filled(vae, 8)


def vae_dc() -> AutoencoderDC:
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )
    return filled(vae, 8)


def vae_qwen21() -> AutoencoderKLQwenImage21:
    vae = AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return filled(vae, 8)
