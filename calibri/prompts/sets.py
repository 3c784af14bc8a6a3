"""Prompt sets that come with Calibri: `tabletop` of the embedded world's own, `general` for all other models.

`assets/prompts/general.jsonl` holds one prompt a line with its category and its split. All of it was written
for this project. The categories are those by which T2I-CompBench, DrawBench, GenEval and PartiPrompts divide
theirs; no prompt is taken from them.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Literal, get_args

from calibri.assets import ASSETS
from calibri.errors import PromptError

Split = Literal["search", "validation", "held-out"]
SPLITS: tuple[Split, ...] = get_args(Split)
GENERAL, TABLETOP = "general", "tabletop"
_TABLETOP_COUNTS = {"search": 512, "validation": 64, "held-out": 256}


def prompt_sets() -> tuple[str, ...]:
    """Names of the sets."""
    return GENERAL, TABLETOP


def name_set(backbone: str) -> str:
    """The set that suits a backbone, named or a folder: `tabletop` for the embedded one, else `general`."""
    return TABLETOP if str(backbone).rstrip("/").endswith(TABLETOP) else GENERAL


def prompt_set(name: str, split: str, category: str | None = None) -> tuple[str, ...]:
    """The prompts of a set's split, of one category or of all in turn; always the same in the same order.

    The splits `search`, `validation` and `held-out` share no prompt, and each has every category. Raises
    PromptError that names what there is.
    """
    if name not in prompt_sets():
        raise PromptError(f"prompt set: expected one of {', '.join(prompt_sets())}, got {name!r}")
    if split not in SPLITS:
        raise PromptError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if name == TABLETOP:
        if category is not None:
            raise PromptError(f"category: expected none, as the set tabletop has none, got {category!r}")
        return _tabletop(split)
    if category is not None and category not in prompt_categories(name):
        raise PromptError(f"category: expected one of {', '.join(prompt_categories(name))}, got {category!r}")
    return tuple(p for p, c, s in _general() if s == split and category in (None, c))


def prompt_categories(name: str = GENERAL) -> tuple[str, ...]:
    """The categories of a set."""
    return tuple(dict.fromkeys(c for _, c, _ in _general())) if name == GENERAL else ()


def category_of(prompt: str) -> str:
    """The category of a prompt of the set `general`; empty for others."""
    return _categories().get(prompt, "")


def usual_prompts(backbone: str, split: str, count: int | None = None) -> list[str]:
    """The first `count` prompts that suit a backbone; fewer where its set holds fewer.

    Of the embedded world there are as many as are wanted. Raises PromptError for an unknown split.
    """
    if split not in SPLITS:
        raise PromptError(f"split: expected one of {', '.join(SPLITS)}, got {split!r:.60}")
    if count is not None and name_set(backbone) == TABLETOP and split != "validation":
        from calibri.tabletop.prompts import prompt_set as draw

        return draw(split, count, seed=0)
    return list(prompt_set(name_set(backbone), split)[:count])


@cache
def _general() -> tuple[tuple[str, str, str], ...]:
    """(prompt, category, split) of every line."""
    path = ASSETS / "prompts" / "general.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise PromptError(f"cannot read the prompts that come with Calibri: {error}") from error
    return tuple((row["prompt"], row["category"], row["split"]) for row in rows)


@cache
def _categories() -> dict[str, str]:
    return {prompt: category for prompt, category, _ in _general()}


def _tabletop(split: str) -> tuple[str, ...]:
    """What validates follows on what is searched on, in the embedded world's own order."""
    from calibri.tabletop.prompts import prompt_set as draw

    searched = _TABLETOP_COUNTS["search"]
    if split == "held-out":
        return tuple(draw("held-out", _TABLETOP_COUNTS["held-out"], seed=0))
    every = draw("search", searched + _TABLETOP_COUNTS["validation"], seed=0)
    return tuple(every[:searched] if split == "search" else every[searched:])
