"""The one place where errors become sentences."""

from __future__ import annotations

import functools
import html
import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from calibri.errors import CalibriError, RenderCancelled
from calibri.words import without_paths

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


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


def as_message(error: Exception) -> gr.Error:
    """What a visitor is shown for this error. Never a trace."""
    if isinstance(error, RenderCancelled):
        return gr.Error("Stopped.", title="Stopped", duration=3, print_exception=False)
    if isinstance(error, CalibriError):
        # Pages show it as HTML, programs read it: quotes stay as they are.
        words = html.escape(without_paths(str(error)), quote=False)
        return gr.Error(words, title="That did not work", print_exception=False)
    token = secrets.token_hex(3)
    log.error("error %s", token, exc_info=error)
    return gr.Error(
        "Something unexpected happened. Try again. If it happens again, look for "
        f"{token} in the server's log.",
        title="That did not work",
        print_exception=False,
    )
