"""What a person can ask for: a prompt, a seed, steps, guidance and a size, each checked. No Gradio."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from calibri import ranges
from calibri.backbones.lora import read_uses, write_uses
from calibri.errors import BackboneError, RenderError, sentence
from calibri.prompts import join_line

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

SLIDER_STEPS = 100  # where a slider of steps ends; a field takes what the command line takes
SLIDER_GUIDANCE = 20
MOST_ROLLED = 100_000  # seeds that nobody chose are short
LONGEST_LORAS = 2000  # characters


def read_prompt(value: object) -> str:
    """A prompt on one line. Raises ValueError where there is none, or it is too long."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected what the picture should show, got nothing")
    return join_line(ranges.check_prompt(value))


def read_negative(value: object) -> str:
    """A negative prompt on one line, or none."""
    return join_line(ranges.check_prompt("" if value is None else value))


def read_loras(value: object) -> str:
    """Which LoRAs are on, as text. Raises ValueError where it is none."""
    text = value.strip() if isinstance(value, str) else "" if value is None else "\0"
    if len(text) > LONGEST_LORAS or "\0" in text:
        raise ValueError(f"expected names of LoRAs, got {str(value)[:40]!r}")
    try:
        return write_uses(read_uses(text))
    except BackboneError as error:
        raise ValueError(str(error)) from None


Prompt = Annotated[str, BeforeValidator(read_prompt)]
Seed = Annotated[int, BeforeValidator(ranges.read_seed)]
Steps = Annotated[int, BeforeValidator(ranges.read_steps)]
Guidance = Annotated[float, BeforeValidator(ranges.read_guidance)]
Embedded = Annotated[float | None, BeforeValidator(ranges.read_embedded_guidance)]
Negative = Annotated[str, BeforeValidator(read_negative)]
LoraText = Annotated[str, BeforeValidator(read_loras)]


@dataclass(frozen=True)
class Ask:
    """What a visitor wants to see. `steps`: sampling steps; `guidance` 1 means none; `width` and `height` in
    pixels, None for the backbone's own. `negative`: what guidance and negative members see; `embedded`: the
    guidance of distilled models, None for the backbone's own. `loras`: which are on, as `read_uses` reads it;
    "" are all as loaded. Only `read` checks the values."""

    prompt: Prompt
    seed: Seed
    steps: Steps
    guidance: Guidance = 1.0
    width: int | None = None
    height: int | None = None
    negative: Negative = ""
    embedded: Embedded = None
    loras: LoraText = ""

    @classmethod
    def read(
        cls, prompt: object, seed: object, steps: object, guidance: object = 1.0, loras: object = ""
    ) -> Ask:
        """From what a page or a program sent. Raises RenderError with the field and what was expected."""
        values = {"prompt": prompt, "seed": seed, "steps": steps, "guidance": guidance, "loras": loras}
        try:
            return _ask_adapter().validate_python(values)
        except ValidationError as error:
            raise RenderError(sentence(error)) from None


@cache
def _ask_adapter() -> TypeAdapter[Ask]:
    return TypeAdapter(Ask)


def dice() -> int:
    """A seed that nobody chose."""
    return random.SystemRandom().randrange(MOST_ROLLED)


def word_hint(backbone: str, *prompts: str) -> str:
    """What to say about words that the embedded world does not know. Empty for other backbones."""
    if backbone != "tabletop":
        return ""
    from calibri.tabletop.prompts import hint

    return " ".join(filter(None, map(hint, dict.fromkeys(prompts))))


def unread_hint(backbone: Backbone | None, *prompts: str) -> str:
    """What to say about prompts that the backbone does not read to their end. Empty where it reads all."""
    if backbone is None:
        return ""
    from calibri.backbones.unread import note_unread

    return note_unread(backbone.adapter, backbone.spec.name, prompts)
