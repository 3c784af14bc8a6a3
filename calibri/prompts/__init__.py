"""Prompts: the one reader of prompt files, and the prompt sets that come with Calibri."""

from __future__ import annotations

from calibri.prompts.files import (
    MOST_BYTES,
    MOST_PROMPTS,
    PromptFile,
    join_line,
    read_prompts,
    read_typed,
)
from calibri.prompts.sets import (
    SPLITS,
    name_set,
    prompt_categories,
    prompt_set,
    prompt_sets,
    usual_prompts,
)
from calibri.ranges import LONGEST_PROMPT

__all__ = [
    "LONGEST_PROMPT",
    "MOST_BYTES",
    "MOST_PROMPTS",
    "SPLITS",
    "PromptFile",
    "join_line",
    "name_set",
    "prompt_categories",
    "prompt_set",
    "prompt_sets",
    "read_prompts",
    "read_typed",
    "usual_prompts",
]
