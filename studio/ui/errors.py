"""The one place where errors become sentences."""

from __future__ import annotations

import functools
import html
import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Literal, ParamSpec, TypeVar

import gradio as gr

from calibri.errors import CalibriError, RenderCancelled
from calibri.words import without_paths
from studio.visitors import Overtaken

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Level = Literal["silent", "info", "warning", "error"]


def guard(handler: Callable[P, R]) -> Callable[P, R]:
    """The same handler with errors as messages: ours as a sentence, others as the id of a logged trace."""

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streamed(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except gr.Error:
                raise
            except Exception as error:
                raise as_message(error) from None

        return streamed

    @functools.wraps(handler)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise as_message(error) from None

    return wrapped


def leave_cancelled(render: Callable[[], list[Any]], outputs: int) -> Iterator[list[Any]]:
    """What `render` gives; where a newer render called it off, answers that leave the outputs as they are.

    Without any answer Gradio would empty them, and it sends the last one again when the handler ends.
    """
    try:
        yield render()
    except RenderCancelled:
        yield [gr.skip()] * outputs


class Told(gr.Error):
    """What a visitor is told instead of an answer: a sentence under a title, and how grave it is."""

    def __init__(self, words: str, title: str, level: Level = "warning", duration: float = 10) -> None:
        super().__init__(words, title=title, duration=duration, print_exception=False)
        self.level = level


def as_message(error: Exception) -> Told:
    """What a visitor is shown for this error. Never a trace. A stop is no error, and a refusal no fault."""
    if isinstance(error, Overtaken):
        return Told(str(error), "Stopped", "silent")
    if isinstance(error, RenderCancelled):
        return Told("Stopped.", "Stopped", "info", duration=3)
    if isinstance(error, CalibriError):
        # Pages show it as HTML, programs read it: quotes stay as they are.
        words = html.escape(without_paths(str(error)), quote=False)
        return Told(words, error.headline, "info" if error.is_answer else "warning")
    token = secrets.token_hex(3)
    log.error("error %s", token, exc_info=error)
    return Told(
        "Something unexpected happened. Try again. If it happens again, look for "
        f"{token} in the server's log.",
        "Unexpected",
        "error",
    )
