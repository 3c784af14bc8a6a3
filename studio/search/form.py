"""From what was typed to a search, and what it will cost. No Gradio."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from calibri.backbones.catalog import backbone_name
from calibri.calibration.artifact import Calibration
from calibri.errors import SearchError
from calibri.ranges import MOST_STEPS
from calibri.rewards.base import RewardLoading
from calibri.search.config import Budget, SearchConfig
from calibri.search.form import FindStart, Limits, SearchForm
from calibri.search.pictures import PICTURES, preset_pictures
from studio.calibrations import read_file
from studio.compare.form import SizeLimits, limit_size
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.offers import JUDGES, REWARDS, fits, usual_judges, usual_rewards
from studio.machine.speed import Pace
from studio.rendering.arms import DESK
from studio.scales.edits import get_desk, get_place, open_calibration

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec
    from calibri.backbones.loading import Backbone

BASE_START = ""  # the choice that means: all scales 1
HALVES = (0.5,)  # where the phases of a search part
SWEEP = "sweep:"  # in front of a sweep's id
IMAGES = 1500

#: What is searched: words, and the members' conditions where they are not those of the start.
MEMBERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "start": ("One vector", ()),
    "guided": ("Guided pair: positive and negative", ("positive", "negative")),
    "pair": ("Ensemble of two", ("positive", "positive")),
    "phases": ("Two phases: scales for the early and the late half", ()),
    "three": ("Ensemble of three, one negative", ("positive", "positive", "negative")),
}
#: The fields of the page and what they hold at first: those of calibri's SearchForm, with `members` (what is
#: searched), `strength` (guidance that a guided pair starts with) and `start` (a choice of `starts`).
USUAL: dict[str, Any] = {
    "title": "",
    "granularity": "layer",
    "members": "start",
    "strength": 1.5,
    "start": BASE_START,
    "rewards": list(REWARDS),
    "front": 0,
    "steps": 8,
    "size": "",
    "images": IMAGES,
    "minutes": 0,
    "preset": "default",
    "seed": 0,
    "objective": "difference",
    "convergence": "",
    "sigma0": 0,
    "popsize": 0,
    "bucket": 0,
    "bounds": "",
    "judges": list(JUDGES),
    "stop_on_fall": False,
    "held_out_pairs": 128,
    "prompts": "",
}
PAPER_STEPS = 15  # of FLUX.1-dev in the paper's searches
FOLLOWS = ("rewards", "judges", "steps")  # fields that change with the backbone
#: Fields that the page names otherwise.
NAMES = {
    "strength": "Guidance at the start",
    "sigma0": "First step",
    "popsize": "Candidates",
    "bucket": "Pairs a generation",
}


class Order(NamedTuple):
    """A search that can be started."""

    config: SearchConfig
    budget: Budget | None
    title: str


def usual_values(
    backbone: str, spec: BackboneSpec | None = None, loading: RewardLoading | None = None
) -> dict[str, Any]:
    """What the fields hold at first, for this backbone. `spec`: how it is used. `loading`: the studio's."""
    return {
        **USUAL,
        "rewards": usual_rewards(backbone, loading or RewardLoading()),
        "judges": usual_judges(backbone),
        "steps": USUAL["steps"] if spec is None else search_steps(spec),
    }


def search_steps(spec: BackboneSpec) -> int:
    """The steps to search at: the backbone's own; of FLUX the paper's, where that is fewer."""
    flux = spec.transformer is not None and spec.transformer[0] == "FluxTransformer2DModel"
    return min(spec.steps, MOST_STEPS, PAPER_STEPS if flux else MOST_STEPS)


def core_usual(core: Core) -> dict[str, Any]:
    """The same for the backbone that is there, or on its way."""
    spec = core.spec
    name = spec.name if spec is not None else core.backbone_name or core.settings.backbone
    return usual_values(name, spec, core.rewards.loading)


def suit(core: Core, typed: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that follow the backbone, where they are as it left them. `held`: what was usual for the
    last one. Rewards that do not fit the new one go."""
    usual, name = core_usual(core), core.backbone_name
    found = {}
    for field in FOLLOWS:
        value = typed[field]
        if field != "steps" and value != held.get(field):
            value = [term for term in value or () if fits(str(term).partition(":")[0], name)]
        found[field] = usual[field] if value == held.get(field) else value
    return found


def preset_steps(preset: str, typed: object, spec: BackboneSpec) -> object:
    """What the field for steps holds once this preset is chosen: a number that somebody chose stays."""
    asked = preset_pictures(preset, spec).get("steps")
    if asked is not None:
        return asked if typed in (USUAL["steps"], spec.steps) else typed
    others = [preset_pictures(name, spec).get("steps") for name in PICTURES]
    return spec.steps if typed in others else typed


def name_field(field: str) -> str:
    """A field as the page names it."""
    return NAMES.get(field) or field.replace("_", " ").capitalize()


def starts(core: Core, sweeps: Sweeps) -> list[tuple[str, str]]:
    """(words, choice) of everything that a search can start from."""
    backbone = core.backbone_name
    saved = [(entry.title, entry.id) for entry in core.fitting_calibrations()]
    measured = [
        (f"Best of the sweep {sweep.title}", f"{SWEEP}{sweep.id}")
        for sweep in sweeps.all()
        if sweep.note.backbone == backbone and sweep.done
    ]
    return [("The base: all scales 1.00", BASE_START), ("Your desk", DESK), *saved, *measured]


def open_start(core: Core, visitor: object, path: Path, granularity: str) -> str:
    """Put what a file holds, a calibration or a sweep, on the visitor's desk. Returns what to say."""
    if path.suffix == ".jsonl":
        from calibri.analysis.diagnose import best_start, read_sweep

        backbone = core.host.wait_ready()
        layout = backbone.layout(granularity)  # type: ignore[arg-type]  # LayoutError for an unknown one
        found = best_start(read_sweep(path), layout, backbone.spec.name)
    else:
        found = read_file(path, core.host.backbone)
    _, remark = open_calibration(core, visitor, found)
    return f"{remark[0].upper()}{remark[1:]} on your desk. The search starts from there."


def read_page(core: Core, sweeps: Sweeps, visitor: object, typed: Mapping[str, Any]) -> Order:
    """The search that the page asks for, on the loaded backbone. Raises SearchError with the field."""
    backbone = core.host.wait_ready()
    values = {**typed, "batch_size": core.settings.batch_size}
    members, start, strength = (values.pop(name) for name in ("members", "start", "strength"))
    values |= read_size(values.pop("size", ""), limit_size(backbone))
    if members not in MEMBERS:
        raise SearchError("Choose what is searched.")
    values["conditions"] = MEMBERS[members][1]
    if members == "phases":
        values["phases"] = HALVES
    if members == "guided" and not start:
        values["strength"] = strength
    form = SearchForm.read(values, name_field)
    find = _find_start(core, sweeps, visitor, str(start), backbone) if start else None
    return _order(core, form, form.config(backbone, _config_name(backbone.spec), find))


def read_program(core: Core, typed: Mapping[str, Any]) -> Order:
    """The search that a program asks for, on the loaded backbone. Raises SearchError with the argument."""
    backbone = core.host.wait_ready()
    judges = usual_judges(backbone.spec.name)
    form = SearchForm.read({**typed, "judges": judges, "batch_size": core.settings.batch_size})
    return _order(core, form, form.config(backbone, _config_name(backbone.spec)))


def _order(core: Core, form: SearchForm, config: SearchConfig) -> Order:
    """The search with the studio's way to load its rewards, which it keeps. Raises RewardError for what they
    lack."""
    loading = core.rewards.loading.of(config.reward_names)
    loading.check(config.reward_names)
    config = config.loaded_as(core.host.options)
    return Order(config.model_copy(update={"reward_loading": loading}), form.budget, form.title)


def read_size(typed: object, limits: SizeLimits) -> dict[str, int]:
    """Width and height of `512x512`; none for an empty text. Raises SearchError."""
    text = str(typed or "").strip()
    if not text:
        return {}
    match = re.fullmatch(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", text)
    sides = [int(side) for side in match.groups()] if match else []
    if not sides or any(not limits.least <= s <= limits.most or s % limits.step for s in sides):
        raise SearchError(
            f"Size: expected WIDTHxHEIGHT in multiples of {limits.step} from {limits.least} to {limits.most} "
            f"pixels, or nothing for the size of {limits.name}, got {text[:40]!r}"
        )
    return dict(zip(("width", "height"), sides, strict=True))


def read_budget(typed: Mapping[str, Any]) -> Budget | None:
    """The limits among the fields of the page. Raises SearchError."""
    return Limits.read({name: typed[name] for name in ("images", "minutes")}, name_field).budget


def _config_name(spec: BackboneSpec) -> str:
    """The backbone as a config names it."""
    from calibri.backbones.catalog import known_backbones

    if spec.is_local or spec.name.partition("+")[0] in known_backbones():
        return spec.name
    return "+".join([spec.source, *spec.extras])


def _find_start(core: Core, sweeps: Sweeps, visitor: object, choice: str, backbone: Backbone) -> FindStart:
    def find(draft: SearchConfig) -> Calibration:
        if choice == DESK:
            desk = get_desk(core, get_place(core, visitor))
            return desk.calibration(backbone.spec.name).model_copy(update={"title": "a desk"})
        if choice.startswith(SWEEP):
            return sweeps.start_of(choice.removeprefix(SWEEP), backbone.layout(draft.granularity))
        return core.calibrations.get(choice).calibration

    return find


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


def cost_of(pace: Pace, order: Order, backbone: Backbone) -> Cost:
    """About what a search takes on this machine."""
    from calibri.search.front import judged_images
    from calibri.search.space import SearchSpace

    config, budget = order.config, order.budget or Budget()
    layout = backbone.layout(config.granularity)
    scales, most = len(layout.names), budget.images or IMAGES
    low, high = 0, 1
    while config.estimate_images(scales, high) <= most:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = config.estimate_images(scales, middle) <= most
        low, high = (middle, high) if fits else (low, middle)
    each = config.estimate_images(scales, 2) - config.estimate_images(scales, 1)
    judging = judged_images(config)
    per_image = pace.seconds(backbone_name(config.backbone), config.nfe)
    seconds = None if per_image is None else (most + judging) * per_image
    if seconds is not None and per_image is not None and budget.minutes is not None:
        seconds = min(seconds, 60 * budget.minutes + judging * per_image)
    return Cost(SearchSpace.of(config, layout).size, low, most, each, judging, seconds, per_image)
