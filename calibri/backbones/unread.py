"""What of a prompt a text encoder does not read, in words and once instead of a warning for every picture."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from calibri.words import count

if TYPE_CHECKING:
    from calibri.backbones.adapter import Adapter

_LOGGERS = (
    "diffusers.pipelines.flux.pipeline_flux",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "transformers.tokenization_utils_base",
)
_COPIES: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_TRUNCATED = ("The following part of your input was truncated", "Token indices sequence length is longer")


class _NotTruncation(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_TRUNCATED)


@contextmanager
def hush_truncation(*more: str) -> Iterator[None]:
    """Inside, diffusers and transformers say nothing of prompts that are too long: `note_unread` does.

    `more`: names of further loggers, those of the pipelines' modules.
    """
    quiet = _NotTruncation()
    loggers = [logging.getLogger(name) for name in (*_LOGGERS, *more)]
    for logger in loggers:
        logger.addFilter(quiet)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(quiet)


def find_unread(tokenizer: Any, prompt: str, limit: int) -> str:
    """The end of a prompt behind the first `limit` tokens, marks of start and end included; "" for none."""
    kept = max(0, limit - tokenizer.num_special_tokens_to_add())
    return find_behind(tokenizer, prompt, kept)


def find_behind(tokenizer: Any, text: str, kept: int) -> str:
    """What stands behind the first `kept` tokens of a text; "" where nothing does."""
    if not tokenizer.is_fast:
        with hush_truncation():
            ids = tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        return str(tokenizer.decode(ids[kept:])).strip()
    offsets = _copy_backend(tokenizer).encode(text, add_special_tokens=False).offsets
    if len(offsets) <= kept:
        return ""
    start = offsets[kept][0]
    word = re.search(r"(?<=\s)[^\W_]{1,20}$", text[:start]) if text[start : start + 1].isalnum() else None
    return text[word.start() if word else start :].strip()  # a word that is cut counts as not read


def _copy_backend(tokenizer: Any) -> Any:
    """The tokenizer's inner one for ourselves: a call sets how it cuts and pads, also for other threads."""
    found = _COPIES.get(tokenizer)
    if found is None:
        found = copy.deepcopy(tokenizer.backend_tokenizer)
        found.no_truncation()
        found.no_padding()
        _COPIES[tokenizer] = found
    return found


def note_unread(adapter: Adapter, name: str, prompts: Iterable[str]) -> str:
    """One sentence about the prompts that the backbone `name` does not read to their end; "" for none."""
    given = list(dict.fromkeys(prompts))
    cut = [(prompt, end) for prompt in given if (end := adapter.unread(prompt))]
    if not cut:
        return ""
    prompt, end = cut[0]
    shown = end if len(end) <= 80 else end[:79] + "…"
    if len(given) == 1:
        return f"{name} reads {adapter.reads} tokens: the end of the prompt, “{shown}”, is not read."
    return (
        f"{name} reads {adapter.reads} tokens: the end of {len(cut)} of {count(len(given), 'prompt')} is not "
        f"read, such as “{shown}” of “{prompt[:40]}…”."
    )
