"""What a person can ask for: a prompt, a seed, steps, guidance and a size, each checked. No Gradio."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Annotated, TypeGuard

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from calibri.errors import RenderError, sentence

LONGEST_PROMPT = 400
MOST_STEPS = 100
LARGEST_SEED = 2**31 - 1
STRONGEST_GUIDANCE = 20


def is_whole(value: object, low: int, high: int) -> TypeGuard[int | float]:
    """Whether this is a whole number of that range, as an int or as a float that a page sent."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and low <= value <= high
        and int(value) == value
    )


def whole_number(low: int, high: int) -> BeforeValidator:
    """A field that takes a whole number of this range only: no text, no bool, no fraction."""

    def read(value: object) -> int:
        if not is_whole(value, low, high):
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r}")
        return int(value)

    return BeforeValidator(read)


def _read_guidance(value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if not 1 <= number <= STRONGEST_GUIDANCE:
        raise ValueError(f"expected a number from 1 (none) to {STRONGEST_GUIDANCE}, got {value!r}")
    return float(number)


def read_prompt(value: object) -> str:
    """A prompt on one line. Raises ValueError where there is none, or it is too long."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected what the picture should show, got nothing")
    if len(value) > LONGEST_PROMPT:
        raise ValueError(
            f"expected at most {LONGEST_PROMPT} characters, got {len(value)} in “{value[:40].strip()}…”"
        )
    return one_line(value)


Prompt = Annotated[str, BeforeValidator(read_prompt)]
Seed = Annotated[int, whole_number(0, LARGEST_SEED)]
Steps = Annotated[int, whole_number(1, MOST_STEPS)]
Guidance = Annotated[float, BeforeValidator(_read_guidance)]


@dataclass(frozen=True)
class Ask:
    """What a visitor wants to see. `steps`: sampling steps; `guidance` 1 means none; `width` and `height` in
    pixels, None for the backbone's own. Only `read` checks the values."""

    prompt: Prompt
    seed: Seed
    steps: Steps
    guidance: Guidance = 1.0
    width: int | None = None
    height: int | None = None

    @classmethod
    def read(cls, prompt: object, seed: object, steps: object, guidance: object = 1.0) -> Ask:
        """From what a page or a program sent. Raises RenderError with the field and what was expected."""
        values = {"prompt": prompt, "seed": seed, "steps": steps, "guidance": guidance}
        try:
            return _ask_adapter().validate_python(values)
        except ValidationError as error:
            raise RenderError(sentence(error)) from None


@cache
def _ask_adapter() -> TypeAdapter[Ask]:
    return TypeAdapter(Ask)


def one_line(prompt: object) -> str:
    """A prompt without line breaks and doubled spaces."""
    return " ".join(str(prompt).split())


def dice() -> int:
    """A seed that nobody chose."""
    return random.SystemRandom().randrange(100_000)


def word_hint(backbone: str, *prompts: str) -> str:
    """What to say about words that the embedded world does not know. Empty for other backbones."""
    if backbone != "tabletop":
        return ""
    from calibri.tabletop.prompts import hint

    return " ".join(filter(None, map(hint, dict.fromkeys(prompts))))
