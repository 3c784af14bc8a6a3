"""Words before pictures: the token encoder learns which colour goes with which shape.

FLUX's T5 comes trained on text. Ours learnt from pictures alone and never got there: for "a red cube and a
blue ball" no token told which colour belonged to which shape, and a third of such pictures had them
exchanged. So a linear head reads its (colour, shape) pair from the token of each shape, and what it cannot
read is a loss: first of the encoder alone, for two minutes, then as one term of the flow stage. The head is
thrown away.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from calibri.tabletop import backbone as b
from calibri.tabletop.captions import caption
from calibri.tabletop.data import scene_at
from calibri.tabletop.nets import KINDS
from calibri.tabletop.prompts import meaning_of, pairs_in
from calibri.tabletop.train.common import BACKBONE_COUNT, BACKBONE_SEED, Clock, Place, cosine

_BATCH, _MINUTES, _HELD = 64, 2.0, 500
# A bias of a relative position starts near 0 and attends to one neighbour at 4 or so: at the rate of the rest
# it takes thousands of steps to get there.
_RATE, _HEAD_RATE, _PLACE_RATE = 3e-3, 5e-3, 0.15
_STAY = 0.2  # what a published encoder's transformer is used to: the weight of staying near it
_PLACES = {kind: i for i, kind in enumerate(KINDS)}


def new_head() -> nn.Linear:
    """Logits of the pairs from a token, (…, 128) → (…, kinds)."""
    return nn.Linear(b.T5_WIDTH, len(KINDS))


class Parser:
    """Which pair each token of a caption completes, by the tokens alone."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._meaning = [meaning_of(piece.removeprefix("▁")) for piece in pieces]

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, T) → (B, T): at the token of a shape with a colour their place in KINDS, elsewhere −100."""
        out = torch.full(ids.shape, -100)
        for row, caption_ids in zip(out, ids.tolist(), strict=True):
            for at, kind in pairs_in(self._meaning[token] for token in caption_ids):
                row[at] = _PLACES[kind]
        return out


def unread(head: nn.Linear, tokens: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the pairs (B, T), from a Parser, told by tokens (B, T, 128); 0 where none is asked."""
    asked = pairs >= 0
    return F.cross_entropy(head(tokens[asked]), pairs[asked], reduction="sum") / asked.sum().clamp(min=1)


def taught_words(place: Place) -> dict[str, torch.Tensor]:
    """The encoder's weights as `tokens.…` and the head's as `binding.…`, trained where they are missing.
    Starts from the published encoder with `place.published`, and stays near it.
    """
    path = place.work / "words.safetensors"
    if path.exists():
        return load_file(path)
    tokenizer = b.t5_tokenizer()
    parser = Parser(tokenizer)
    with torch.random.fork_rng():
        torch.random.manual_seed(58)
        encoder, head = b.text_encoders(tokenizer, b.clip_tokenizer())[0].to(place.device), new_head()
    head = head.to(place.device)
    before = None
    if place.published:
        published = FluxPipeline.from_pretrained(place.assets / "tabletop").text_encoder_2.state_dict()
        encoder.load_state_dict(
            {name: published[name][: len(own)] for name, own in encoder.state_dict().items()}
        )
        before = copy.deepcopy(encoder).requires_grad_(False)
    places = [p for name, p in encoder.named_parameters() if "relative_attention_bias" in name]
    others = [p for name, p in encoder.named_parameters() if "relative_attention_bias" not in name]
    rates = {_RATE: others, _PLACE_RATE: places, _HEAD_RATE: list(head.parameters())}
    groups = [{"params": params, "lr": rate} for rate, params in rates.items()]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    rng = np.random.default_rng([BACKBONE_SEED, 68])
    scenes = [scene_at(i, BACKBONE_SEED) for i in range(BACKBONE_COUNT // 4)]
    clock = Clock("words", min(_MINUTES, place.minutes))
    going = True
    while going:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * cosine(clock.progress)
        prompts = [caption(scenes[i], rng) for i in rng.integers(_HELD, len(scenes), _BATCH)]
        ids = tokenizer(prompts, **b.PADDED).input_ids.to(place.device)
        tokens = encoder(ids)[0]
        loss = unread(head, tokens, parser(ids.cpu()).to(place.device))
        going = clock.step(loss.item(), _BATCH)
        if before is not None:
            usual = before(ids)[0]
            loss = loss + _STAY * F.mse_loss(tokens, usual) / usual.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids = tokenizer([caption(scene, rng) for scene in scenes[:_HELD]], **b.PADDED).input_ids
    pairs = parser(ids)
    with torch.inference_mode():
        told = head(encoder(ids.to(place.device))[0]).argmax(-1).cpu()
    right = ((told == pairs) | (pairs < 0)).all(1).float().mean()
    print(f"words: every pair told by {right:.3f} of {_HELD} unseen captions", flush=True)
    state = {f"tokens.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"binding.{k}": v for k, v in head.state_dict().items()}
    save_file({k: v.contiguous().clone() for k, v in state.items()}, path)
    return load_file(path)
