"""What can be asked for: a prompt, a seed, steps, guidance and a size, and the checks of each. No Gradio."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibri.errors import RenderError

if TYPE_CHECKING:
    from studio.core import Core


LONGEST_PROMPT = 400
MOST_STEPS = 100
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Ask:
    """What a visitor wants to see. `steps`: sampling steps; `guidance` 1 means none; `width` and `height` in
    pixels, None for the backbone's own."""

    prompt: str
    seed: int
    steps: int
    guidance: float = 1.0
    width: int | None = None
    height: int | None = None

    @classmethod
    def checked(cls, prompt: object, seed: object, steps: object, guidance: object = 1.0) -> Ask:
        """From what a page sent. Raises RenderError with the field's name and what was expected."""
        problems = problems_of(prompt, seed, steps, guidance)
        if problems:
            raise RenderError(" ".join(problems.values()))
        return cls(one_line(prompt), int(seed), int(steps), float(guidance))  # type: ignore[call-overload]


def one_line(prompt: object) -> str:
    """A prompt without line breaks and doubled spaces."""
    return " ".join(str(prompt).split())


def problems_of(prompt: object, seed: object, steps: object, guidance: object = 1.0) -> dict[str, str]:
    """Field → sentence, for every field that cannot be rendered."""
    problems = {}
    if not isinstance(prompt, str) or not prompt.strip():
        problems["prompt"] = "Type what the picture should show."
    elif len(prompt) > LONGEST_PROMPT:
        problems["prompt"] = f"The prompt has {len(prompt)} characters; {LONGEST_PROMPT} are the most."
    if not is_whole(seed, 0, LARGEST_SEED):
        problems["seed"] = f"The seed is a whole number from 0 to {LARGEST_SEED}."
    if not is_whole(steps, 1, MOST_STEPS):
        problems["steps"] = f"Steps are a whole number from 1 to {MOST_STEPS}."
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 1.0 <= guidance <= 20.0:
        problems["guidance"] = "Guidance is a number from 1 (none) to 20."
    return problems


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether this is a whole number of that range, as an int or as a float that a page sent."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value == value
        and low <= value <= high
        and int(value) == value
    )


def dice() -> int:
    """A seed nobody chose."""
    return random.SystemRandom().randrange(100_000)


def word_hint(core: Core, prompt: str) -> str:
    """What to say of words that the embedded world does not know. Empty for other backbones."""
    if core.backbone_name != "tabletop":
        return ""
    from calibri.tabletop.prompts import hint

    return hint(prompt) or ""
