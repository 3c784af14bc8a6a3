"""The form of the page Compare: what was typed, checked, as an order. No Gradio."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from calibri.errors import RenderError
from studio.core import Core
from studio.rendering.arms import NOTHING, Choice
from studio.rendering.asks import (
    LARGEST_SEED,
    LONGEST_PROMPT,
    MOST_STEPS,
    Ask,
    is_whole,
    one_line,
    problems_of,
)
from studio.rendering.shots import Comparison

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

ARMS = 3
MOST_ROWS = 16  # prompts × seeds of one press of Render
MOST_ROWS_DEMO = 4
USUAL = (Choice("base"), Choice("calibrated"), Choice("ensemble"))
FEW, MANY = 8, 30  # the steps of the preset below
AGAINST = (Choice("base", MANY), Choice("calibrated", FEW), Choice("base", FEW))


@dataclass(frozen=True)
class Form:
    """Everything that the page asks for, as it was typed. `prompts`, `seeds`: further ones. `width` and
    `height`: pixels, or None for the backbone's own."""

    prompt: Any
    seed: Any
    steps: Any
    prompts: Any = ""
    seeds: Any = ""
    guidance: Any = 1.0
    width: Any = None
    height: Any = None
    arms: tuple[Choice, ...] = USUAL


@dataclass(frozen=True)
class Order:
    """A checked form: one ask for every prompt and seed, and the arms."""

    asks: tuple[Ask, ...]
    choices: tuple[Choice, ...]
    problems: dict[str, str] = field(default_factory=dict)


def seeds_in(text: object) -> list[int]:
    """`4, 7, 10-12` → [4, 7, 10, 11, 12]. Raises RenderError for anything else."""
    found: list[int] = []
    for part in filter(None, re.split(r"[,;\s]+", str(text or "").strip())):
        match = re.fullmatch(r"(\d{1,10})(?:[-–](\d{1,10}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last > LARGEST_SEED or last - first > 999:
            raise RenderError(f"Seeds are written like 4, 7, 10-12; came {part[:40]!r}.")
        found += range(first, last + 1)
    return found


def prompts_in(*texts: object) -> list[str]:
    """One prompt for each line that is not empty, without doubles."""
    lines = [one_line(line) for text in texts for line in str(text or "").splitlines()]
    return list(dict.fromkeys(filter(None, lines)))


def size_limits(backbone: Backbone, demo: bool = False) -> tuple[int, int, int]:
    """(step, smallest, largest) of width and height in pixels: what the backbone's grid allows, up to twice
    the size it is used at."""
    step, usual = backbone.adapter.size_step, max(backbone.spec.height, backbone.spec.width)
    most = usual if demo else 2 * usual
    return step, max(step, usual // 4 // step * step), most // step * step


def rows_allowed(core: Core) -> int:
    return MOST_ROWS_DEMO if core.settings.demo else MOST_ROWS


def checked(core: Core, form: Form) -> Order:
    """The form as an order. `problems`: field → sentence for what cannot be rendered; then it asks for
    nothing."""
    problems = problems_of(form.prompt, form.seed, form.steps, form.guidance)
    prompts = prompts_in(form.prompt, form.prompts)
    long = next((p for p in prompts if len(p) > LONGEST_PROMPT), None)
    if long is not None and "prompt" not in problems:
        problems["prompts"] = f"“{long[:40]}…” has {len(long)} characters; {LONGEST_PROMPT} are the most."
    more: list[int] = []
    try:
        more = seeds_in(form.seeds)
    except RenderError as error:
        problems["seeds"] = str(error)
    size, wrong = read_size(core, form.width, form.height)
    problems |= wrong
    for number, choice in enumerate(form.arms, 1):
        if choice.steps is not None and not is_whole(choice.steps, 1, MOST_STEPS):
            problems[f"steps-{number}"] = f"Steps of arm {number} are a whole number from 1 to {MOST_STEPS}."
        strength = choice.guidance
        if strength is not None and not (isinstance(strength, int | float) and 1 <= strength <= 20):
            problems[f"guidance-{number}"] = f"Guidance of arm {number} is a number from 1 (none) to 20."
    if all(choice.what == NOTHING for choice in form.arms):
        problems["arms"] = "Choose at least one arm."
    if problems:
        return Order((), form.arms, problems)
    seeds = list(dict.fromkeys([int(form.seed), *more]))
    count, most = len(prompts) * len(seeds), rows_allowed(core)
    if count > most:
        where = "prompts" if len(prompts) > len(seeds) else "seeds"
        words = f"{len(prompts)} prompts × {len(seeds)} seeds are {count} rows; {most} are the most at once."
        return Order((), form.arms, {where: words})
    first = Ask.checked(prompts[0], seeds[0], form.steps, form.guidance)
    asks = [replace(first, prompt=p, seed=s, width=size[0], height=size[1]) for p in prompts for s in seeds]
    return Order(tuple(asks), form.arms)


def read_size(
    core: Core, width: object, height: object
) -> tuple[tuple[int | None, int | None], dict[str, str]]:
    """The checked size, and a sentence for each side that does not fit the loaded backbone."""
    backbone, found, wrong = core.host.backbone, [], {}
    for name, value in (("width", width), ("height", height)):
        if value in (None, "", 0):
            found.append(None)
            continue
        step, least, most = size_limits(backbone, core.settings.demo) if backbone else (8, 8, 4096)
        fits = is_whole(value, least, most) and int(value) % step == 0  # type: ignore[call-overload]
        if not fits:
            name_of = backbone.spec.name if backbone else "the backbone"
            wrong[name] = (
                f"The {name} for {name_of} is a multiple of {step} from {least} to {most} pixels, or empty "
                f"for its own; came {value}."
            )
        found.append(int(value) if fits else None)  # type: ignore[call-overload]
    return (found[0], found[1]), wrong


def form_of(comparison: Comparison) -> Form:
    """The form that would ask for this comparison again."""
    ask = comparison.ask
    asks = [row[0].ask for row in comparison.rows if row]
    prompts = list(dict.fromkeys(a.prompt for a in asks))[1:]
    seeds = list(dict.fromkeys(a.seed for a in asks))[1:]
    arms = (*(comparison.choices or USUAL), *[Choice(NOTHING)] * ARMS)[:ARMS]
    return Form(
        ask.prompt,
        ask.seed,
        ask.steps,
        "\n".join(prompts),
        ", ".join(map(str, seeds)),
        ask.guidance,
        ask.width,
        ask.height,
        arms,
    )
