"""What a rater's browser is sent and may answer. All input from browsers is checked here first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from calibri.errors import StudyError
from calibri.words import count
from studio.studies.protocol import LONGEST_COMMENT, Protocol

LONGEST_MS = 24 * 3600 * 1000


class Refused(StudyError):
    """A rater's request that is not allowed. `code`: a word for logs and tests; the text is for the rater."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class View:
    """All that a rater's browser is sent: neither which arm is on which side nor which pair is a check."""

    stage: Literal["welcome", "vote", "wait", "end"]
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
    flip: bool = False  # both pictures in one place
    result: tuple[str, ...] = ()  # sentences on this rater's own answers
    votes: tuple[str, ...] = ()  # ids of the votes that this call acknowledges
    again: bool = False  # the same vote was acknowledged before
    retry_s: int = 0  # stage "wait": seconds after which to look again
    code: str = ""  # stage "end": of a panel's study, for who voted on all their pairs
    return_to: str = ""  # as the code: where the panel wants them back


def make_ballot(
    study: str, name: str, protocol: Protocol, showings: tuple[dict[str, Any], ...], **more: Any
) -> View:
    """A view with pairs to vote on and the protocol's questions."""
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
        flip=protocol.presentation == "flip",
        **more,
    )


def make_pause(study: str, name: str, seconds: float, **more: Any) -> View:
    """A view for who finds only pairs that others look at just now."""
    minutes = max(1, math.ceil(seconds / 60))
    text = (
        "Other people are voting on the last pairs just now. Some may come back to you: come back in "
        f"{count(minutes, 'minute')}, or leave this page open, and it will look again by itself."
    )
    return View("wait", study, name, text=text, retry_s=min(60, max(5, math.ceil(seconds))), **more)


def read_token(token: object) -> str:
    """A token of 32 hexadecimal digits. Raises Refused for anything else."""
    if not (isinstance(token, str) and len(token) == 32 and all(c in "0123456789abcdef" for c in token)):
        raise Refused("token", "This vote is not valid. Reload the page to go on.")
    return token


def find_winner(side: str, left_is_x: bool) -> str:
    """The winner, x or y, that a choice of side means; tie, both_bad and skip stay as they are."""
    if side not in ("left", "right"):
        return side
    return "x" if (side == "left") == left_is_x else "y"


def read_answers(answers: object, protocol: Protocol) -> dict[str, str]:
    """Question → side, in the protocol's order. Raises Refused for anything else."""
    ids = [q.id for q in protocol.questions]
    if not isinstance(answers, Mapping) or set(answers) != set(ids):
        raise Refused("answers", "Answer every question, and no others.")
    if all(side == "skip" for side in answers.values()):
        return dict.fromkeys(ids, "skip")  # whatever the protocol offers: a picture may not load
    if any(not isinstance(side, str) or side not in protocol.sides for side in answers.values()):
        raise Refused("answers", f"Expected an answer among {', '.join(protocol.sides)}.")
    return {question: answers[question] for question in ids}


def read_milliseconds(value: object) -> int | None:
    """A time that a browser measured; None where it sent none. Raises Refused for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise Refused("answers", "Expected a time as a number of milliseconds.")
    return min(int(value), LONGEST_MS)


def read_comment(value: object) -> str:
    """A comment without control characters. Raises Refused for one that is too long."""
    if not isinstance(value, str) or len(value) > LONGEST_COMMENT:
        raise Refused("comment", f"A comment has at most {LONGEST_COMMENT} characters.")
    return "".join(c for c in value if c.isprintable() or c == "\n").strip()
