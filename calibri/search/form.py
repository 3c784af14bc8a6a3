"""What a page, a program or a command line asks of a search, as it was typed, and the one road from there to
a SearchConfig and a Budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from calibri.errors import SearchError, sentence
from calibri.prompts.files import read_field
from calibri.ranges import MOST_STEPS
from calibri.rewards.base import RewardTerm, known_rewards
from calibri.rewards.own import split_weight
from calibri.search.config import Budget, SearchConfig
from calibri.search.counting import check_images, least_images
from calibri.search.pictures import add_pictures, preset_pictures
from calibri.search.prompts import search_prompts, split_as_paper, split_prompts
from calibri.search.space import (
    Start,
    calibration_start,
    ensemble_start,
    guidance_start,
    phase_start,
    plain_start,
)

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration

MOST_IMAGES = 10_000_000
MOST_MINUTES = 100_000
MOST_PROMPTS = 50_000
MOST_POINTS = 60  # of a front
LARGEST_SEED = 2**53 - 1  # the largest that JSON carries exactly
EMPTY = (None, "")
NOTHING = (None, "", 0)  # of fields whose 0 means what is usual

FindStart = Callable[[SearchConfig], "Calibration"]


# fields


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(low: int, high: int, empty: Collection[object] = ()) -> BeforeValidator:
    """A whole number from `low` to `high`; None for what is `empty`."""

    def check(value: Any) -> int | None:
        if value in empty:
            return None
        if not is_number(value) or value != value // 1 or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r}")
        return int(value)

    return BeforeValidator(check)


def above_zero(most: float, empty: Collection[object] = ()) -> BeforeValidator:
    """A number above 0, at most `most`; None for what is `empty`."""

    def check(value: Any) -> float | None:
        if value in empty:
            return None
        if not is_number(value) or not 0 < value <= most:
            raise ValueError(f"expected a number above 0 and at most {most:g}, got {value!r}")
        return float(value)

    return BeforeValidator(check)


def _texts(value: Any, separator: str) -> list[Any]:
    """Different texts: a list of them, or one text with separators."""
    parts = value.split(separator) if isinstance(value, str) else value or ()
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
        raise ValueError(f"expected a list of texts, got {value!r:.60}")
    return list(dict.fromkeys(filter(None, (" ".join(part.split()) for part in parts))))


def _names(value: Any) -> list[str]:
    """Names of rewards. ValueError for one that is not known."""
    names = _texts(value, ",")
    for name in names:
        if split_weight(name)[0].strip() not in known_rewards():
            raise ValueError(f"expected some of {', '.join(known_rewards())}, got {name!r}")
    return names


def _terms(value: Any) -> list[RewardTerm]:
    terms = [RewardTerm.parse(text) for text in _texts(value, ",")]
    if not terms:
        raise ValueError("expected at least one reward, such as tabletop-quality, got none")
    _names([term.name for term in terms])
    return terms


def _prompts(value: Any) -> list[str]:
    prompts = list(read_field(value)) if isinstance(value, str) else _texts(value, "\n")
    if len(prompts) > MOST_PROMPTS:
        raise ValueError(f"expected at most {MOST_PROMPTS}, got {len(prompts)}")
    return prompts


def _pair(value: Any) -> tuple[float, float] | None:
    if value in EMPTY:
        return None
    parts = value.replace(";", ",").split(",") if isinstance(value, str) else value
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"expected two numbers LOW,HIGH such as 0.5,1.5, got {value!r:.60}") from None
    return low, high


def _shares(value: Any) -> tuple[float, ...]:
    if value in EMPTY:
        return ()
    parts = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    )
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"expected shares of the trajectory such as 0.5, got {value!r:.60}") from None


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def read(cls, values: Mapping[str, Any], spell: Callable[[str], str] = str) -> Self:
        """Check what was typed. `spell`: turns a field's name into the one that people see.

        Raises SearchError that names the field, what was expected and what came.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SearchError(sentence(error, spell=spell)) from error


class Limits(_Form):
    """When a search stops in any case."""

    images: Annotated[int | None, whole(1, MOST_IMAGES)] = None
    minutes: Annotated[float | None, above_zero(MOST_MINUTES, NOTHING)] = None
    generations: Annotated[int | None, whole(1, MOST_IMAGES)] = None

    @property
    def budget(self) -> Budget | None:
        """None where no limit is given."""
        limits = {"images": self.images, "minutes": self.minutes, "generations": self.generations}
        return Budget(**limits) if any(limits.values()) else None  # type: ignore[arg-type]  # checked above


class SearchForm(Limits):
    """The settings of a search as typed. Fields that are not named here are those of SearchConfig, checked
    there; None and empty texts are left to preset and backbone.

    `rewards`: `name` or `name:weight`, in a list or with commas. `prompts`, `held_out_prompts`: in a list or
    one a line; none: the embedded world's own. `conditions`: of the members, where they are not those of the
    start. `phases`: shares of the trajectory at which the first member's scales change. `strength`: guidance
    to start from. `bounds`: `0.5,1.5`.
    """

    title: Annotated[str, BeforeValidator(lambda value: value or "")] = ""
    preset: str = "default"
    rewards: Annotated[tuple[RewardTerm, ...], BeforeValidator(_terms)]
    judges: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    conditions: tuple[str, ...] = ()
    phases: Annotated[tuple[float, ...], BeforeValidator(_shares)] = ()
    strength: Annotated[float | None, above_zero(100)] = None
    steps: Annotated[int | None, whole(1, MOST_STEPS)] = None
    seed: Annotated[int, whole(0, LARGEST_SEED)] = 0
    sigma0: Annotated[float | None, above_zero(100, NOTHING)] = None
    popsize: Annotated[int | None, whole(4, 10_000, NOTHING)] = None
    bucket: Annotated[int | None, whole(1, 10_000, NOTHING)] = None
    bounds: Annotated[tuple[float, float] | None, BeforeValidator(_pair)] = None
    weight_bounds: Annotated[tuple[float, float] | None, BeforeValidator(_pair)] = None
    held_out_pairs: Annotated[int, whole(0, 100_000)] = 128
    front: Annotated[int | None, whole(2, MOST_POINTS, NOTHING)] = None
    prompts: Annotated[tuple[str, ...], BeforeValidator(_prompts)] = ()
    held_out_prompts: Annotated[tuple[str, ...], BeforeValidator(_prompts)] = ()

    @property
    def reward_names(self) -> tuple[str, ...]:
        """All rewards and judges, each once."""
        return tuple(dict.fromkeys([*(term.name for term in self.rewards), *self.judges]))

    def config(self, backbone: Backbone, named: str, start: FindStart | None = None) -> SearchConfig:
        """The search that is asked for. `named`: the backbone as the config is to name it. `start`: None for
        the base, else asked with the config as far as it is known by then.

        Raises SearchError with the field that does not fit, LayoutError where the start does not.
        """
        apart = {"title", "preset", "strength", "conditions", "phases", *Limits.model_fields}
        typed = {**self.model_dump(exclude=apart), **(self.model_extra or {})}
        values = {name: value for name, value in typed.items() if value not in EMPTY}
        searched = {term.name for term in self.rewards}
        values |= {
            "backbone": named,
            "rewards": self.rewards,
            "judges": tuple(name for name in self.judges if name not in searched),
            **self._prompt_sets(named),
        }
        own: dict[str, Any] = {"steps": backbone.spec.steps}
        if backbone.spec.cfg is not None:
            own["guidance"] = backbone.spec.cfg
        values = add_pictures(values, own | preset_pictures(self.preset, backbone.spec))
        draft = SearchConfig.make(self.preset, **values)
        first = self._start(draft, backbone, start)
        values |= {"conditions": first.conditions, "weights": first.weights, "start_from": first.words}
        if first.scales is not None:
            values["start"] = first.scales
        if first.roles:
            values["roles"] = first.roles
        made = SearchConfig.make(self.preset, **values)
        if (
            first.roles and made.nfe == made.steps
        ):  # one member at each step: its weight would scale the noise
            values.setdefault("search_weights", False)
            made = made.model_copy(update={"search_weights": values["search_weights"]})
        scales = len(backbone.layout(made.granularity).names)
        made = SearchConfig.make(self.preset, numbers=made.numbers(scales), **values)
        check_images(self.images, *least_images(made, scales))
        return made

    def _prompt_sets(self, backbone: str) -> dict[str, tuple[str, ...]]:
        if self.prompts:
            split = split_as_paper if self.preset == "paper" else split_prompts
            return split(list(self.prompts), list(self.held_out_prompts) or None)
        own = search_prompts(backbone)
        return own | ({"held_out_prompts": self.held_out_prompts} if self.held_out_prompts else {})

    def _start(self, draft: SearchConfig, backbone: Backbone, find: FindStart | None) -> Start:
        if find is not None:
            found = find(draft)
            layout = backbone.layout(draft.granularity)
            start = calibration_start(found, layout, draft.bounds, found.title)
        elif self.strength is not None:
            start = guidance_start(self.strength)
        elif draft.guidance is not None and draft.guidance != 1:
            start = guidance_start(draft.guidance)  # the base itself, which needs guidance to paint well
        else:
            start = plain_start()
        if self.conditions and self.phases:
            raise SearchError("phases: expected one vector or a guided start, got an ensemble as well")
        if self.phases:
            return phase_start(start, self.phases)
        return ensemble_start(start, self.conditions) if self.conditions else start
