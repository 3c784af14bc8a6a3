"""One range of everything that a picture may be asked for: the command line, programs and pages agree."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibri import ranges
from calibri.commands import render
from calibri.errors import CalibriError, RenderError
from studio.compare.form import Form, FormError, check_form
from studio.rendering.asks import Ask

SEED, STEPS, GUIDANCE = ranges.LARGEST_SEED, ranges.MOST_STEPS, ranges.STRONGEST_GUIDANCE
#: field, value, whether it is taken
CASES: list[tuple[str, Any, bool]] = [
    ("seed", 0, True),
    ("seed", 2**31, True),
    ("seed", 2**53 + 1, True),
    ("seed", 1125899906842624123, True),
    ("seed", SEED, True),
    ("seed", SEED + 1, False),
    ("seed", -1, False),
    ("seed", 3.7, False),
    ("seed", True, False),
    ("seed", "7.0", False),
    ("seed", "seven", False),
    ("seed", "", False),
    ("seed", math.nan, False),
    ("seed", math.inf, False),
    ("seed", 1e30, False),
    ("seed", [7], False),
    ("seed", {}, False),
    ("steps", 1, True),
    ("steps", 120, True),
    ("steps", STEPS, True),
    ("steps", STEPS + 1, False),
    ("steps", 0, False),
    ("steps", 2.5, False),
    ("steps", False, False),
    ("guidance", 1, True),
    ("guidance", 30.0, True),
    ("guidance", GUIDANCE, True),
    ("guidance", GUIDANCE + 1, False),
    ("guidance", 0.5, False),
    ("guidance", math.nan, False),
    ("guidance", True, False),
    ("embedded", 0, True),
    ("embedded", 3.5, True),
    ("embedded", GUIDANCE + 1, False),
    ("embedded", -1, False),
    ("embedded", math.inf, False),
    ("prompt", "x" * ranges.LONGEST_PROMPT, True),
    ("prompt", "x" * (ranges.LONGEST_PROMPT + 1), False),
    ("negative", "x" * ranges.LONGEST_PROMPT, True),
    ("negative", "x" * (ranges.LONGEST_PROMPT + 1), False),
]
#: What the command's own parser makes of each.
PARSED: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "steps": (int,),
    "guidance": (int, float),
    "embedded": (int, float),
    "prompt": (str,),
    "negative": (str,),
}
FORM = Form("a red cube", 3, 8)


def page_takes(field: str, value: Any) -> bool:
    try:
        check_form(replace(FORM, **{field: value}))
    except FormError as error:
        assert set(error.problems) == {field} and "expected" in str(error)
        return False
    return True


def program_takes(field: str, value: Any) -> bool:
    asked = {"prompt": "a red cube", "seed": 3, "steps": 8, "guidance": 1.0, field: value}
    try:
        Ask.read(**asked)
    except RenderError as error:
        assert str(error).startswith(field) and "expected" in str(error)
        return False
    return True


def command_takes(field: str, value: Any) -> bool:
    parser = argparse.ArgumentParser()
    render.add_options(parser)
    args = parser.parse_args(["a red cube"])
    setattr(args, {"embedded": "embedded_guidance"}.get(field, field), value)
    try:
        render.check_asked(args)
    except CalibriError as error:
        assert field in str(error) and "expected" in str(error)
        return False
    return True


@pytest.mark.parametrize(("field", "value", "taken"), CASES)
def test_page_program_and_command_take_the_same(field: str, value: Any, taken: bool) -> None:
    assert page_takes(field, value) is taken
    if type(value) in PARSED[field]:  # argparse has refused the others before
        assert command_takes(field, value) is taken
    if field not in ("embedded", "negative"):
        assert program_takes(field, value) is taken


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=30), st.none()))
def test_whatever_is_no_seed_is_refused_in_a_sentence(value: Any) -> None:
    text = isinstance(value, str) and value.strip().isascii() and value.strip().isdigit()
    number = type(value) is int or (type(value) is float and value.is_integer())
    if (number and 0 <= value <= SEED) or (text and len(value.strip()) <= 19 and int(value) <= SEED):
        assert ranges.read_seed(value) == int(value)
        return
    with pytest.raises(ValueError, match=r"expected a whole number from 0 to \d+, got "):
        ranges.read_seed(value)


def test_a_count_may_not_run_past_the_last_seed() -> None:
    parser = argparse.ArgumentParser()
    render.add_options(parser)
    args = parser.parse_args(["a cube", "--seed", str(SEED), "--count", "2"])
    with pytest.raises(RenderError, match="--seed: expected a whole number"):
        render.check_asked(args)
