"""What the readers of single formats hand back, and the words that name a prompt or a category."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Columns and fields that hold the prompt, the surest first. Compared as `plain_name` spells them.
PROMPT_NAMES = (
    "prompt",
    "prompts",
    "textprompt",
    "prompttext",
    "prompten",
    "promptinenglish",
    "originalprompt",
    "inputprompt",
    "caption",
    "captions",
    "text",
    "texts",
    "textinput",
    "description",
    "sentence",
)
#: Those that no line of prompts would be by chance.
SURE_NAMES = frozenset(name for name in PROMPT_NAMES if "prompt" in name or "caption" in name)
#: Columns and fields that hold the category, the surest first.
CATEGORY_NAMES = (
    "category",
    "categories",
    "categorybroad",
    "maincategory",
    "promptcategory",
    "tag",
    "tags",
    "type",
    "class",
    "group",
    "topic",
    "theme",
    "subject",
    "style",
    "challenge",
)


@dataclass
class Found:
    """Prompts as a file holds them. `rows`: (where, text, category), `where` in words for errors."""

    format: str
    rows: list[tuple[str, str, str]]
    notes: list[str] = field(default_factory=list)


def plain_name(name: str) -> str:
    """`Prompt (EN)` → `prompten`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_name(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The name that stands first in `wanted`; None where there is none of them."""
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(plain_name(name), name)
    return next((spelled[word] for word in wanted if word in spelled), None)


def list_names(names: Iterable[str], most: int = 6) -> str:
    """`“a”, “b” and 3 more`, for errors and notes."""
    every = [f"“{name.strip()[:30]}”" for name in names]
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")
