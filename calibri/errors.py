"""What can go wrong, in one family: every error says what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class CalibriError(Exception):
    """Base of all errors that a user can do something about. `headline`: what a page writes above it.
    `is_answer`: nothing is wrong, the answer is no."""

    headline: ClassVar[str] = "Not done"
    is_answer: ClassVar[bool] = False


class LayoutError(CalibriError):
    """Scales and sites do not fit together."""


class ArtifactError(CalibriError):
    """A saved calibration is not valid."""


class BackboneError(CalibriError):
    """A backbone is unknown, unsupported or cannot be loaded."""


class RenderError(CalibriError):
    """A picture cannot be rendered as asked."""


class RenderCancelled(RenderError):
    """Whoever asked for the pictures called them off."""


class RewardError(CalibriError):
    """A reward is unknown, cannot be loaded or failed."""


class PromptError(CalibriError):
    """Prompts, or a file of them, cannot be read."""


class SearchError(CalibriError):
    """A search is set up wrongly or cannot go on."""


class NoneBetter(SearchError):
    """What was asked for is the base itself."""

    headline = "Nothing better"
    is_answer = True


class JournalError(CalibriError):
    """A run folder cannot be read, written or trusted."""


class StudyError(CalibriError):
    """A preference study is set up wrongly or cannot go on."""


def first_line(error: BaseException) -> str:
    """The first line of an error's words; its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def sentence(
    error: ValidationError,
    what: str = "",
    hidden: Collection[str] = (),
    spell: Callable[[str], str] = str,
) -> str:
    """The first complaint of pydantic in one line: the field, what was expected, what came.

    `what` stands for the field where the value as a whole is wrong. Of the fields in `hidden` (passwords) the
    value is not told. `spell`: a field's name as whoever filled it in knows it.
    """
    return _tell(error.errors(include_url=False)[0], what, hidden, spell)


def sentences(error: ValidationError) -> dict[str, str]:
    """Field → its first complaint, as `sentence` writes it. A field inside another: `arms.0.steps`."""
    found: dict[str, str] = {}
    for complaint in error.errors(include_url=False):
        found.setdefault(".".join(map(str, complaint["loc"])), _tell(complaint))
    return found


def _tell(
    complaint: ErrorDetails, what: str = "", hidden: Collection[str] = (), spell: Callable[[str], str] = str
) -> str:
    where = ".".join(str(part) for part in complaint["loc"])
    wanted = complaint["msg"].removeprefix("Value error, ")
    if wanted.startswith("Input should be "):
        wanted = "expected " + wanted.removeprefix("Input should be ")
    if complaint["type"] not in {"missing", "extra_forbidden", "value_error"} and where not in hidden:
        wanted += f", got {_short(complaint['input'])}"
    return ": ".join(filter(None, (spell(where) if where else what, wanted)))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
