"""What the page Compare does, without the page: from a filled form to pictures. No Gradio."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from calibri.errors import RenderError
from studio.core import Services
from studio.rendering.shots import (
    DESK,
    EMPTY_DESK,
    LARGEST_SEED,
    LONGEST_PROMPT,
    MOST_STEPS,
    NOTHING,
    WORDS,
    Arm,
    ArmKind,
    Ask,
    Choice,
    Comparison,
    calibration_of_desk,
    is_whole,
    one_line,
    problems_of,
    shoot_all,
)
from studio.visitors import Visitor

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration

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


def rows_allowed(services: Services) -> int:
    return MOST_ROWS_DEMO if services.settings.demo else MOST_ROWS


def checked(services: Services, form: Form) -> Order:
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
    size, wrong = _size(services, form.width, form.height)
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
    count, most = len(prompts) * len(seeds), rows_allowed(services)
    if count > most:
        where = "prompts" if len(prompts) > len(seeds) else "seeds"
        words = f"{len(prompts)} prompts × {len(seeds)} seeds are {count} rows; {most} are the most at once."
        return Order((), form.arms, {where: words})
    first = Ask.checked(prompts[0], seeds[0], form.steps, form.guidance)
    asks = [replace(first, prompt=p, seed=s, width=size[0], height=size[1]) for p in prompts for s in seeds]
    return Order(tuple(asks), form.arms)


def _size(
    services: Services, width: object, height: object
) -> tuple[tuple[int | None, int | None], dict[str, str]]:
    """The checked size, and a sentence for each side that does not fit the loaded backbone."""
    backbone, found, wrong = services.host.backbone, [], {}
    for name, value in (("width", width), ("height", height)):
        if value in (None, "", 0):
            found.append(None)
            continue
        step, least, most = size_limits(backbone, services.settings.demo) if backbone else (8, 8, 4096)
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


# arms


def offered(services: Services, place: Visitor) -> list[tuple[str, str]]:
    """(words, choice) of everything that can be an arm: the kinds, the visitor's desk, every saved
    calibration of the loaded backbone, and those that came inside a PNG."""
    backbone = services.host.status.backbone
    saved = [
        (f"{entry.title} ({_sort(entry.calibration)})", entry.id)
        for entry in services.calibrations.entries(backbone or None)
    ]
    came = [
        (f"{known.title or 'Calibration'} (from a PNG)", name)
        for name, known in place.borrowed.items()
        if known.backbone == backbone
    ]
    kinds = [(WORDS[kind], kind) for kind in ("base", "calibrated", "ensemble")]
    return [*kinds, ("Your desk", DESK), *saved, *came, ("Nothing", NOTHING)]


def _sort(calibration: Calibration) -> str:
    members = f"{len(calibration.members)} members, " if calibration.is_ensemble else ""
    return f"{members}{calibration.granularity}"


def arm_of(services: Services, place: Visitor, choice: Choice) -> Arm:
    """The arm for a choice; one with `missing` where there is nothing to render."""
    what, backbone = choice.what, services.host.status.backbone
    if what == NOTHING:
        return Arm("base", "Nothing", missing="Nothing is chosen here.")
    if what == "base":
        return Arm("base", WORDS["base"])
    if what == DESK:
        desk = place.desk
        if desk is None:
            return Arm("calibrated", WORDS["calibrated"], missing=EMPTY_DESK)
        return _found(calibration_of_desk(desk, backbone))
    if what in ("calibrated", "ensemble"):
        several, kind = what == "ensemble", what
        every = [entry.calibration for entry in services.calibrations.entries(backbone)]
        fitting = [known for known in every if known.is_ensemble == several]
        if fitting:  # by layer if there is one: what the first visit shows
            return _found(next((known for known in fitting if known.granularity == "layer"), fitting[0]))
        name = "ensemble" if several else "calibration"
        words = f"No {name} of this backbone is saved yet. Run a search, or save one on the page Scales."
        return Arm(kind, WORDS[kind], missing=words)  # type: ignore[arg-type]
    if what in place.borrowed:
        return _found(place.borrowed[what])
    return _found(services.calibrations.get(what).calibration)


def _found(calibration: Calibration) -> Arm:
    kind: ArmKind = "ensemble" if calibration.is_ensemble else "calibrated"
    return Arm(kind, WORDS[kind], calibration)


# rendering


def compare(
    services: Services,
    visitor: object,
    order: Order,
    *,
    on_step: Callable[..., None] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> Comparison:
    """Render every arm on every prompt and seed in one go, and put them first in the visitor's history.

    Raises RenderError for what cannot be asked, HostError where the model cannot serve, HostCancelled when
    stopped.
    """
    if order.problems:
        raise RenderError(" ".join(order.problems.values()))
    place = services.visitors.of(visitor)
    cancelled = place.begin("compare")
    backbone = services.host.wait_ready(cancel=cancelled, on_wait=on_wait)
    for ask in order.asks[:1]:  # the form may have been checked before the backbone was there
        _, wrong = _size(services, ask.width, ask.height)
        if wrong:
            raise RenderError(" ".join(wrong.values()))
    arms = [arm_of(services, place, choice) for choice in order.choices]
    wanted = [(arm, _own(ask, choice)) for ask in order.asks for arm, choice in zip(arms, order.choices)]
    counted = Steps(on_step, [a.steps for arm, a in wanted if not arm.missing], services.host.batch_size)
    shots = shoot_all(services, wanted, on_step=counted, cancel=cancelled, on_wait=on_wait)
    rows = [shots[i : i + len(arms)] for i in range(0, len(shots), len(arms))]
    made = Comparison(order.asks[0], rows[0], rows[1:], choices=order.choices, made_on=_made_on(backbone))
    place.history.appendleft(made)
    return made


def _own(ask: Ask, choice: Choice) -> Ask:
    """The ask with what this arm has of its own."""
    steps = ask.steps if choice.steps is None else int(choice.steps)
    guidance = ask.guidance if choice.guidance is None else float(choice.guidance)
    return replace(ask, steps=steps, guidance=guidance)


def _made_on(backbone: Backbone) -> dict[str, Any]:
    """The backbone as a PNG's settings name it."""
    from importlib import metadata

    return {
        "backbone": backbone.spec.name,
        "backbone_fingerprint": backbone.fingerprint,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "versions": {name: metadata.version(name) for name in ("torch", "diffusers")},
    }


class Steps:
    """Counts sampling steps over all batches of one press of Render: the host counts each batch anew.

    `steps`: those of each picture. `batch_size`: pictures in a batch; halved by a shortage of memory, so the
    total is an estimate that never runs backwards.
    """

    def __init__(self, on_step: Callable[..., None] | None, steps: Sequence[int], batch_size: int) -> None:
        ordered = sorted(steps)
        batches = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
        self.total = sum(sum(set(batch)) for batch in batches)
        self._on_step, self._before, self._last, self._of = on_step, 0, 0, 0

    def __call__(self, done: int, total: int) -> None:
        if done <= self._last:  # a new batch
            self._before += self._of
        self._last, self._of = done, total
        if self._on_step is not None:
            now = self._before + done
            self._on_step(now, max(self.total, now))


def find(services: Services, visitor: object, key: object) -> Comparison | None:
    """The comparison of this id in the visitor's history."""
    history = services.visitors.of(visitor).history
    return next((c for c in history if c.id == key), None)
