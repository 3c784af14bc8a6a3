"""From what was typed to a search, and what it will cost. No Gradio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from calibri.calibration.artifact import Calibration
from calibri.errors import SearchError
from calibri.search.config import Budget, SearchConfig
from calibri.search.form import FindStart, Limits, SearchForm
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.rewards import JUDGES, REWARDS, SHOWN_FOR
from studio.machine.speed import Pace
from studio.rendering.arms import DESK
from studio.scales.edits import get_desk, get_place, open_calibration

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec
    from calibri.backbones.loading import Backbone

BASE_START = ""  # the choice that means: all scales 1
SWEEP = "sweep:"  # in front of a sweep's id
IMAGES = 1500

#: What is searched: words, and the members' conditions where they are not those of the start.
MEMBERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "start": ("One vector", ()),
    "guided": ("Guided pair: positive and negative", ("positive", "negative")),
    "pair": ("Ensemble of two", ("positive", "positive")),
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
    "steps": 8,
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
    "held_out_pairs": 128,
    "prompts": "",
}
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


def usual_values(backbone: str) -> dict[str, Any]:
    """What the fields hold at first, for this backbone."""
    return dict(USUAL) if backbone == "tabletop" else {**USUAL, "rewards": [], "judges": []}


def name_field(field: str) -> str:
    """A field as the page names it."""
    return NAMES.get(field) or field.replace("_", " ").capitalize()


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


def open_start(core: Core, visitor: object, path: Path, granularity: str) -> str:
    """Put what a file holds, a calibration or a sweep, on the visitor's desk. Returns what to say."""
    if path.suffix == ".jsonl":
        from calibri.analysis.diagnose import best_start, read_sweep

        backbone = core.host.wait_ready()
        layout = backbone.layout(granularity)  # type: ignore[arg-type]  # LayoutError for an unknown one
        found = best_start(read_sweep(path), layout, backbone.spec.name)
    else:
        found = Calibration.load(path)
    _, remark = open_calibration(core, visitor, found)
    return f"{remark[0].upper()}{remark[1:]} on your desk. The search starts from there."


def read_page(core: Core, sweeps: Sweeps, visitor: object, typed: Mapping[str, Any]) -> Order:
    """The search that the page asks for, on the loaded backbone. Raises SearchError with the field."""
    backbone = core.host.wait_ready()
    values = {**typed, "batch_size": core.settings.batch_size}
    members, start, strength = (values.pop(name) for name in ("members", "start", "strength"))
    if members not in MEMBERS:
        raise SearchError("Choose what is searched.")
    values["conditions"] = MEMBERS[members][1]
    if members == "guided" and not start:
        values["strength"] = strength
    form = SearchForm.read(values, name_field)
    find = _find_start(core, sweeps, visitor, str(start), backbone) if start else None
    return Order(form.config(backbone, _config_name(backbone.spec), find), form.budget, form.title)


def read_program(core: Core, typed: Mapping[str, Any]) -> Order:
    """The search that a program asks for, on the loaded backbone. Raises SearchError with the argument."""
    backbone = core.host.wait_ready()
    judges = [name for name in JUDGES if name in SHOWN_FOR.get(backbone.spec.name, ())]
    form = SearchForm.read({**typed, "judges": judges, "batch_size": core.settings.batch_size})
    return Order(form.config(backbone, _config_name(backbone.spec)), form.budget, form.title)


def read_budget(typed: Mapping[str, Any]) -> Budget | None:
    """The limits among the fields of the page. Raises SearchError."""
    return Limits.read({name: typed[name] for name in ("images", "minutes")}, name_field).budget


def _config_name(spec: BackboneSpec) -> str:
    """The backbone as a config names it."""
    from calibri.backbones.catalog import known_backbones

    return spec.name if spec.is_local or spec.name in known_backbones() else spec.source


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
    judging = 2 * config.held_out_pairs if config.held_out_prompts else 0
    nfe = config.steps * sum(weight != 0 for weight in config.weights)
    per_image = pace.seconds(Path(config.backbone).name, nfe)
    seconds = None if per_image is None else (most + judging) * per_image
    if seconds is not None and per_image is not None and budget.minutes is not None:
        seconds = min(seconds, 60 * budget.minutes + judging * per_image)
    return Cost(SearchSpace.of(config, layout).size, low, most, each, judging, seconds, per_image)
