"""The parts of the embedded backbone: real diffusers and transformers classes, small configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from calibri.tabletop.prompts import known_words, prompt_set

TEXT_TOKENS = 24
T5_WIDTH, _CLIP_WIDTH = 128, 64
# How a tokenizer is called: ids (B, TEXT_TOKENS), as FluxPipeline calls it.
PADDED = {
    "padding": "max_length",
    "max_length": TEXT_TOKENS,
    "truncation": True,
    "return_tensors": "pt",
}


_SPECIAL = ("<pad>", "</s>", "<unk>")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def _pieces() -> dict[str, float]:
    """T5 pieces and their log-probabilities: one a known word; letters as a fallback for other words."""
    pieces = dict.fromkeys(_SPECIAL, 0.0)
    pieces |= {"▁" + word: -2.0 for word in sorted(known_words())}
    return pieces | {"▁": -8.0, ",": -3.0} | dict.fromkeys(_LETTERS, -10.0)


def _variants() -> dict[str, str]:
    """Pieces that mean the same as a trained one: capitals, and other punctuation than the comma."""
    pieces = [piece for piece in _pieces() if piece not in _SPECIAL]
    same = {form: piece for piece in pieces for form in (piece.upper(), piece.title()) if form != piece}
    return same | dict.fromkeys(".;:!?", ",")


def _unigram(pieces: dict[str, float]) -> T5TokenizerFast:
    return T5TokenizerFast(vocab=list(pieces.items()), extra_ids=0, model_max_length=TEXT_TOKENS)


def t5_tokenizer() -> T5TokenizerFast:
    """The tokenizer of the training captions, which are all in lower case."""
    return _unigram(_pieces())


def with_capitals(tokens: T5EncoderModel) -> T5TokenizerFast:
    """A tokenizer that knows capitals and more punctuation; `tokens` gets rows for them, copies of the
    trained ones.

    (A lower-casing normalizer would do, but transformers 5 loses it when the tokenizer is read back.)
    """
    pieces = _pieces()
    index = {piece: i for i, piece in enumerate(pieces)}
    same = _variants()
    rows = [*range(len(pieces)), *(index[piece] for piece in same.values())]
    trained = tokens.get_input_embeddings().weight.detach()
    tokens.resize_token_embeddings(len(rows), mean_resizing=False)
    tokens.get_input_embeddings().weight.data.copy_(trained[rows])
    return _unigram(pieces | {form: pieces[piece] for form, piece in same.items()})


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding learnt from training captions: known words come out as one token each. The same at
    every call.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # While learning, a word's last letter is a sign of its own. With the trainer's own suffix </w>, the order
    # of equally frequent pairs would change from call to call, and trained rows would change their words.
    ends = {letter: chr(0xE000 + i) for i, letter in enumerate(letters)}
    written = {sign: letter + "</w>" for letter, sign in ends.items()}
    texts = [" ".join(sorted(known_words())), *prompt_set("train", 2000)]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=[*letters, *written],
        show_progress=False,
        limit_alphabet=2 * len(ends),
    )
    marked = [" ".join(word[:-1] + ends[word[-1]] for word in text.split()) for text in texts]
    learner.train_from_iterator(marked, trainer)
    learnt = json.loads(learner.to_str())["model"]["merges"]
    pairs = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learnt]
    merges = [(left, right[:-1] + written.get(right[-1], right[-1])) for left, right in pairs]
    # CLIP's own order: letters, letters at a word's end, merges, then the two special tokens
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(m) for m in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_TOKENS)


def in_order_of(
    words: dict[str, int], state: dict[str, torch.Tensor], theirs: dict[str, int]
) -> dict[str, torch.Tensor]:
    """The state of a CLIP text model that was trained with the vocabulary `theirs`, rows in the order of
    `words`.
    """
    order = [theirs[word] for word in sorted(words, key=words.__getitem__)]
    return {k: v[order] if k.endswith("token_embedding.weight") else v for k, v in state.items()}


def new_t5(tokenizer: T5TokenizerFast, width: int, layers: int, heads: int, **more: Any) -> T5EncoderModel:
    """An untrained encoder over the tokenizer's pieces; `more` are further fields of T5Config."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // heads,
        d_ff=2 * width,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        **more,
    )
    return T5EncoderModel(config)


def clip_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, int]:
    """Fields of both halves of a CLIPConfig."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def clip_words(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> dict[str, int]:
    """Fields of a CLIPTextConfig over the tokenizer's words, as many as it takes."""
    return {
        **clip_sizes(width, 2 * width, layers, heads),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def pooled_config(tokenizer: CLIPTokenizer, width: int, layers: int = 1, heads: int = 2) -> CLIPTextConfig:
    """Configuration of a text model that gives a pooled vector of `width`."""
    return CLIPTextConfig(**clip_words(tokenizer, width, layers, heads), projection_dim=width)


def text_encoders(t5: T5TokenizerFast, clip: CLIPTokenizer) -> tuple[T5EncoderModel, CLIPTextModel]:
    """A word-order-aware encoder for tokens and a small one for the pooled vector, untrained."""
    positions = {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 24}
    tokens = new_t5(t5, T5_WIDTH, layers=2, heads=4, **positions)
    return tokens, CLIPTextModel(pooled_config(clip, _CLIP_WIDTH))


def new_transformer(heads: int = 4) -> FluxTransformer2DModel:
    """4 double and 8 single blocks; modulation and output layers start at zero, so that every block starts
    as identity.
    """
    model = FluxTransformer2DModel(
        in_channels=32,
        num_layers=4,
        num_single_layers=8,
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=_CLIP_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    for name, module in model.named_modules():
        if name == "proj_out" or name.endswith(
            ("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear")
        ):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return model


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, 8, 16, 16) → (B, 64, 32): 2 x 2 patches become tokens, as FluxPipeline packs them."""
    b, c, h, w = latents.shape
    x = latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, h * w // 4, c * 4)


def image_ids(side: int = 8) -> torch.Tensor:
    """(side², 3) positions of the image tokens: 0, row, column."""
    at = torch.arange(side, dtype=torch.float32)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3)


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False)


def pipeline(
    vae: AutoencoderTiny,
    transformer: FluxTransformer2DModel,
    t5: T5TokenizerFast,
    clip: CLIPTokenizer,
    tokens: T5EncoderModel,
    pooled: CLIPTextModel,
) -> FluxPipeline:
    """The parts as one FluxPipeline, which `save_pretrained` writes in the hub's format."""
    return FluxPipeline(
        scheduler=new_scheduler(),
        vae=vae,
        text_encoder=pooled,
        tokenizer=clip,
        text_encoder_2=tokens,
        tokenizer_2=t5,
        transformer=transformer,
    )


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless shuffled passes over 0 … count−1, in batches of `size`."""
    while True:
        order = rng.permutation(count)
        for i in range(0, count - size + 1, size):
            yield order[i : i + size]
