"""The form of the page Compare: from what was typed to an order. No Gradio."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo, field_validator

from calibri.errors import RenderError, sentences
from calibri.prompts import join_line
from calibri.prompts.lines import split_lines
from calibri.ranges import LARGEST_SEED, read_whole
from studio.rendering.arms import NOTHING, Choice
from studio.rendering.asks import Ask, Embedded, Guidance, Negative, Prompt, Seed, Steps
from studio.rendering.shots import Comparison

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

ARMS = 3
MOST_ROWS = 16  # prompts × seeds of one press of Render
MOST_ROWS_DEMO = 4
MOST_SEEDS = 1000  # that may be typed; far fewer make rows
LONGEST_SEEDS = 12 * MOST_SEEDS  # characters
LONGEST_PROMPTS = 200_000  # characters of further prompts
USUAL = (Choice("base"), Choice("calibrated"), Choice("ensemble"))
FEW, MANY = 8, 30  # the steps of the preset below
AGAINST = (Choice("base", MANY), Choice("calibrated", FEW), Choice("base", FEW))


class FormError(RenderError):
    """A form that cannot be rendered. `problems`: field → sentence; a field of an arm ends in its number."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(" ".join(problems.values()))
        self.problems = dict(problems)


@dataclass(frozen=True)
class Form:
    """Everything that the page asks for, as it was typed. `prompts`, `seeds`: further ones. `width` and
    `height`: pixels, or None for the backbone's own; `embedded` guidance likewise."""

    prompt: Any
    seed: Any
    steps: Any
    prompts: Any = ""
    seeds: Any = ""
    guidance: Any = 1.0
    width: Any = None
    height: Any = None
    arms: tuple[Choice, ...] = USUAL
    negative: Any = ""
    embedded: Any = None


def read_seeds(text: object) -> tuple[int, ...]:
    """`4, 7, 10-12` → (4, 7, 10, 11, 12). Raises ValueError for anything else."""
    typed = str(text or "").strip()
    if len(typed) > LONGEST_SEEDS:
        raise ValueError(f"expected at most {LONGEST_SEEDS} characters, got {len(typed)}")
    ranges = []
    for part in filter(None, re.split(r"[,;\s]+", typed)):
        match = re.fullmatch(r"([0-9]{1,19})(?:[-–]([0-9]{1,19}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= LARGEST_SEED:
            raise ValueError(f"expected seeds written like 4, 7, 10-12, got {part[:40]!r}")
        ranges.append(range(first, last + 1))
    if (count := sum(map(len, ranges))) > MOST_SEEDS:  # before any is written out
        raise ValueError(f"expected at most {MOST_SEEDS} seeds, written like 4, 7, 10-12, got {count}")
    return tuple(seed for each in ranges for seed in each)


def read_prompts(*texts: object) -> tuple[str, ...]:
    """One prompt for each line that is not empty, without doubles."""
    typed = [str(text or "") for text in texts]
    if (size := sum(map(len, typed))) > LONGEST_PROMPTS:
        raise ValueError(f"expected prompts of at most {LONGEST_PROMPTS} characters together, got {size}")
    lines = [join_line(line) for text in typed for line in split_lines(text)]
    return tuple(dict.fromkeys(filter(None, lines)))


@dataclass(frozen=True)
class SizeLimits:
    """What a width and a height may be, in pixels: multiples of `step` from `least` to `most`."""

    name: str
    step: int
    least: int
    most: int


def limit_size(backbone: Backbone, demo: bool = False) -> SizeLimits:
    """What the backbone's grid allows, up to twice the size it is used at; in a demo not beyond that size."""
    step, usual = backbone.adapter.size_step, max(backbone.spec.height, backbone.spec.width)
    most = usual if demo else 2 * usual
    return SizeLimits(backbone.spec.name, step, max(step, usual // 4 // step * step), most // step * step)


class Order(BaseModel):
    """A checked form. Validation takes the SizeLimits of the loaded backbone as its context."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt
    seed: Seed
    steps: Steps
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(lambda text: read_prompts(text))]
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(read_seeds)]
    guidance: Guidance
    width: int | None
    height: int | None
    negative: Negative
    embedded: Embedded
    arms: tuple[Choice, ...]

    @field_validator("width", "height", mode="before")
    @classmethod
    def _fit(cls, value: object, info: ValidationInfo) -> int | None:
        if value in (None, "", 0):
            return None
        limits = info.context or SizeLimits("a backbone", 1, 1, 2**16)
        try:
            pixels = read_whole(value, limits.least, limits.most)
        except ValueError:
            pixels = 0
        if not pixels or pixels % limits.step:
            raise ValueError(
                f"expected a multiple of {limits.step} from {limits.least} to {limits.most} pixels, or "
                f"nothing for the size of {limits.name}, got {value!r}"
            )
        return pixels

    @field_validator("arms", mode="before")
    @classmethod
    def _check_choices(cls, arms: tuple[Choice, ...]) -> list[dict[str, object]]:
        if all(choice.what == NOTHING for choice in arms):
            raise ValueError("expected at least one arm, got none")
        return [vars(choice) for choice in arms]  # pydantic takes a made Choice as it is

    @property
    def asks(self) -> list[Ask]:
        """One for each prompt and seed."""
        prompts = dict.fromkeys([self.prompt, *self.prompts])
        seeds = dict.fromkeys([self.seed, *self.seeds])
        return [
            Ask(
                prompt,
                seed,
                self.steps,
                self.guidance,
                self.width,
                self.height,
                self.negative,
                self.embedded,
            )
            for prompt in prompts
            for seed in seeds
        ]


def check_form(form: Form, limits: SizeLimits | None = None) -> Order:
    """The form as an order. Raises FormError with a sentence for each field that does not fit."""
    try:
        return Order.model_validate(vars(form), context=limits)
    except ValidationError as error:
        raise FormError({_mark(where): words for where, words in sentences(error).items()}) from None


def read_order(form: Form, backbone: Backbone | None, demo: bool = False) -> Order:
    """The form as an order that this backbone (None: any) and this studio can render. Raises FormError."""
    order = check_form(form, limit_size(backbone, demo) if backbone is not None else None)
    asks, most = order.asks, MOST_ROWS_DEMO if demo else MOST_ROWS
    if len(asks) > most:
        prompts, seeds = len({ask.prompt for ask in asks}), len({ask.seed for ask in asks})
        words = f"expected at most {most} rows at once, got {prompts} prompts × {seeds} seeds = {len(asks)}"
        field = "prompts" if prompts > seeds else "seeds"
        raise FormError({field: f"{field}: {words}"})
    return order


def _mark(where: str) -> str:
    """The field of the page that a complaint is about: `arms.0.steps` → `steps-1`."""
    name, *rest = where.split(".")
    return f"{rest[1]}-{int(rest[0]) + 1}" if name == "arms" and len(rest) > 1 else name


def ask_for(ask: Ask, choice: Choice) -> Ask:
    """The ask with what this arm has of its own."""
    steps = ask.steps if choice.steps is None else choice.steps
    guidance = ask.guidance if choice.guidance is None else choice.guidance
    return replace(ask, steps=steps, guidance=guidance, loras=choice.loras or ask.loras)


def form_of(comparison: Comparison) -> Form:
    """The form that would ask for this comparison again."""
    ask = comparison.ask
    asks = [row[0].ask for row in comparison.rows if row]
    prompts = list(dict.fromkeys(a.prompt for a in asks))[1:]
    seeds = list(dict.fromkeys(a.seed for a in asks))[1:]
    return Form(
        ask.prompt,
        ask.seed,
        ask.steps,
        prompts="\n".join(prompts),
        seeds=", ".join(map(str, seeds)),
        guidance=ask.guidance,
        width=ask.width,
        height=ask.height,
        negative=ask.negative,
        embedded=ask.embedded,
        arms=fill_arms(comparison.choices or USUAL),
    )


def fill_arms(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """As many choices as the page has arms."""
    return (*choices, *[Choice(NOTHING)] * ARMS)[:ARMS]
