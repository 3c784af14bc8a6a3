"""How a study is run: questions, answers, caps, checks and thresholds. Hashed before the first vote."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from calibri.preference import Thresholds

Side = Literal["left", "right", "tie", "both_bad", "skip"]
SIDES: tuple[Side, ...] = ("left", "right", "tie", "both_bad", "skip")
LONGEST_COMMENT = 500
#: Fields that earlier versions did not have. Where they say nothing new, texts and hashes are as they were.
LATER = ("presentation", "own_result", "panel")


class Question(BaseModel):
    """One question about the two pictures. `id` is its name in tables and exports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    text: str = Field(min_length=3, max_length=200)


PREFERENCE = Question(id="preference", text="Which picture do you like better?")
ALIGNMENT = Question(id="alignment", text="Which picture follows the text better?")
BOTH = Question(id="preference", text="Which picture looks better and follows the text?")


#: What panels call the one who takes part, and what else their links carry: Prolific, Connect, MTurk.
PANEL_IDS = ("PROLIFIC_PID", "participantId", "workerId")
PANEL_ALSO = ("STUDY_ID", "SESSION_ID", "assignmentId", "projectId", "hitId")
_OWN_NAMES = {"study", "invite", "preview", "rater", "next"}
PanelName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]


class Panel(BaseModel):
    """How people come from a panel that pays them, and go back to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[PanelName, ...] = Field(PANEL_IDS, min_length=1, max_length=8)
    """Parameters of the link, the first of which that is there says who takes part."""
    also: tuple[PanelName, ...] = Field(PANEL_ALSO, max_length=8)
    """Parameters that are kept beside it."""
    code: str = Field("", max_length=100)
    """Shown to whoever has voted on all their pairs."""
    return_to: str = Field("", max_length=500)
    """An address, https alone, that is offered then."""

    @field_validator("ids", "also")
    @classmethod
    def _leave_our_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if taken := sorted(_OWN_NAMES & set(names)):
            raise ValueError(f"expected other names than the studio's own, got {taken[0]}")
        return names

    @field_validator("return_to")
    @classmethod
    def _check_address(cls, address: str) -> str:
        if address and not is_https(address):
            raise ValueError("expected an address that begins with https://, got something else")
        return address

    @field_validator("code")
    @classmethod
    def _check_code(cls, code: str) -> str:
        if not code.isprintable():
            raise ValueError("expected a code of printable characters")
        return code.strip()


def is_https(address: str) -> bool:
    """Whether this is an address of https with a host, without a name and password in it."""
    if not address.isascii() or any(c.isspace() or not c.isprintable() or c in '\\"<>' for c in address):
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


class Protocol(BaseModel):
    """The rules of one study."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str = "own"
    questions: tuple[Question, ...] = Field((PREFERENCE,), min_length=1, max_length=5)
    extra_answers: tuple[Literal["tie", "both_bad", "skip"], ...] = ("tie", "both_bad", "skip")
    instruction: str = Field(
        "You see two pictures made from the same text. Choose the one you like better. "
        "There is no right answer.",
        min_length=1,
        max_length=2000,
    )
    consent: str = Field(
        "Your answers are stored without your name, e-mail or address and may be published in summary.",
        min_length=1,
        max_length=2000,
    )
    votes_per_pair: int | None = Field(None, ge=1, le=1000)
    """Raters wanted for each pair; None: no limit."""
    cap: int = Field(30, ge=1, le=10_000)
    """Pairs for one rater at most, checks included."""
    gold_rate: float = Field(0.0, ge=0, le=0.5)
    repeat_rate: float = Field(0.0, ge=0, le=0.5)
    repeat_gap: int = Field(5, ge=1)
    """A repeat comes at least this many showings after the first showing."""
    least_view_ms: int = Field(800, ge=0, le=60_000)
    """Answers open this many milliseconds after both pictures are on screen."""
    expires_minutes: int = Field(60, ge=1, le=10_080)
    consensus_k: int | None = Field(None, ge=2, le=20)
    sampling: Literal["even", "adaptive", "informative"] = "even"
    """Which arms meet next: all equally often; those of which least is known; those whose next vote is
    expected to tell most about the ranking, for three arms or more."""
    access: Literal["open", "invite", "hub"] = "open"
    comments: bool = False
    presentation: Literal["side-by-side", "flip"] = "side-by-side"
    """`flip`: both pictures in one place, one in front of the other, changed by a key or a tap."""
    own_result: bool = False
    """Whether raters are told of their own answers at the end; never of arms or of others."""
    thresholds: Thresholds = Thresholds()
    panel: Panel | None = None

    @model_validator(mode="after")
    def _whole(self) -> Protocol:
        ids = [q.id for q in self.questions]
        if len(set(ids)) != len(ids):
            raise ValueError(f"expected questions with different ids, got {ids}")
        if len(set(self.extra_answers)) != len(self.extra_answers):
            raise ValueError(f"expected different answers, got {list(self.extra_answers)}")
        return self

    @property
    def sides(self) -> tuple[Side, ...]:
        """The answers a rater may give."""
        return tuple(s for s in SIDES if s in ("left", "right") or s in self.extra_answers)

    def to_json(self) -> str:
        """JSON with sorted keys: equal protocols have equal texts."""
        silent = {name for name in LATER if getattr(self, name) == type(self).model_fields[name].default}
        return json.dumps(self.model_dump(mode="json", exclude=silent), sort_keys=True, ensure_ascii=False)

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()


#: Calibri (side-by-side), CaPO (five-per-pair) and IMG (consensus-3) asked their raters like this.
PRESETS: dict[str, Protocol] = {
    "side-by-side": Protocol(
        preset="side-by-side",
        questions=(PREFERENCE, ALIGNMENT),
        cap=35,  # 28 real pairs and the checks
        gold_rate=0.1,
        repeat_rate=0.1,
    ),
    "five-per-pair": Protocol(
        preset="five-per-pair",
        questions=(BOTH,),
        instruction="You see two pictures made from the same text. "
        "Pick the better-looking one that follows the text.",
        votes_per_pair=5,
        cap=250,
        gold_rate=0.1,
        repeat_rate=0.1,
    ),
    "consensus-3": Protocol(
        preset="consensus-3",
        questions=(PREFERENCE,),
        votes_per_pair=3,
        cap=38,  # 30 real pairs and the checks
        consensus_k=3,
        gold_rate=0.1,
        repeat_rate=0.1,
    ),
    "most-informative": Protocol(
        preset="most-informative",
        questions=(PREFERENCE,),
        cap=35,
        sampling="informative",
        gold_rate=0.1,
        repeat_rate=0.1,
    ),
}
#: One person votes on pictures that they have just rendered.
QUICK = Protocol(preset="quick", cap=10_000, least_view_ms=0, expires_minutes=10_080)


def parse_protocol(text: str) -> Protocol | dict[str, Any]:
    """A preset by its name, or the fields that a JSON object holds. Raises ValueError for anything else."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object or one of {', '.join(PRESETS)}, got {text[:40]!r}")
    return fields
