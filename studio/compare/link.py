"""Links that open a comparison again: what it was asked with as the query of an address, and back. No Gradio.

A link fills the form, nothing more: whoever opens it presses Render.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from calibri.errors import RenderError
from studio.compare.form import ARMS, Form, FormError, form_of, read_order
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.arms import KINDS, NOTHING, Choice, list_choices
from studio.rendering.shots import Comparison, Shot
from studio.visitors import Visitor

LONGEST = 2000  # characters of a link that is written; of one that is read, twice as many
NO_ARM = "none"  # in a link
TEXTS = ("prompt", "seed", "prompts", "seeds", "negative")  # fields of Form that are text
NUMBERS = ("steps", "guidance", "width", "height", "embedded")
ALWAYS = ("prompt", "seed", "steps", "guidance")  # what is usual depends on the backbone
OF_ARMS = ("steps", "guidance")


def write_link(core: Core, made: Comparison) -> str:
    """`?prompt=a+red+cube&seed=3&arm-1=base…`. Arms are named by their saved calibrations, so that the link
    opens the same ones tomorrow. Raises RenderError where one is not saved, or for a link that gets too
    long."""
    form, usual = form_of(made), Form("", "", "")
    pairs = {name: getattr(form, name) for name in (*TEXTS, *NUMBERS)}
    told = {name: value for name, value in pairs.items() if name in ALWAYS or value != getattr(usual, name)}
    for number, choice in enumerate(form.arms, 1):
        shot = made.shots[number - 1] if number <= len(made.shots) else None
        told[f"arm-{number}"] = _name_arm(core, number, choice, shot)
        own = {"steps": choice.steps, "guidance": choice.guidance, "loras": choice.loras}
        told |= {f"{name}-{number}": value for name, value in own.items() if value}
    link = f"?{urlencode(told)}"
    if len(link) > LONGEST:
        raise RenderError(
            f"Expected a link of at most {LONGEST} characters, got {len(link)}. Download a PNG instead: it "
            "carries all settings, and Open settings from PNG reads them."
        )
    return link


def _name_arm(core: Core, number: int, choice: Choice, shot: Shot | None) -> str:
    if choice.what == NOTHING:
        return NO_ARM
    saved = core.calibrations.entries()
    if any(entry.id == choice.what for entry in saved) or choice.what == "base":
        return choice.what
    calibration = shot.arm.calibration if shot is not None else None
    if calibration is None:
        if choice.what in KINDS:  # a prepared picture, or an arm that was missing
            return choice.what
    else:
        for entry in saved:
            if entry.calibration.hash == calibration.hash:
                return entry.id
    raise RenderError(
        f"Arm {number} is not saved in this studio, so no link can name it. Save it to the library first."
    )


def read_link(core: Core, visitor: Visitor, query: Mapping[str, str]) -> Form | None:
    """The form that the query of an address asks for; None where it asks for none. Values are checked as
    typed ones are. Raises FormError."""
    if "prompt" not in query:
        return None
    if (size := sum(len(key) + len(value) for key, value in query.items())) > 2 * LONGEST:
        words = f"expected a link of at most {2 * LONGEST} characters, got {size}"
        raise FormError({"prompt": f"prompt: {words}"})
    usual = first_visit.usual_ask(core)
    form = Form(
        query["prompt"],
        query.get("seed", str(usual.seed)),
        usual.steps,
        guidance=usual.guidance,
        prompts=query.get("prompts", ""),
        seeds=query.get("seeds", ""),
        negative=query.get("negative", ""),
    )
    numbers: dict[str, Any] = {name: _as_number(query[name]) for name in NUMBERS if query.get(name)}
    form = replace(form, **numbers)
    arms = tuple(_read_arm(query, number) for number in range(1, ARMS + 1))
    if any(f"arm-{number}" in query for number in range(1, ARMS + 1)):
        form = replace(form, arms=arms)
    known = [what for _, what in list_choices(core, visitor)]
    for number, choice in enumerate(form.arms, 1):
        if choice.what not in known:
            words = f"expected a calibration of this studio, got {choice.what[:60]!r}"
            raise FormError({f"arm-{number}": f"arm {number}: {words}"})
    read_order(form, core.host.backbone, core.settings.demo)
    return form


def _read_arm(query: Mapping[str, str], number: int) -> Choice:
    what = query.get(f"arm-{number}", NO_ARM)
    typed = {name: query.get(f"{name}-{number}", "") for name in OF_ARMS}
    own: dict[str, Any] = {name: _as_number(text) for name, text in typed.items() if text}
    loras = query.get(f"loras-{number}", "")
    return Choice(NOTHING if what == NO_ARM else what, own.get("steps"), own.get("guidance"), loras=loras)


def _as_number(text: str) -> int | float | str:
    """As a field for numbers sends it; what is none stays text, and its reader says so."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]{1,18}\.[0-9]{1,18}", text) else text
