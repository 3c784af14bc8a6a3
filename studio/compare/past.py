"""The prompts that a visitor rendered last. Their browser keeps them, nobody else. No Gradio."""

from __future__ import annotations

from collections.abc import Iterable

from calibri.ranges import LONGEST_PROMPT
from studio.ui.templates import fill_template

MOST = 20


def read_past(kept: object) -> list[str]:
    """What the browser kept, as far as it is a list of prompts."""
    listed = kept if isinstance(kept, list) else []
    prompts = (each for each in listed if isinstance(each, str) and 0 < len(each) <= LONGEST_PROMPT)
    return list(dict.fromkeys(prompts))[:MOST]


def remember(kept: object, prompts: Iterable[str]) -> list[str]:
    """The same with these in front, the first one first, each once."""
    return read_past([*prompts, *read_past(kept)])


def draw_past(kept: object) -> str:
    """The prompts as buttons, as HTML; nothing for none."""
    prompts = read_past(kept)
    return fill_template("compare/past.html", prompts=prompts) if prompts else ""
