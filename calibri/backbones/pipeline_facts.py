"""What differs between text-to-image pipelines, as a table: how prompts get into them and their transformer.

No torch: families declare these facts beside their sites, and `facts_adapter.FactsAdapter` drives with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PipelineFacts:
    """A pipeline class that takes prompt embeddings.

    `encoded`: names of what `encode_prompt` returns, in its order, "" for what is not kept. Those that
    `__call__` takes are given to it. `rows`: the transformer's keyword argument → one of `encoded`; the first
    one holds the prompts. `off`: arguments of `__call__` without which the pipeline would guide by itself.
    `encode`, `call`: further arguments. `repeated`: the transformer's arguments with one entry for each
    picture. `tokens`: the most that it reads. `guidance`: the embedded guidance of a distilled model where
    nothing else is said, None for none. `longer`: masks of the transformer that go on, with ones, over the
    picture's tokens. `dims`: where the batch of one of `encoded` is not dimension 0. `as_list`: prompts are a
    list of tensors (L, D). `negatives`: where negative prompts are encoded in another way than positive ones,
    the place of theirs in what `encode_prompt` returns. `pads`: prompts are padded to `tokens`. `rescales`: a
    guided prediction gets the norm of the positive one in its last dimension. `trails`: the transformer
    predicts for text too, the picture's tokens are the last ones. `in_batch`: it guides by one call with both
    prompts, and has no property that says so. `size`: pixels of height and width are multiples of it times
    the VAE's factor. `tokenizer`: the part that cuts prompts. `frame(pipeline, prompt)`: the text that it
    cuts, up to the prompt's end; `spare`: tokens beyond `tokens` before it cuts; `unlimited`: it never does.
    `prepare(pipeline, height, width)`: called before the pipeline.
    """

    encoded: tuple[str, ...]
    rows: Mapping[str, str]
    off: Mapping[str, Any] = field(default_factory=dict)
    encode: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    repeated: tuple[str, ...] = ("hidden_states", "timestep")
    tokens: int = 512
    guidance: float | None = None
    longer: tuple[str, ...] = ()
    dims: Mapping[str, int] = field(default_factory=dict)
    as_list: bool = False
    nested: bool = False
    same: tuple[str, ...] = ()
    negatives: int = 0
    pads: bool = True
    rescales: bool = False
    trails: bool = False
    in_batch: bool = False
    size: int = 2
    tokenizer: str = "tokenizer"
    frame: Callable[[Any, str], str] | None = None
    spare: int = 0
    unlimited: bool = False
    prepare: Callable[[Any, int, int], None] | None = None


def frame_chat(tokenizer: Any, prompt: str, **options: Any) -> str:
    """A chat of one message by the user, up to the end of the prompt."""
    messages = [{"role": "user", "content": prompt}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options))
    start = text.rfind(prompt)
    return text[: start + len(prompt)] if start >= 0 else text
