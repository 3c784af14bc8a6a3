"""What a search is: every number that its candidates depend on, and apart from it the budget, which they do
not.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from calibri.backbones.options import USUAL, LoadOptions
from calibri.backbones.step_cache import refuse_step_cache
from calibri.calibration.artifact import Member
from calibri.calibration.phases import count_evaluations
from calibri.errors import BackboneError, SearchError, sentence
from calibri.rewards.base import Frozen, RewardLoading, RewardTerm
from calibri.search.pictures import add_pictures, named_pictures
from calibri.search.presets import PUBLISHED_BOUNDS, WHOLE_BOUNDS, choose_preset

MOST_AIMS = 6  # rewards of a front
USUAL_FRONT = 7  # points: of three rewards each alone, each pair, all
FORMAT: Final = "calibri-search/1"

Loading = Annotated[
    LoadOptions,
    PlainValidator(lambda value: _read_loading(value)),
    PlainSerializer(lambda options: options.to_json(), return_type=dict),
]
_LIFTED = ("device", "dtype", "compile")  # fields of LoadOptions that a config has under its own names


def _read_loading(value: Any) -> LoadOptions:
    try:
        return value.check() if isinstance(value, LoadOptions) else LoadOptions.from_json(value)
    except BackboneError as error:
        raise ValueError(str(error)) from error


class Budget(Frozen):
    """When to stop in any case. `images` counts everything rendered before the final judgement."""

    images: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    generations: int | None = Field(default=None, ge=1)

    def reason_to_stop(self, *, images: int, seconds: float, generations: int, cost: int = 0) -> str | None:
        """Which limit is reached, in words; None if none is. `cost`: images of the next generation, which
        must fit."""
        if self.images is not None and (images >= self.images or images + cost > self.images):
            left = self.images - images
            why = f": {left} are left, a generation takes {cost}" if left > 0 else ""
            return f"the budget of {self.images} images is used{why}"
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"the budget of {self.minutes:g} minutes is used"
        if self.generations is not None and generations >= self.generations:
            return f"the budget of {self.generations} generations is used"
        return None


class MemberRole(Frozen):
    """What a member does besides being searched: where it counts, and whether its scales are searched at all.

    `start`, `stop`, `balanced`: as in `Member`. `scales`: searched; the `first` member's, with those of the
    names `without` at 0; or `held` as they were at the start. Its weight is searched in any case.
    """

    start: float = 0.0
    stop: float = 1.0
    balanced: bool = False
    scales: Literal["searched", "first", "held"] = "searched"
    without: tuple[str, ...] = ()

    @property
    def placed(self) -> dict[str, Any]:
        """The fields of a Member."""
        return {"start": self.start, "stop": self.stop, "balanced": self.balanced}


class SearchConfig(Frozen):
    """All that the candidates follow from. Saved as `config.json`; a search never changes it.

    The searched vector is `[scales of member 1, …, scales of member K, weights if searched]`.
    """

    format: Literal["calibri-search/1"] = FORMAT
    preset: str = "default"

    # What is searched
    backbone: str = "tabletop"
    granularity: Literal["block", "layer", "gate"] = "layer"
    conditions: tuple[Literal["positive", "negative"], ...] = ("positive",)
    weights: tuple[float, ...] = (1.0,)  # of the members, at the start
    search_weights: bool = False
    start: tuple[tuple[float, ...], ...] | None = None  # scales of each member; None is all ones
    roles: tuple[MemberRole, ...] = ()  # of each member; none: all are searched and always count
    start_from: str = "base"  # in words, for people

    # How pictures are made
    steps: int = Field(default=8, ge=1)
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    guidance: float | None = None  # of the base that everything is compared with
    batch_size: int = Field(default=32, ge=1)
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False  # of the transformer's blocks, which moves scores in the sixth digit
    loading: Loading = USUAL  # what else is said of loading; device, dtype and compile stand above

    # What is wanted
    rewards: tuple[RewardTerm, ...] = Field(min_length=1)
    judges: tuple[str, ...] = ()  # scored in validations and at the end, never optimised
    reward_loading: RewardLoading = RewardLoading()
    optimize_judges: bool = False  # a judge that was optimised measures nothing any more
    objective: Literal["difference", "win-rate"] = "difference"
    base_samples: int = Field(default=4, ge=2)  # of the base for each prompt; only the win rate uses them
    # Of the win rate of `bt` rewards: in spreads of the base's differences, or what each reward says itself.
    temperature: Annotated[float, Field(gt=0)] | Literal["reward"] = 2.0
    alpha: float = Field(default=1.0, gt=0)  # of the win rate of probabilities, CaPO eq. 28

    # On what
    prompts: tuple[str, ...] = Field(min_length=1)
    validation_prompts: tuple[str, ...] = ()
    held_out_prompts: tuple[str, ...] = ()
    pool: int = Field(default=512, ge=0)  # (prompt, seed) pairs; 0 draws new ones for each generation
    bucket: int = Field(default=4, ge=1)
    race: int = Field(default=0, ge=0)  # pairs that all candidates see before the worse half drops out

    # How
    seed: int = Field(default=0, ge=0)
    optimizer: Literal["cma", "mirrored-adam"] = "cma"
    popsize: int | None = Field(default=None, ge=4)
    sigma0: float = Field(default=0.3, gt=0)
    weight_sigma: float = Field(default=0.2, gt=0)
    mirrors: float = Field(default=0.25, ge=0, lt=0.5)
    mean_rate: Literal["decay", "constant"] = "decay"
    step_limit: Literal["decay", "none"] = "none"
    bounds: tuple[float, float] = PUBLISHED_BOUNDS
    weight_bounds: tuple[float, float] = (-10.0, 10.0)
    front: int = Field(default=0, ge=0)  # points of a front over the rewards, at least; 0 is one calibration

    # When to look, when to stop, what to keep
    convergence: Literal["validation", "paper", "none"] = "validation"
    stop_on_fall: bool = False  # of a judge, on the validation pairs, while the reward rises
    validation_pairs: int = Field(default=64, ge=0)
    validation_spacing: float = Field(default=1.24, gt=1)
    validation_share: float = Field(default=0.1, gt=0, le=1)  # of the images, at most, for validation
    held_out_pairs: int = Field(default=128, ge=0)
    tail: float = Field(default=0.5, gt=0, le=1)
    point: Literal["tail", "fitted"] = "tail"  # kept: the tail average, or halfway to the optimum of a fit

    @model_validator(mode="before")
    @classmethod
    def _lift(cls, values: Any) -> Any:
        """What is said of loading in two places goes to one."""
        if not isinstance(values, dict) or not isinstance(options := values.get("loading"), LoadOptions):
            return values
        given = {name: value for name in _LIFTED if (value := getattr(options, name)) != getattr(USUAL, name)}
        rest = replace(options, **{name: getattr(USUAL, name) for name in _LIFTED})
        return {**given, **values, "loading": rest}

    @model_serializer(mode="wrap")
    def _leave_out_usual(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is younger than the format where it says nothing: configs of before it have the same
        text and hash."""
        values: dict[str, Any] = write(self)
        for name in ("loading", "roles", "stop_on_fall"):
            if not values.get(name):
                values.pop(name, None)
        return values

    @field_validator("bounds", "weight_bounds")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError(
                f"the lower bound must lie below the upper one, got {value[0]:g} and {value[1]:g}"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        try:
            refuse_step_cache(self.loading, "a search")
        except SearchError as error:
            raise ValueError(str(error)) from error
        k = len(self.conditions)
        if k < 1:
            raise ValueError("at least one member is needed")
        if "positive" not in self.conditions:
            raise ValueError("at least one member must see the positive prompt")
        if len(self.weights) != k:
            raise ValueError(f"{k} members need {k} weights, got {len(self.weights)}")
        if self.start is not None and len(self.start) != k:
            raise ValueError(f"{k} members need {k} rows of scales in start, got {len(self.start)}")
        first = self.roles[0] if self.roles else MemberRole()
        if self.roles and (len(self.roles) != k or first.scales != "searched" or first.balanced):
            raise ValueError(f"{k} members need {k} roles, the first one that of a member that is searched")
        names = [term.name for term in self.rewards]
        if len(set(names)) != len(names):
            raise ValueError(f"a reward is named twice: {', '.join(names)}")
        if all(term.weight == 0 for term in self.rewards):
            raise ValueError("at least one reward needs a weight other than 0")
        if self.front:
            self._check_front()
        if self.race >= self.bucket:
            raise ValueError(f"race ({self.race}) must be smaller than bucket ({self.bucket})")
        if 0 < self.pool < self.bucket:
            raise ValueError(f"pool ({self.pool}) must hold at least one bucket ({self.bucket})")
        if (self.height is None) != (self.width is None):
            raise ValueError("give height and width together")
        overlap = set(self.prompts) & set(self.held_out_prompts)
        if overlap:
            raise ValueError(f"a held-out prompt is also searched on: {sorted(overlap)[0]!r}")
        return self

    def _check_front(self) -> None:
        if len(self.rewards) < 2:
            raise ValueError(f"a front needs at least 2 rewards, got {self.rewards[0].name} alone")
        if len(self.rewards) > MOST_AIMS:
            raise ValueError(f"a front has at most {MOST_AIMS} rewards, got {len(self.rewards)}")
        if any(term.weight == 0 for term in self.rewards):
            raise ValueError("every reward of a front needs a weight other than 0")
        if self.objective != "difference":
            raise ValueError("a front is over differences of rewards: leave the objective as it is")

    @classmethod
    def make(cls, preset: str = "default", *, numbers: int | None = None, **values: Any) -> SearchConfig:
        """A config from a preset and what differs from it. `numbers`: how many are searched, which the preset
        `default` goes by; None takes it for few.

        Bounds not given are [0.5, 1.5] on tabletop and the published [-1, 2] elsewhere; more than one
        member means that weights are searched. A preset's pictures are those of `preset_pictures`. Raises
        SearchError in one sentence.
        """
        merged = {**choose_preset(preset, numbers), **values, "preset": preset}
        merged = add_pictures(merged, named_pictures(preset, str(merged.get("backbone", "tabletop"))))
        on_tabletop = str(merged.get("backbone", "tabletop")).rstrip("/").endswith("tabletop")
        merged.setdefault("bounds", WHOLE_BOUNDS if on_tabletop else PUBLISHED_BOUNDS)
        members = len(merged.get("conditions", ("positive",)))
        merged.setdefault("weights", (1.0,) + (0.0,) * (members - 1))
        merged.setdefault("search_weights", members > 1)
        try:
            return cls(**merged)
        except ValidationError as error:
            raise SearchError(sentence(error)) from error

    @classmethod
    def from_json(cls, text: str) -> SearchConfig:
        """Raises SearchError if `text` is not a search's config."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SearchError(f"config.json is not a search's config: {sentence(error)}") from error

    def to_json(self) -> str:
        """JSON with sorted keys, so that equal configs are equal texts."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    def loaded_as(self, options: LoadOptions) -> SearchConfig:
        """The same search with how the backbone was loaded, but for the device: other machines may go on
        with it. Raises SearchError for a step cache."""
        refuse_step_cache(options, "a search")
        usual = {name: getattr(USUAL, name) for name in _LIFTED}
        given = {"dtype": options.dtype, "compile": options.compile, "loading": replace(options, **usual)}
        return self.model_copy(update=given)

    @property
    def load_options(self) -> LoadOptions:
        """How the backbone of this search is loaded."""
        return replace(self.loading, device=self.device, dtype=self.dtype, compile=self.compile)

    @property
    def reward_names(self) -> tuple[str, ...]:
        """All rewards and judges, each once."""
        return tuple(dict.fromkeys([*(term.name for term in self.rewards), *self.judges]))

    @property
    def hash(self) -> str:
        """SHA-256 of the config's JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def prompts_hash(self) -> str:
        """SHA-256 of all prompts, for a calibration's provenance."""
        every = [self.prompts, self.validation_prompts, self.held_out_prompts]
        return hashlib.sha256(json.dumps(every, ensure_ascii=False).encode()).hexdigest()

    def numbers(self, scales: int) -> int:
        """How many numbers are searched on a layout of `scales` scales."""
        members = len(self.conditions)
        return len(self.searched) * scales + (members if self.search_weights else 0)

    @property
    def searched(self) -> tuple[int, ...]:
        """The places of the members whose scales are searched."""
        return tuple(k for k, role in enumerate(self.every_role) if role.scales == "searched")

    @property
    def every_role(self) -> tuple[MemberRole, ...]:
        """What each member does."""
        return self.roles or (MemberRole(),) * len(self.conditions)

    @property
    def nfe(self) -> int:
        """Transformer evaluations for a picture of the members at the start."""
        each = zip(self.weights, self.conditions, self.every_role, strict=True)
        members = [Member(scales=(), weight=w, condition=seen, **role.placed) for w, seen, role in each]
        return count_evaluations(members, self.steps)

    def candidates(self, scales: int) -> int:
        """Of one generation on a layout of `scales` scales."""
        usual = 4 + int(3 * math.log(max(2, self.numbers(scales))))  # Hansen's, of CMA-ES
        return self.popsize or (16 if self.optimizer == "mirrored-adam" else usual)

    def estimate_images(self, scales: int, generations: int) -> int:
        """About how many pictures `generations` generations render, validation and base included."""
        popsize = self.candidates(scales)
        each = (
            popsize * self.bucket
            if not self.race
            else (popsize * self.race + math.ceil(popsize / 2) * (self.bucket - self.race))
        )
        base = generations * self.bucket if not self.pool else min(generations * self.bucket, self.pool)
        searched = generations * each + base
        return round(searched * (1 + self.validation_share)) + self.validation_pairs
