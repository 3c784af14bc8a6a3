"""Prompts on pages: the button that reads a file into a field, and what is said of those in a field."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from calibri.errors import PromptError
from calibri.prompts import SPLITS, name_set, prompt_set, read_prompts, read_typed
from calibri.prompts.files import as_text
from calibri.words import count
from studio.rendering.asks import unread_hint
from studio.ui.events import take_file

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

FILES = [".txt", ".csv", ".tsv", ".json", ".jsonl"]
VERBS = ("search on", "validate on", "judge on")  # the splits, one after the other


def lay_out_prompt_file(elem_id: str, **options: Any) -> gr.UploadButton:
    """The button beside a field for prompts. Its `upload` is answered by `read_prompt_file`."""
    return gr.UploadButton("Read a prompt file", size="sm", file_types=FILES, elem_id=elem_id, **options)


def read_prompt_file(path: str) -> str:
    """The prompts of an uploaded file, as the field takes them. Shows what was read."""
    file = read_prompts(take_file(path))
    gr.Info(html.escape(" ".join([file.summary(), *file.notes])), title="Prompts")
    return as_text(file)


def describe_prompts(backbone: Backbone, typed: object, used: Sequence[str], split: str = "") -> list[str]:
    """Sentences about the prompts of a form: where they come from, how they were read, and what of them the
    backbone does not read. `typed`: the field. `used`: what the form makes of it. `split`: of the set that
    suits the backbone, where one alone is used.
    """
    text = str(typed or "")
    if text.strip():
        try:
            file = read_typed(text)
        except PromptError:
            return []  # the form says what is wrong
        words = [f"{count(len(file.prompts), 'prompt')} of your own ({file.format}).", *file.notes]
    else:
        own = name_set(backbone.spec.name)
        sizes = [f"{len(prompt_set(own, each))} to {verb}" for each, verb in zip(SPLITS, VERBS, strict=True)]
        of_split = f"{count(len(used), 'prompt')} of the set “{own}”."
        words = [of_split if split else f"Prompts of the set “{own}”: {', '.join(sizes)}."]
    return [*words, *filter(None, [unread_hint(backbone, *used)])]
