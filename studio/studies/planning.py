"""From what an organiser asks for to a study: arms, prompts with their own seeds, pairs and checks. Pure.

`read_study` is the one way to a NewStudy, for the page, the command line and /ballot/organise.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Mapping
from itertools import combinations, count
from random import Random
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from calibri.calibration.artifact import Calibration
from calibri.errors import PromptError, StudyError, sentence
from calibri.prompts import LONGEST_PROMPT, PromptFile, read_typed, usual_prompts
from calibri.prompts.sets import category_of
from calibri.words import grouped, slug
from studio.rendering.asks import Embedded, Guidance, LoraText, Negative, Steps
from studio.studies.protocol import PRESETS, Protocol, parse_protocol
from studio.studies.storage.study_store import Study, StudyArm, StudyPair, now

MOST_PAIRS = 20_000
MOST_GOLD = 50  # gold pairs of one study
FIRST_SEED, LAST_SEED = 2**30, 2**31 - 1  # the page Compare rolls smaller seeds


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NewArm(_Frozen):
    """An arm to make. `calibration`: the artefact's JSON; None for the base. `loras`: which are on, such as
    `none` or `ink:0.5`; "" are all as they were loaded. `negative`: what guidance and negative members see;
    `embedded`: the guidance of distilled models, None for the backbone's own."""

    label: str = Field(min_length=1, max_length=60)
    kind: Literal["base", "calibrated", "ensemble"] = "base"
    calibration: str | None = None
    steps: Steps = 8
    guidance: Guidance = 1.0
    width: int | None = Field(None, ge=16, le=4096)
    height: int | None = Field(None, ge=16, le=4096)
    loras: LoraText = ""
    negative: Negative = ""
    embedded: Embedded = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> NewArm:
        if (self.calibration is None) != (self.kind == "base"):
            raise ValueError(f"arm {self.label!r}: the base has no calibration, and every other arm has one")
        if self.kind == "ensemble" and self.guidance != 1:
            raise ValueError(
                f"arm {self.label!r}: an ensemble has its guidance in its weights: leave it at 1"
            )
        return self


class NewPrompt(_Frozen):
    """One prompt, with a category by which results can be read."""

    text: str = Field(min_length=1, max_length=LONGEST_PROMPT)
    category: str = Field("", max_length=60)


def _read_prompts(value: object) -> object:
    return read_prompts(value) if isinstance(value, str) else value


def _read_protocol(value: object) -> object:
    return parse_protocol(value) if isinstance(value, str) else value


def _read_seed(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


class NewStudy(_Frozen):
    """Everything that makes a study. `seed` fixes its pictures' seeds and its checks; None draws one.

    Also taken: prompts as a text, a protocol as JSON or a preset's name, and an empty text as no seed.
    """

    name: str = Field(min_length=1, max_length=120)
    arms: tuple[NewArm, ...] = Field(max_length=8)
    prompts: Annotated[tuple[NewPrompt, ...], BeforeValidator(_read_prompts)] = Field(
        min_length=1, max_length=5000
    )
    seeds_per_prompt: int = Field(1, ge=1, le=100)
    backbone: str = "tabletop"
    protocol: Annotated[Protocol, BeforeValidator(_read_protocol)] = PRESETS["side-by-side"]
    seed: Annotated[int | None, BeforeValidator(_read_seed)] = Field(None, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _check_what_fields_cannot(self) -> NewStudy:
        labels = [arm.label for arm in self.arms]
        if len(labels) < 2:
            raise ValueError(f"expected at least 2 arms (a calibration and its settings), got {len(labels)}")
        if len(set(labels)) != len(labels):
            raise ValueError(f"expected arms with different labels, got {labels}")
        texts = [prompt.text for prompt in self.prompts]
        if len(set(texts)) != len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise ValueError(f"the prompt {twice!r} comes twice; use more seeds instead")
        sizes = {(arm.width, arm.height) for arm in self.arms}
        if len(sizes) > 1:
            raise ValueError(f"expected arms of one size, because the size tells them apart; got {sizes}")
        pairs = len(texts) * self.seeds_per_prompt * math.comb(len(labels), 2)
        if pairs > MOST_PAIRS:
            raise ValueError(f"too many pairs: expected at most {grouped(MOST_PAIRS)}, got {grouped(pairs)}")
        return self


def read_study(values: Mapping[str, Any]) -> NewStudy:
    """A new study from what somebody typed or sent. Raises StudyError that names the field."""
    return _read(NewStudy, values, "study")


def make_arm(label: str, calibration: Calibration | None, steps: Any, guidance: Any = 1.0) -> NewArm:
    """An arm of this calibration (None: the base). Raises StudyError that names the field."""
    kind = "base" if calibration is None else "ensemble" if calibration.is_ensemble else "calibrated"
    artefact = calibration.to_json() if calibration else None
    values = {"label": label, "kind": kind, "calibration": artefact, "steps": steps, "guidance": guidance}
    return _read(NewArm, values, "arm")


F = TypeVar("F", bound=BaseModel)


def _read(form: type[F], values: Mapping[str, Any], what: str) -> F:
    try:
        return form.model_validate(dict(values))
    except ValidationError as error:
        raise StudyError(sentence(error, what)) from None


def read_prompts(text: str) -> tuple[NewPrompt, ...]:
    """Prompts from what was typed or pasted: lines, CSV, TSV, JSON or JSON lines, with their categories.

    Empty and repeated prompts are left out. Raises StudyError where none is left or one is too long.
    """
    if not text.strip():
        raise StudyError("There are no prompts. Write one on each line.")
    try:
        return take_file(read_typed(text))
    except PromptError as error:
        raise StudyError(str(error)) from error


def take_file(file: PromptFile) -> tuple[NewPrompt, ...]:
    """What a prompt file holds, as a study takes it."""
    return tuple(NewPrompt(text=p, category=c) for p, c in zip(file.prompts, file.categories))


def draw_prompts(backbone: str, split: str, count: int) -> tuple[NewPrompt, ...]:
    """The first prompts of a split of the set that suits the backbone. Raises PromptError."""
    drawn = usual_prompts(backbone, split, count)
    return tuple(NewPrompt(text=p, category=category_of(p)) for p in drawn)


def draw_picture_seed(key: bytes, seed: int, number: int) -> int:
    """The seed of a study's picture. Without the data folder's `key` it does not follow from the study's
    `seed`, so nobody can render the same pictures on this studio's public pages and see which arm made them.
    """
    word = hmac.new(key, f"pictures:{seed}:{number}".encode(), hashlib.sha256).digest()
    return FIRST_SEED + int.from_bytes(word, "big") % (LAST_SEED - FIRST_SEED)


def plan(new: NewStudy, key: bytes) -> tuple[Study, list[StudyArm], list[StudyPair]]:
    """The study, its arms (with a hidden one for gold pairs) and its pairs. Nothing is rendered yet.

    Every pair of arms meets on every prompt and seed. Each real pair has a twin for repeats. The same `new`
    with the same seed gives the same prompts, seeds and pairs in the same data folder, whose secret is `key`.
    """
    seed = secrets.randbelow(2**31) if new.seed is None else new.seed
    random = Random(hmac.new(key, f"checks:{seed}".encode(), hashlib.sha256).digest())
    numbers = count()
    study_id = f"{slug(new.name, 'study')}-{secrets.token_hex(3)}"
    study = Study(study_id, new.name, new.protocol, seed, "draft", now())
    arms = [_arm(study_id, new.backbone, place, arm) for place, arm in enumerate(new.arms)]
    for x, y in combinations(arms, 2):
        if (x.calibration_hash, x.settings) == (y.calibration_hash, y.settings):
            raise StudyError(f"{x.label!r} and {y.label!r} would render the same pictures.")
    pairs: list[StudyPair] = []

    def add(prompt: NewPrompt, pixels: int, x: StudyArm, y: StudyArm, **more: Any) -> StudyPair:
        key, category = f"{study_id}:{len(pairs):05d}", prompt.category
        made = StudyPair(key, study_id, prompt.text, pixels, x.id, y.id, category=category, **more)
        pairs.append(made)
        return made

    for prompt in new.prompts:
        for _ in range(new.seeds_per_prompt):
            pixels = draw_picture_seed(key, seed, next(numbers))
            for x, y in combinations(arms, 2):
                first = add(prompt, pixels, x, y)
                if new.protocol.repeat_rate > 0:
                    add(prompt, pixels, x, y, kind="repeat", repeat_of=first.id)
    if new.protocol.gold_rate > 0:
        gold = StudyArm(
            f"{study_id}:gold", study_id, "(plainly worse)", "gold", new.backbone, 1, place=len(arms)
        )
        real = sum(pair.kind == "real" for pair in pairs)
        left = max(0.1, 1 - new.protocol.gold_rate - new.protocol.repeat_rate)  # the share of real pairs
        most = min(new.protocol.cap, math.ceil(real / left))  # pairs that one rater can see
        wanted = min(MOST_GOLD, math.ceil(most * new.protocol.gold_rate) + 2)
        order = random.sample(new.prompts, len(new.prompts))
        whole = random.sample(arms, len(arms))  # each arm is the unspoilt one about equally often
        for i in range(wanted):
            pixels = draw_picture_seed(key, seed, next(numbers))
            add(order[i % len(order)], pixels, whole[i % len(whole)], gold, kind="gold")
        arms.append(gold)
    return study, arms, pairs


def _arm(study: str, backbone: str, place: int, new: NewArm) -> StudyArm:
    found = Calibration.from_json(new.calibration) if new.calibration else None
    if found is not None and found.backbone not in ("", backbone):
        raise StudyError(
            f"Expected a calibration of {backbone}, which this study renders; {new.label!r} is one of "
            f"{found.backbone}."
        )
    if found is not None and found.is_ensemble != (new.kind == "ensemble"):
        kind = "an ensemble" if found.is_ensemble else "a calibration of one member"
        raise StudyError(f"{new.label!r} is {kind}, but its kind says {new.kind}.")
    return StudyArm(
        id=f"{study}:{place}",
        study=study,
        backbone=backbone,
        calibration_hash=found.hash if found else None,
        place=place,
        **new.model_dump(),
    )
