"""Calibration: the saved artefact. A layout's names, one or more members, and how it was found. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from calibri.backbones.layouts import Granularity
from calibri.backbones.lora_sites import is_lora_scale, lora_is_missing
from calibri.calibration.phases import vary
from calibri.errors import ArtifactError, LayoutError, sentence
from calibri.files import load_json, read_text, write_whole

if TYPE_CHECKING:
    from calibri.backbones.layouts import Layout

FORMAT: Final = "calibri-calibration/1"
WITH_PHASES: Final = "calibri-calibration/2"  # as the first, for members that are balanced or have a phase
LARGEST_FILE = 8 * 2**20  # bytes; 240 scales take 6 KB
LARGEST_FOUND = 64 * 2**10  # bytes of JSON: how a calibration was found; a search writes about 2 KB
MOST_NAMES, MOST_MEMBERS = 10_000, 64
MOST_SCALES = 100_000  # of all members together
LONGEST_NAME = 200

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Condition = Literal["positive", "negative"]


class _Checked(BaseModel):
    """Frozen, no unknown keys; what does not fit is an ArtifactError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ArtifactError(sentence(error)) from error


class Member(_Checked):
    """One vector of scales, its output weight, and the prompt that it sees.

    The prediction of an ensemble is v(x,t) = Σ_k w_k · v(x, t, c_k; s_k).

    `start`, `stop`: shares of the trajectory between which the member counts; outside of them its weight is 0
    and it costs nothing. `balanced`: while it counts, its weight is taken from the first positive member that
    is not balanced, so that their sum stays: a guidance.
    """

    scales: tuple[Number, ...]
    weight: Number = 1.0
    condition: Condition = "positive"
    start: Annotated[Number, Field(ge=0, le=1)] = 0.0
    stop: Annotated[Number, Field(ge=0, le=1)] = 1.0
    balanced: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _runs_forward(self) -> Member:
        if self.start >= self.stop:
            raise ArtifactError(f"expected start before stop, got {self.start:g} and {self.stop:g}")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_usual(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Files and hashes of members that are neither balanced nor have a phase stay as they were.
        usual = {"start": 0.0, "stop": 1.0, "balanced": False}
        return {name: value for name, value in write(self).items() if usual.get(name) != value}

    @property
    def has_phase(self) -> bool:
        """Whether there are parts of the trajectory in which it does not count."""
        return (self.start, self.stop) != (0, 1)


class Calibration(_Checked):
    """Members on the named scales of one backbone.

    `found`: how it was found (search, rewards, gain, versions …), as JSON. One member = calibrated, several =
    ensemble.
    """

    format: Literal["calibri-calibration/1", "calibri-calibration/2"] = FORMAT
    title: str = Field(default="", max_length=300)
    backbone: str = Field(default="", max_length=300)
    granularity: Granularity
    names: tuple[Annotated[str, Field(max_length=LONGEST_NAME)], ...] = Field(
        min_length=1, max_length=MOST_NAMES
    )
    members: tuple[Member, ...] = Field(min_length=1, max_length=MOST_MEMBERS)
    found: dict[str, Any] = Field(default_factory=dict)

    @field_validator("members", mode="before")
    @classmethod
    def _name_the_member(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if len(value) > MOST_MEMBERS:
            raise ArtifactError(f"members: expected at most {MOST_MEMBERS}, got {len(value)}")
        members = []
        for number, each in enumerate(value, 1):
            try:
                members.append(Member(**each) if isinstance(each, dict) else each)
            except (ArtifactError, TypeError) as error:
                raise ArtifactError(f"member {number}: {error}") from error
        return tuple(members)

    @field_validator("found")
    @classmethod
    def _is_plain_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise ArtifactError(f"found: must be plain JSON with finite numbers ({error})") from error
        if size > LARGEST_FOUND:
            raise ArtifactError(f"found: expected at most {LARGEST_FOUND} bytes of JSON, got {size}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Calibration:
        if len(set(self.names)) != len(self.names):
            twice = next(name for i, name in enumerate(self.names) if self.names.index(name) < i)
            raise ArtifactError(f"names: {twice!r} comes twice")
        if (scales := sum(len(member.scales) for member in self.members)) > MOST_SCALES:
            raise ArtifactError(f"members: expected at most {MOST_SCALES} scales together, got {scales}")
        for number, member in enumerate(self.members, 1):
            if len(member.scales) != len(self.names):
                raise ArtifactError(
                    f"member {number}: expected {len(self.names)} scales, one for each name, "
                    f"got {len(member.scales)}"
                )
        if all(member.weight == 0 for member in self.members):
            raise ArtifactError("members: at least one weight must not be 0")
        if any(member.balanced for member in self.members) and not any(
            member.condition == "positive" and not member.balanced for member in self.members
        ):
            raise ArtifactError("members: a balanced one needs a positive one that is not balanced")
        return self

    @classmethod
    def base(cls, layout: Layout, backbone: str = "") -> Calibration:
        """The model as it was: one member, all scales 1."""
        return cls(
            title="base",
            backbone=backbone,
            granularity=layout.granularity,
            names=layout.names,
            members=(Member(scales=(1.0,) * len(layout.names)),),
        )

    @staticmethod
    def compose(
        parts: Sequence[Calibration], weights: Sequence[float] | None = None, way: str = "blend"
    ) -> Calibration:
        """Several calibrations of one backbone as one: their `blend`, or their `product` in log space; see
        calibri.calibration.compose, which also brings granularities together."""
        from calibri.calibration.compose import compose

        return compose(parts, weights, way)  # type: ignore[arg-type]  # another word is its error

    def without_loras(self) -> Calibration:
        """The same without the strengths of LoRAs in blocks: what it says of the base alone."""
        kept = [i for i, name in enumerate(self.names) if not is_lora_scale(name)]
        if len(kept) == len(self.names):
            return self
        return self.changed(
            names=tuple(self.names[i] for i in kept),
            members=tuple(
                each.model_copy(update={"scales": tuple(each.scales[i] for i in kept)})
                for each in self.members
            ),
        )

    def changed(self, **fields: Any) -> Calibration:
        """With other values of some fields, checked. Not by `model_copy`, which takes a hash along."""
        return Calibration(**{name: getattr(self, name) for name in Calibration.model_fields} | fields)

    @property
    def is_ensemble(self) -> bool:
        """Whether there is more than one member."""
        return len(self.members) > 1

    @property
    def has_phases(self) -> bool:
        """Whether weights depend on the step: some member is balanced or counts in a part of the steps."""
        return vary(self.members)

    def belongs_to(self, backbone: str, fingerprint: str = "") -> bool:
        """Whether it was made for the backbone of this name, or found on weights with this fingerprint: a
        model's folder may have any name."""
        found = self.found.get("backbone_fingerprint")
        return self.backbone == backbone or bool(fingerprint and found == fingerprint)

    def only(self, k: int) -> Calibration:
        """Member `k` alone, with its weight and condition; counted from 0, as in `members`.

        Where weights do not depend on the step, the weighted prediction of an ensemble is the sum of those of
        its members alone; a member alone counts at every step. Raises ArtifactError
        for a number that is no member, or for a member of weight 0, which predicts nothing.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < len(self.members):
            raise ArtifactError(f"expected a member from 0 to {len(self.members) - 1}, got {k!r}")
        alone = self.members[k].model_copy(update={"start": 0.0, "stop": 1.0, "balanced": False})
        return self.changed(members=(alone,))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what pictures depend on: backbone, names and members; not of title and provenance."""
        content = self.model_dump(mode="json", include={"backbone", "granularity", "names", "members"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def on_layout(self, layout: Layout) -> Calibration:
        """The same calibration with the scales of `layout`, in its order; coarser or finer where needed.

        Further sites of the layout (cross-attention, refiners) that the calibration does not name stay at 1.
        Raises LayoutError that names the first scale that is missing or unknown there.
        """
        own = layout.at(self.granularity)
        known, given = set(own.names), set(self.names)
        unknown = [name for name in self.names if name not in known]
        missing = [name for name in own.names if name not in given and not own.is_extra(name)]
        if unknown or missing:
            if unknown and is_lora_scale(unknown[0]):
                raise LayoutError(lora_is_missing(unknown[0]))
            first = f"it has no scale {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing"
            raise LayoutError(
                f"“{self.title or self.backbone}” has {len(self.names)} scales, this backbone has "
                f"{len(own.names)} at {self.granularity} granularity: {first}"
            )
        if self.names == layout.names:
            return self
        place = {name: i for i, name in enumerate(self.names)}
        members = []
        for member in self.members:
            ordered = [member.scales[place[name]] if name in place else 1.0 for name in own.names]
            scales = tuple(own.convert(ordered, layout).tolist())
            members.append(member.model_copy(update={"scales": scales}))
        return Calibration(
            title=self.title,
            backbone=self.backbone,
            granularity=layout.granularity,
            names=layout.names,
            members=tuple(members),
            found=self.found,
        )

    def to_json(self) -> str:
        """Readable JSON, one line a field or member, with a newline at its end."""
        content = self.model_dump(mode="json")
        content["format"] = WITH_PHASES if self.has_phases else FORMAT
        members = ",\n    ".join(json.dumps(member) for member in content.pop("members"))
        fields = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in content.items()]
        fields.insert(-1, f'"members": [\n    {members}\n  ]')
        return "{\n  " + ",\n  ".join(fields) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Raises ArtifactError that says what is wrong."""
        try:
            content = load_json(text.lstrip("\ufeff"))
        except ValueError as error:
            raise ArtifactError(f"not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise ArtifactError(f"expected a JSON object, got {type(content).__name__}")
        if content.get("format") not in (FORMAT, WITH_PHASES):
            if "solution" in content and "shapes" in content:
                raise ArtifactError(
                    "it is a checkpoint of the paper's code: `calibri check FILE --backbone NAME --save "
                    "NEW.json` makes a calibration of it, and the page Library takes it as it is"
                )
            got = repr(content["format"])[:60] if "format" in content else "JSON without a format"
            raise ArtifactError(f"expected the format {FORMAT!r}, got {got}")
        return cls(**{str(key): value for key, value in content.items()})

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Raises ArtifactError with the path and what is wrong."""
        path = Path(path)
        try:
            return cls.from_json(read_text(path, LARGEST_FILE, ArtifactError))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the file as a whole or not at all. Raises ArtifactError if it cannot be written."""
        path = Path(path)
        try:
            write_whole(path, self.to_json(), durable=True)
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror or error}") from error
