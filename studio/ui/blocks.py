"""The app as Gradio's Blocks, with errors as sentences and sessions that keep little.

Gradio writes a trace for every call whose values do not fit, and keeps a copy of all components, and of all
values sent, for each of 10,000 sessions that anybody can invent: 1 MB and 0.1 s each in this app. Here a
session keeps its states and the components that were changed for it.
"""

from __future__ import annotations

import datetime
import logging
from collections import ChainMap
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.exceptions import ComponentProcessingError
from gradio.state_holder import SessionState, StateHolder

from calibri.errors import CalibriError
from studio.ui.errors import Told, as_message
from studio.ui.templates import STUDIO

log = logging.getLogger(__name__)

MOST_SESSIONS = 2000  # open pages; the least recently used is forgotten first
LONGEST_REASON = 160  # characters
ADDED_LATER = "added-later"


class LightSession(SessionState):
    """What one open page was sent that others were not. Gradio's configuration of it is for links that store
    a page, which the studio has none of."""

    def __init__(self, blocks: gr.Blocks) -> None:
        # A copy of its tables would be 55 KB: what is changed lies over what all sessions share.
        self.blocks_config = object.__new__(type(blocks.default_config))
        vars(self.blocks_config).update(vars(blocks.default_config))
        self.blocks_config.blocks = ChainMap({}, blocks.default_config.blocks)  # type: ignore[assignment]
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(self.blocks_config.blocks.get(key), gr.State):
            super().__setitem__(key, value)
            self.config_values.clear()
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Nothing is kept."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing is kept."""


class Sessions(StateHolder):
    """The sessions of all open pages."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LightSession(self.blocks)
        self.update(session_id)
        self.time_last_used[session_id] = datetime.datetime.now()
        return self.session_data[session_id]


class StudioBlocks(gr.Blocks):
    """As gr.Blocks. A call that cannot be answered gets a sentence, and one line of the log."""

    _keeps_config = False
    _config: dict[str, Any] | None = None

    def __exit__(self, *reason: Any) -> None:
        self._keeps_config = True
        try:
            super().__exit__(*reason)
        finally:
            self._keeps_config, self._config = False, None

    def get_config_file(self) -> Any:
        """As Gradio's, which makes it twice at the end of a `with`: a second each in this app."""
        if not self._keeps_config:
            return super().get_config_file()
        if self._config is None:
            self._config = super().get_config_file()  # type: ignore[assignment]
        return self._config

    @property
    def state_holder(self) -> StateHolder:
        return self._state_holder

    @state_holder.setter
    def state_holder(self, holder: StateHolder) -> None:
        holder.__class__ = Sessions  # Gradio makes it in each of its apps
        self._state_holder = holder

    async def process_api(
        self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        inputs = _fill_up(block_fn, inputs)
        try:
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except Exception as error:
            if not isinstance(error, gr.Error | WrongValues | ComponentProcessingError) and _is_gradios(
                error
            ):
                error = WrongValues("Expected another event, got one without what its handler needs.")
            raise self._show(_tell(block_fn, error), kwargs.get("event_id")) from None

    def _show(self, told: Told, event_id: str | None) -> Told:
        """Send the message by itself, and let the error that ends the event be silent: Gradio's page calls
        every error "Error" in red. Programs read the error's own sentence."""
        if event_id is not None:
            level: Any = told.level  # "error" is not in Gradio's type, but in its protocol
            if level != "silent":
                self._queue.log_message(event_id, str(told.message), told.title, level, told.duration)
            told.visible = False
        return told

    def validate_inputs(self, block_fn: Any, inputs: Any) -> None:
        needed = len(block_fn.inputs)
        if not isinstance(inputs, list) or len(inputs) < needed:
            got = len(inputs) if isinstance(inputs, list) else type(inputs).__name__
            raise WrongValues(f"Expected {needed} values, got {got}. Reload the page.")

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        if block_fn.preprocess and any(map(_is_many_for_one, block_fn.inputs, inputs)):
            raise WrongValues("Expected one choice, got a list.")
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except (gr.Error, WrongValues):
            raise
        except Exception as error:  # of Gradio's own checks: whatever is wrong is the value
            cause = error.__cause__ if isinstance(error, ComponentProcessingError) else error
            raise WrongValues(
                f"Expected other values of these fields, got some that {_name(cause)}."
            ) from None


def _is_many_for_one(block: Any, value: Any) -> bool:
    """A list for a dropdown of one choice: Gradio takes an empty one."""
    return isinstance(block, gr.Dropdown) and not block.multiselect and isinstance(value, list)


def _fill_up(block_fn: Any, inputs: list[Any]) -> list[Any]:
    """A program of an earlier version does not know the last fields of an endpoint: those of the class
    `ADDED_LATER` then have their usual values."""
    behind = block_fn.inputs[len(inputs) :] if isinstance(inputs, list) else []
    if not behind or not all(ADDED_LATER in (block.elem_classes or ()) for block in behind):
        return inputs
    return [*inputs, *(block.value for block in behind)]


class WrongValues(Exception):
    """A call whose values do not fit the event's fields."""


def _is_gradios(error: BaseException) -> bool:
    """Whether no code of the studio was reached: what came with the event does not fit."""
    trace, files = error.__traceback__, []
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return not any(Path(name).is_relative_to(STUDIO) and name != __file__ for name in files)


def _name(error: BaseException | None) -> str:
    words = " ".join(str(error).split())
    return f"do not fit ({words[:LONGEST_REASON]})" if words else "do not fit"


def _tell(block_fn: Any, error: Exception) -> Told:
    """The message of any error, written to the log once."""
    if not isinstance(error, gr.Error | WrongValues):
        return as_message(error)
    words = str(error.message if isinstance(error, gr.Error) else error)
    told = error if isinstance(error, Told) else Told(words, CalibriError.headline)
    name = getattr(getattr(block_fn, "fn", None), "__name__", "an event")
    log.log(
        logging.INFO if told.level in ("silent", "info") else logging.WARNING,
        "%s refused: %s",
        name,
        " ".join(words.split())[:LONGEST_REASON],
    )
    return told
