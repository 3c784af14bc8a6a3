"""Calibration: the saved artefact. A layout's names, one or more members, and how it was found. No torch."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from calibri.backbones.layouts import Granularity
from calibri.errors import ArtifactError, LayoutError, sentence
from calibri.files import write_whole

if TYPE_CHECKING:
    from calibri.backbones.layouts import Layout

FORMAT: Final = "calibri-calibration/1"
LARGEST_FILE = 8 * 2**20  # bytes; 240 scales take 6 KB

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
    """

    scales: tuple[Number, ...]
    weight: Number = 1.0
    condition: Condition = "positive"


class Calibration(_Checked):
    """Members on the named scales of one backbone.

    `found`: how it was found (search, rewards, gain, versions …), as JSON. One member = calibrated, several =
    ensemble.
    """

    format: Literal["calibri-calibration/1"] = FORMAT
    title: str = Field(default="", max_length=300)
    backbone: str = Field(default="", max_length=300)
    granularity: Granularity
    names: tuple[str, ...] = Field(min_length=1)
    members: tuple[Member, ...] = Field(min_length=1)
    found: dict[str, Any] = Field(default_factory=dict)

    @field_validator("members", mode="before")
    @classmethod
    def _name_the_member(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
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
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ArtifactError(f"found: must be plain JSON with finite numbers ({error})") from error
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Calibration:
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ArtifactError(f"names: {twice!r} comes twice")
        for number, member in enumerate(self.members, 1):
            if len(member.scales) != len(self.names):
                raise ArtifactError(
                    f"member {number}: expected {len(self.names)} scales, one for each name, "
                    f"got {len(member.scales)}"
                )
        if all(member.weight == 0 for member in self.members):
            raise ArtifactError("members: at least one weight must not be 0")
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

    @property
    def is_ensemble(self) -> bool:
        """Whether there is more than one member."""
        return len(self.members) > 1

    def only(self, k: int) -> Calibration:
        """Member `k` alone, with its weight and condition; counted from 0, as in `members`.

        The weighted prediction of an ensemble is the sum of those of its members alone. Raises ArtifactError
        for a number that is no member, or for a member of weight 0, which predicts nothing.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < len(self.members):
            raise ArtifactError(f"expected a member from 0 to {len(self.members) - 1}, got {k!r}")
        return Calibration(**{**dict(self), "members": (self.members[k],)})

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what pictures depend on: backbone, names and members; not of title and provenance."""
        content = self.model_dump(mode="json", include={"backbone", "granularity", "names", "members"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def on_layout(self, layout: Layout) -> Calibration:
        """The same calibration with the scales of `layout`, in its order; coarser or finer where needed.

        Raises LayoutError that names the first scale that is missing or unknown there.
        """
        own = layout.at(self.granularity)
        unknown = [name for name in self.names if name not in set(own.names)]
        missing = [name for name in own.names if name not in set(self.names)]
        if unknown or missing:
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
            ordered = [member.scales[place[name]] for name in own.names]
            scales = tuple(own.convert(ordered, layout).tolist())
            members.append(Member(scales=scales, weight=member.weight, condition=member.condition))
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
        members = ",\n    ".join(json.dumps(member) for member in content.pop("members"))
        fields = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in content.items()]
        fields.insert(-1, f'"members": [\n    {members}\n  ]')
        return "{\n  " + ",\n  ".join(fields) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Raises ArtifactError that says what is wrong."""
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ArtifactError(f"not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise ArtifactError(f"expected a JSON object, got {type(content).__name__}")
        if content.get("format") != FORMAT:
            raise ArtifactError(f"expected the format {FORMAT!r}, got {content.get('format')!r}")
        return cls(**{str(key): value for key, value in content.items()})

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Raises ArtifactError with the path and what is wrong."""
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise ArtifactError(f"{path}: larger than {LARGEST_FILE // 2**20} MB, so no calibration")
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path}: not a text file") from error
        except ArtifactError as error:
            if str(error).startswith(str(path)):
                raise
            raise ArtifactError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the file as a whole or not at all. Raises ArtifactError if it cannot be written."""
        path = Path(path)
        try:
            write_whole(path, self.to_json(), durable=True)
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror or error}") from error
