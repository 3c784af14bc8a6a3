"""What the page Search does, without the page: from a filled form to a search, and its cost. No Gradio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.calibration.artifact import Calibration
from calibri.errors import SearchError
from calibri.rewards.base import RewardTerm
from calibri.search.config import PRESETS, Budget, SearchConfig
from calibri.search.prompts import search_prompts, split_prompts
from calibri.search.space import Start, calibration_start, ensemble_start, guidance_start, plain_start
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.rewards import JUDGES, REWARDS, SHOWN_FOR
from studio.rendering.arms import DESK
from studio.rendering.asks import LARGEST_SEED, MOST_STEPS, is_whole
from studio.scales.edits import desk_of, opened, place_of
from studio.search.jobs import Searches

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

BASE_START = ""  # the choice that means: all scales 1
SWEEP = "sweep:"  # in front of a sweep's id
IMAGES = 1500
MOST_IMAGES = 10_000_000
MOST_PROMPTS = 5000
MOST_IMAGES_OF_A_PROGRAM = 1_000_000

#: What is searched: words, and the members' conditions where they are not those of the start.
MEMBERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "start": ("One vector", ()),
    "guided": ("Guided pair: positive and negative", ("positive", "negative")),
    "pair": ("Ensemble of two", ("positive", "positive")),
    "three": ("Ensemble of three, one negative", ("positive", "positive", "negative")),
}


@dataclass(frozen=True)
class Form:
    """The settings of a search as they were typed. 0 or an empty text: as the preset has it.

    `rewards`, `judges`: names, with a weight behind a colon. `minutes`: 0 is no limit. `prompts`: one a line.
    `strength`: guidance that a guided pair starts with.
    """

    title: Any = ""
    granularity: Any = "layer"
    members: Any = "start"
    strength: Any = 1.5
    start: Any = BASE_START
    rewards: Any = REWARDS
    steps: Any = 8
    images: Any = IMAGES
    minutes: Any = 0
    preset: Any = "default"
    seed: Any = 0
    objective: Any = "difference"
    convergence: Any = ""
    sigma0: Any = 0
    popsize: Any = 0
    bucket: Any = 0
    bounds: Any = ""
    judges: Any = JUDGES
    held_out_pairs: Any = 128
    prompts: Any = ""


def default_form(backbone: str, steps: int = 8) -> Form:
    """Defaults that suit this backbone."""
    if backbone == "tabletop":
        return Form()
    return Form(rewards=(), judges=(), steps=steps)


def starts(core: Core, sweeps: Sweeps) -> list[tuple[str, str]]:
    """(words, choice) of everything that a search can start from."""
    backbone = core.backbone_name
    saved = [(entry.title, entry.id) for entry in core.calibrations.entries(backbone or None)]
    measured = [
        (f"Best of the sweep {sweep.title}", f"{SWEEP}{sweep.id}")
        for sweep in sweeps.all()
        if sweep.note.backbone == backbone and sweep.done
    ]
    return [("The base: all scales 1.00", BASE_START), ("Your desk", DESK), *saved, *measured]


def start_file(core: Core, visitor: object, path: Path, granularity: str) -> str:
    """Put what a file holds, a calibration or a sweep, on the visitor's desk. Returns what to say."""
    if path.suffix == ".jsonl":
        from calibri.analysis.diagnose import best_start, read_sweep

        backbone = core.host.wait_ready()
        found = best_start(read_sweep(path), backbone.layout(granularity), backbone.spec.name)  # type: ignore[arg-type]
    else:
        found = Calibration.load(path)
    _, remark = opened(core, visitor, found)
    return f"{remark[0].upper()}{remark[1:]} on your desk. The search starts from there."


def config_of(core: Core, sweeps: Sweeps, visitor: object, form: Form) -> SearchConfig:
    """The search that a form asks for, on the loaded backbone. Raises SearchError with the field."""
    from calibri.backbones.catalog import known_backbones

    backbone = core.host.wait_ready()
    spec = backbone.spec
    terms = tuple(RewardTerm.parse(text) for text in form.rewards or ())
    if not terms:
        raise SearchError("Choose at least one reward.")
    if len({term.name for term in terms}) < len(terms):
        raise SearchError("A reward is chosen twice. Remove one of the two.")
    unknown = [n for n in (*(t.name for t in terms), *(form.judges or ())) if n not in _names()]
    if unknown:
        raise SearchError(f"There is no reward {unknown[0]!r}. Known are {', '.join(_names())}.")
    if form.members not in MEMBERS:
        raise SearchError("Choose what is searched.")
    values: dict[str, Any] = {
        "backbone": spec.name if spec.is_local or spec.name in known_backbones() else spec.source,
        "granularity": form.granularity,
        "rewards": terms,
        "judges": tuple(name for name in form.judges or () if name not in {t.name for t in terms}),
        "steps": _whole("Steps", form.steps, 1, MOST_STEPS),
        "seed": _whole("The seed", form.seed, 0, LARGEST_SEED),
        "guidance": spec.cfg,
        "batch_size": core.settings.batch_size,
        "held_out_pairs": _whole("Held-out pairs", form.held_out_pairs, 0, 4096),
        **_prompts(spec.name, str(form.prompts or "")),
    }
    for name, low, high in (("popsize", 4, 1024), ("bucket", 1, 512)):
        if (value := getattr(form, name)) not in (None, "", 0):
            values[name] = _whole(name, value, low, high)
    if form.sigma0 not in (None, "", 0):
        values["sigma0"] = form.sigma0
    if str(form.bounds or "").strip():
        values["bounds"] = _bounds(str(form.bounds))
    if form.convergence:
        values["convergence"] = form.convergence
    if form.objective != "difference":
        values["objective"] = form.objective
    preset = form.preset if form.preset in PRESETS else "default"
    draft = SearchConfig.make(preset, **values)
    start = _start(core, sweeps, visitor, form, backbone, draft)
    values |= {"conditions": start.conditions, "weights": start.weights, "start_from": start.words}
    if start.scales is not None:
        values["start"] = start.scales
    return SearchConfig.make(preset, **values)


def _names() -> tuple[str, ...]:
    from calibri.rewards.base import known_rewards as known

    return known()


def _whole(name: str, value: object, low: int, high: int) -> int:
    if not is_whole(value, low, high):
        raise SearchError(f"{name}: expected a whole number from {low} to {high}, came {value!r}.")
    return int(value)  # type: ignore[call-overload]


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.replace(";", ",").split(","))
    except ValueError as error:
        raise SearchError(f"Bounds: expected two numbers like 0.5, 1.5, came {text[:40]!r}.") from error
    return low, high


def _prompts(backbone: str, text: str) -> dict[str, tuple[str, ...]]:
    """Prompts to search, validate and judge on: those typed, or the embedded world's own."""
    typed = list(dict.fromkeys(filter(None, (" ".join(line.split()) for line in text.splitlines()))))
    if len(typed) > MOST_PROMPTS:
        raise SearchError(f"{len(typed)} prompts were given; {MOST_PROMPTS} are the most.")
    if typed:
        return split_prompts(typed)
    if backbone != "tabletop":
        raise SearchError(
            f"Type at least 10 prompts that suit {backbone}, one a line, under “More settings”."
        )
    return search_prompts(backbone)


def _start(
    core: Core, sweeps: Sweeps, visitor: object, form: Form, backbone: Backbone, draft: SearchConfig
) -> Start:
    layout, bounds = backbone.layout(draft.granularity), draft.bounds
    choice = str(form.start or BASE_START)
    conditions = MEMBERS[form.members][1]
    if choice == BASE_START:
        if form.members == "guided":
            strength = form.strength
            if not isinstance(strength, int | float) or not 0 < strength <= 20:
                raise SearchError(f"Guidance at the start: expected a number up to 20, came {strength!r}.")
            return guidance_start(float(strength))
        usual = draft.guidance not in (None, 1)
        start = guidance_start(draft.guidance) if usual else plain_start()  # type: ignore[arg-type]
    else:
        if choice == DESK:
            desk = desk_of(core, place_of(core, visitor))
            found, words = desk.calibration(backbone.spec.name), "a desk"
        elif choice.startswith(SWEEP):
            found = sweeps.start_of(choice.removeprefix(SWEEP), layout)
            words = found.title
        else:
            found = core.calibrations.get(choice).calibration
            words = found.title
        start = calibration_start(found, layout, bounds, words)
    return ensemble_start(start, conditions) if conditions and conditions != start.conditions else start  # type: ignore[arg-type]


def budget_of(form: Form) -> Budget:
    """The limits of a form. Raises SearchError."""
    images = _whole("Images", form.images, 1, MOST_IMAGES)
    if form.minutes in (None, "", 0):
        return Budget(images=images)
    if not isinstance(form.minutes, int | float) or not 0 < form.minutes <= 100_000:
        raise SearchError(f"Minutes: expected a number above 0, or 0 for no limit, came {form.minutes!r}.")
    return Budget(images=images, minutes=float(form.minutes))


@dataclass(frozen=True)
class Cost:
    """What a search will take. `seconds`: None while this machine's speed is not known."""

    numbers: int
    generations: int
    images: int
    each: int  # images a generation
    judging: int
    seconds: float | None
    per_image: float | None


def cost_of(searches: Searches, config: SearchConfig, budget: Budget, backbone: Backbone) -> Cost:
    """About what `config` takes within `budget`, on this machine."""
    from calibri.search.space import SearchSpace

    layout = backbone.layout(config.granularity)
    space = SearchSpace.of(config, layout)
    most = budget.images or IMAGES
    low, high = 0, 1
    while config.estimate_images(len(layout.names), high) <= most:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = config.estimate_images(len(layout.names), middle) <= most
        low, high = (middle, high) if fits else (low, middle)
    each = config.estimate_images(len(layout.names), 2) - config.estimate_images(len(layout.names), 1)
    judging = 2 * config.held_out_pairs if config.held_out_prompts else 0
    nfe = config.steps * sum(weight != 0 for weight in config.weights)
    per_image = searches.pace.seconds(Path(config.backbone).name, nfe)
    seconds = None if per_image is None else (most + judging) * per_image
    if seconds is not None and budget.minutes is not None:
        seconds = min(seconds, 60 * budget.minutes + judging * (per_image or 0))
    return Cost(space.size, low, most, each, judging, seconds, per_image)


def chosen(searches: Searches, kept: object) -> tuple[str | None, list[str]]:
    """The search that a page opens with, and those beside it: what this browser looked at, else what runs,
    else the newest."""
    known = [status.id for status in searches.all()]
    wanted = [i for i in kept if i in known] if isinstance(kept, list) else []
    if isinstance(kept, list) and kept and kept[0] in known:
        return kept[0], [i for i in wanted if i != kept[0]]
    running = [s.id for s in searches.all() if s.state in ("running", "stopping", "paused", "elsewhere")]
    return next(iter([*running, *known]), None), []


# the same from a program


def read_search(
    core: Core,
    granularity: object,
    rewards: object,
    steps: object,
    images: object,
    seed: object,
    prompts: object,
) -> tuple[SearchConfig, Budget]:
    """The search that a program asks for, on the loaded backbone, and its budget.

    Raises SearchError that names the argument which does not fit.
    """
    if not is_whole(images, 1, MOST_IMAGES_OF_A_PROGRAM):
        raise SearchError(
            f"images: expected a whole number from 1 to {MOST_IMAGES_OF_A_PROGRAM}, came {images!r}."
        )
    if not is_whole(seed, 0, LARGEST_SEED):
        raise SearchError(f"seed: expected a whole number from 0 to {LARGEST_SEED}, came {seed!r}.")
    if not is_whole(steps, 1, 100):
        raise SearchError(f"steps: expected a whole number from 1 to 100, came {steps!r}.")
    spec = core.host.wait_ready().spec
    judges = [name for name in JUDGES if name in SHOWN_FOR.get(spec.name, ())]
    terms = tuple(RewardTerm.parse(word) for word in read_texts("rewards", rewards, 32))
    config = SearchConfig.make(
        backbone=spec.name,
        granularity=granularity,
        rewards=terms,
        judges=tuple(name for name in judges if name not in {term.name for term in terms}),
        steps=int(steps),  # type: ignore[call-overload]
        guidance=spec.cfg,
        seed=int(seed),  # type: ignore[call-overload]
        batch_size=core.settings.batch_size,
        **read_prompts(spec.name, prompts),
    )
    check_rewards(config)
    return config, Budget(images=int(images))  # type: ignore[call-overload]


def read_texts(name: str, value: object, most: int) -> list[str]:
    """A list of different texts as a program sent it."""
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        raise SearchError(f"{name}: expected a list of texts.")
    if len(value) > most:
        raise SearchError(f"{name}: expected at most {most} texts, came {len(value)}.")
    return list(dict.fromkeys(" ".join(v.split()) for v in value))


def read_prompts(backbone: str, prompts: object) -> dict[str, tuple[str, ...]]:
    """Prompts to search, validate and judge on; none given: the embedded world's own."""
    if prompts == [] and backbone == "tabletop":
        return search_prompts(backbone)
    if prompts == []:
        raise SearchError(f"prompts: expected at least 10 that suit {backbone}.")
    try:
        return split_prompts(read_texts("prompts", prompts, MOST_PROMPTS))
    except SearchError as error:
        raise SearchError(f"prompts: {str(error).removeprefix('prompts: ')}") from error


def check_rewards(config: SearchConfig) -> None:
    """Raises SearchError for a reward that is not known, before the search is in the queue."""
    from calibri.rewards.base import known_rewards  # numpy

    unknown = [term.name for term in config.rewards if term.name not in known_rewards()]
    if unknown:
        known = ", ".join(known_rewards())
        raise SearchError(f"rewards: there is no reward {unknown[0]!r}; expected some of {known}.")
