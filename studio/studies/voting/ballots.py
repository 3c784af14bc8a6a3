"""What a rater's browser is told and may answer. Everything that comes from outside is checked here first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from calibri.errors import StudyError
from studio.studies.protocol import LONGEST_COMMENT, Protocol

LONGEST_MS = 24 * 3600 * 1000
RaterKind = Literal["anonymous", "hub", "invite", "local"]


class Refused(StudyError):
    """What a rater may not do. `code`: a word for logs and tests; the text is for the rater."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Who:
    """A rater as they present themselves. `identity` is hashed with the studio's key and stored nowhere."""

    kind: RaterKind
    identity: str


@dataclass(frozen=True)
class View:
    """All that a rater's browser is told. `stage`: welcome, vote, or end."""

    stage: Literal["welcome", "vote", "end"]
    study: str
    name: str
    done: int = 0
    total: int = 0
    can_undo: bool = False
    showings: tuple[dict[str, Any], ...] = ()
    text: str = ""
    consent: str = ""
    questions: tuple[dict[str, str], ...] = ()
    answers: tuple[str, ...] = ()
    least_view_ms: int = 0
    comments: bool = False
    votes: tuple[str, ...] = ()  # ids of the votes this call acknowledges
    again: bool = False  # the same vote was acknowledged before


def vote_view(
    study: str, name: str, protocol: Protocol, showings: tuple[dict[str, Any], ...], **more: Any
) -> View:
    """A view with pairs to vote on, as the protocol wants them asked."""
    return View(
        "vote",
        study,
        name,
        showings=showings,
        text=protocol.instruction,
        questions=tuple({"id": q.id, "text": q.text} for q in protocol.questions),
        answers=protocol.sides,
        least_view_ms=protocol.least_view_ms,
        comments=protocol.comments,
        **more,
    )


def token_of(token: object) -> str:
    """The token as a word of 32 hexadecimal digits. Raises Refused for anything else."""
    if not (isinstance(token, str) and len(token) == 32 and all(c in "0123456789abcdef" for c in token)):
        raise Refused("token", "This is no valid vote. Reload the page to go on.")
    return token


def winner_of(side: str, left_is_x: bool) -> str:
    """Which arm a choice of sides prefers."""
    if side not in ("left", "right"):
        return side
    return "x" if (side == "left") == left_is_x else "y"


def answers_of(answers: object, protocol: Protocol) -> dict[str, str]:
    """Question → side, in the protocol's order. Raises Refused for anything else."""
    ids = [q.id for q in protocol.questions]
    if not isinstance(answers, Mapping) or set(answers) != set(ids):
        raise Refused("answers", "Answer every question, and no other.")
    if any(not isinstance(side, str) or side not in protocol.sides for side in answers.values()):
        raise Refused("answers", f"An answer is one of: {', '.join(protocol.sides)}.")
    return {question: answers[question] for question in ids}


def milliseconds_of(value: object) -> int | None:
    """A time as a browser says it; None where it says none. Raises Refused for what is no time."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise Refused("answers", "A time is a number of milliseconds.")
    return min(int(value), LONGEST_MS)


def comment_of(value: object) -> str:
    """A remark without control characters. Raises Refused for one that is too long."""
    if not isinstance(value, str) or len(value) > LONGEST_COMMENT:
        raise Refused("comment", f"A remark has at most {LONGEST_COMMENT} characters.")
    return "".join(c for c in value if c.isprintable() or c == "\n").strip()
