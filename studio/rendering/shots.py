"""What is compared: base, calibrated, ensemble. From a choice on a page to pictures with what is known of
them. No Gradio."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from calibri.errors import RenderError
from studio.machine.host import Priority

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.calibration.artifact import Calibration
    from studio.core import Services
    from studio.scales.desk import Desk

ArmKind = Literal["base", "calibrated", "ensemble"]
KINDS: tuple[ArmKind, ...] = ("base", "calibrated", "ensemble")
WORDS = {"base": "Base", "calibrated": "Calibrated", "ensemble": "Ensemble"}

DESK = "desk"  # the choice that means: the scales on this visitor's desk
NOTHING = ""  # the choice that means: no such arm
EMPTY_DESK = "Your desk is empty. Move a slider on the page Scales first."
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


@dataclass(frozen=True)
class Choice:
    """An arm as a visitor chose it. `what`: a kind (then the studio's first of that kind), DESK, NOTHING, or
    the id of a calibration. `steps` and `guidance` of its own; None: as for all arms."""

    what: str
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Arm:
    """One thing to compare. Without a calibration it is the base; `missing` says in words why there is
    nothing to render."""

    kind: ArmKind
    title: str
    calibration: Calibration | None = None
    missing: str = ""


@dataclass(frozen=True)
class Shot:
    """One picture of one arm and what is known of it. `image`: RGB, as rendered; None where `arm.missing`
    says why."""

    arm: Arm
    ask: Ask
    image: Image | None = None
    nfe: int = 0
    seconds: float = 0.0
    rewards: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One press of Render: what was asked first and a shot of it for each arm.

    `more`: for every further prompt and seed a shot for each arm, in the same order. `choices`: what each arm
    was chosen as, with steps and guidance of its own, so that a page can be set as it was. `made_on`: the
    backbone and its versions, as `png_settings` wants them.
    """

    ask: Ask
    shots: list[Shot] = field(default_factory=list)
    more: list[list[Shot]] = field(default_factory=list)
    choices: tuple[Choice, ...] = ()
    made_on: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def rows(self) -> list[list[Shot]]:
        """One list of shots for every prompt and seed."""
        return [self.shots, *self.more]


def dice() -> int:
    """A seed nobody chose."""
    return random.SystemRandom().randrange(100_000)


def calibration_of_desk(desk: Desk, backbone: str, title: str = "Your desk") -> Calibration:
    """The desk as a calibration, with all its members."""
    from calibri.calibration.artifact import Calibration

    return Calibration(
        title=title,
        backbone=backbone,
        granularity=desk.layout.granularity,
        names=desk.layout.names,
        members=desk.members,
        found={"by": "hand, on the mixing desk"},
    )


def choices(services: Services, kind: ArmKind, granularity: str) -> list[tuple[str, str]]:
    """(title, id) of the saved calibrations that can stand for this arm, the studio's own first."""
    backbone = services.host.status.backbone
    return [
        (entry.title, entry.id)
        for entry in services.calibrations.entries()
        if entry.calibration.granularity == granularity
        and entry.calibration.is_ensemble == (kind == "ensemble")
        and entry.calibration.backbone == backbone
    ]


def arm(services: Services, kind: ArmKind, granularity: str, choice: str | None, desk: Desk | None) -> Arm:
    """The arm for a choice: an id of `choices`, DESK, or None for the first that there is."""
    if kind == "base":
        return Arm("base", WORDS["base"])
    if choice == DESK:
        if desk is None:
            return Arm(kind, WORDS[kind], missing=EMPTY_DESK)
        return Arm(kind, "Your desk", calibration_of_desk(desk, services.host.status.backbone))
    offered = choices(services, kind, granularity)
    if choice is None or choice not in [entry_id for _, entry_id in offered]:
        if not offered:
            what = "ensemble" if kind == "ensemble" else "calibration"
            return Arm(
                kind,
                WORDS[kind],
                missing=f"No {what} of this backbone is saved at {granularity} granularity yet. "
                "A search makes one; another granularity may have one.",
            )
        choice = offered[0][1]
    entry = services.calibrations.get(choice)
    return Arm(kind, WORDS[kind], entry.calibration)


def shoot(
    services: Services,
    arms: Sequence[Arm],
    ask: Ask,
    *,
    score: bool = True,
    on_step: Callable[..., None] | None = None,
    cancel: Callable[[], bool] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> list[Shot]:
    """Render every arm on the same prompt, seed and noise, in one go, and score the pictures."""
    return shoot_all(
        services, [(a, ask) for a in arms], score=score, on_step=on_step, cancel=cancel, on_wait=on_wait
    )


def shoot_all(
    services: Services,
    wanted: Sequence[tuple[Arm, Ask]],
    *,
    score: bool = True,
    on_step: Callable[..., None] | None = None,
    cancel: Callable[[], bool] | None = None,
    on_wait: Callable[[int, str], None] | None = None,
) -> list[Shot]:
    """Render every arm for its own ask in one call of the host, which fills its batches from all of them.
    Shots in the order of `wanted`; those of a missing arm have no picture."""
    from calibri.sampling.renderer import RenderRequest  # torch

    backbone = services.host.wait_ready(cancel=cancel, on_wait=on_wait)
    # Pictures of equal steps stand together, so that the host's batches are full ones.
    order = sorted((i for i, (a, _) in enumerate(wanted) if not a.missing), key=lambda i: wanted[i][1].steps)
    requests = [
        RenderRequest.of(
            ask.prompt,
            ask.seed,
            ask.steps,
            calibration=a.calibration,
            guidance=None if ask.guidance == 1.0 or _combines(a.calibration) else ask.guidance,
            width=ask.width,
            height=ask.height,
        )
        for a, ask in (wanted[i] for i in order)
    ]
    label = "a picture" if len(order) == 1 else f"{len(order)} pictures"
    calls: dict[str, Any] = {"on_step": on_step, "cancel": cancel, "on_wait": on_wait}
    with services.limits.admitted(requests, backbone.spec):
        rendered = services.host.render(requests, priority=Priority.INTERACTIVE, label=label, **calls)
    rows: list[dict[str, float]] = [{} for _ in rendered]
    if score:
        prompts = [wanted[i][1].prompt for i in order]
        rows = services.scorer.score(backbone.spec.name, [r.image for r in rendered], prompts)
    shots = [Shot(a, ask) for a, ask in wanted]
    for i, made, row in zip(order, rendered, rows):
        shots[i] = Shot(*wanted[i], made.image, made.nfe, made.seconds, row)
    return shots


def _combines(calibration: Calibration | None) -> bool:
    """Guidance combines a positive with a negative member; an ensemble has that built in."""
    return calibration is not None and calibration.is_ensemble


def short_title(calibration: Calibration) -> str:
    """The first part of a title: a search writes its rewards behind a comma."""
    return calibration.title.partition(",")[0].strip()[:48]


def facts(shot: Shot) -> list[str]:
    """What stands under a picture, besides rewards."""
    if shot.image is None:
        return []
    guided = [f"guidance {shot.ask.guidance:g}"] if guidance_of(shot) != 1.0 else []
    return [f"{shot.ask.steps} steps", *guided, f"{shot.nfe} NFE", _seconds(shot.seconds)]


def guidance_of(shot: Shot) -> float:
    """The guidance that this picture was made with: an ensemble has its own in its weights."""
    return 1.0 if _combines(shot.arm.calibration) else shot.ask.guidance


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def word_hint(services: Services, prompt: str) -> str:
    """What to say of words that the embedded world does not know. Empty for other backbones."""
    if services.host.status.backbone != "tabletop":
        return ""
    from calibri.tabletop.prompts import hint

    return hint(prompt) or ""
