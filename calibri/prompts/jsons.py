"""Prompts in JSON and JSON lines: lists of texts or of objects, as GenEval and others publish them."""

from __future__ import annotations

import json
import re
from typing import Any

from calibri.errors import PromptError
from calibri.files import load_json
from calibri.prompts.found import CATEGORY_NAMES, PROMPT_NAMES, Found, find_name, list_names

_WANTED = "a list of texts, or objects with a field “prompt”, “caption” or “text”"
_ID = re.compile(r"\d+|.*\.(?:png|jpe?g|webp)", re.IGNORECASE)
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def looks_like_json(text: str) -> bool:
    """Whether a text can only be meant as JSON: `[` or `{` and then a quote, a bracket or a new line.

    `[cat:dog:0.5] in a park` and `{red|blue} car` are prompts.
    """
    start = text.lstrip()[:200]
    return bool(re.match(r"""[\[{][^\S\n]*(?:["'\[{\]}\n]|$)""", start))


def read_json(text: str, name: str, lines_first: bool = False) -> Found:
    """`lines_first`: a line is a value also where there is just one. Raises PromptError that names line and
    field."""
    if lines_first:
        lines = _read_lines(text, name)
        if lines is not None:
            return lines
    try:
        value = load_json(text)
    except ValueError as error:
        lines = _read_lines(text, name)
        if lines is not None:
            return lines
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        told = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise PromptError(f"{name}{where}: expected JSON with {_WANTED}, got broken JSON ({told})") from error
    if isinstance(value, str):
        return Found("JSON, a text", [("", value, "")])
    if isinstance(value, list):
        return _from_list(value, name, "JSON", "item")
    if isinstance(value, dict):
        return _from_object(value, name)
    raise PromptError(f"{name}: expected {_WANTED}, got {_kind(value)}")


def _read_lines(text: str, name: str) -> Found | None:
    """JSON lines; None where already the first line is no JSON of its own."""
    values, numbers = [], []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        try:
            values.append(load_json(line))
        except ValueError as error:
            if not values or (len(values) == 1 and not isinstance(values[0], dict | str)):
                return None
            told = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise PromptError(
                f"{name}, line {number}: expected one JSON value a line, got broken JSON ({told})"
            ) from error
        numbers.append(number)
    if not values:
        return None
    return _from_list(values, name, "JSON lines", "line", numbers)


def _from_list(
    values: list[Any], name: str, format: str, word: str, numbers: list[int] | None = None
) -> Found:
    """`word` and `numbers` say where a value stands."""
    places = [f"{word} {number}" for number in numbers or range(1, len(values) + 1)]
    if not values:
        return Found(f"{format}, empty", [])
    if all(isinstance(value, str) for value in values):
        return Found(f"{format}, a list of texts", list(zip(places, values, [""] * len(values))))
    odd = next((i for i, value in enumerate(values) if not isinstance(value, dict)), None)
    if odd is not None:
        texts = isinstance(values[0], str)
        if texts:
            odd = next(i for i, value in enumerate(values) if not isinstance(value, str))
        wanted = f"{'a text' if texts else 'an object'} like the ones before it" if odd else _WANTED
        raise PromptError(f"{name}, {places[odd]}: expected {wanted}, got {_kind(values[odd])}")
    return _from_objects(values, places, name, format)


def _from_objects(values: list[dict[str, Any]], places: list[str], name: str, format: str) -> Found:
    field = find_name(values[0], PROMPT_NAMES)
    if field is None:
        got = list_names(values[0]) or "an object without fields"
        raise PromptError(f"{name}, {places[0]}: expected a field “prompt”, “caption” or “text”, got {got}")
    category = find_name((key for value in values[:50] for key in value), CATEGORY_NAMES)
    rows = []
    for place, value in zip(places, values):
        if field not in value:
            got = list_names(value) or "an object without fields"
            raise PromptError(f"{name}, {place}: expected the field “{field}”, got {got}")
        text = "" if value[field] is None else value[field]
        if not isinstance(text, str):
            raise PromptError(f"{name}, {place}: expected a text in “{field}”, got {_kind(text)}")
        rows.append((place, text, _word(value.get(category) if category else None)))
    others = [key for key in values[0] if key not in (field, category)]
    notes = [f"Fields that are left out: {list_names(others)}."] if others else []
    told = f", categories of “{category}”" if category else ""
    return Found(f"{format}, objects, prompts of “{field}”{told}", rows, notes)


def _from_object(value: dict[str, Any], name: str) -> Found:
    """One object, columns, a list inside, prompts by id or lists by category."""
    field = find_name(value, PROMPT_NAMES)
    if field is not None and isinstance(value[field], str):
        return _from_objects([value], ["the object"], name, "JSON")
    if field is not None and isinstance(value[field], list | dict):
        return _from_columns(value, field, name)
    parts = list(value.values())
    if parts and all(isinstance(p, dict) and find_name(p, PROMPT_NAMES) for p in parts):
        return _from_objects(parts, [f"“{key}”" for key in value], name, "JSON by id")
    if len(parts) > 1 and all(isinstance(p, str) for p in parts) and all(map(_ID.fullmatch, value)):
        return Found("JSON, a text for each id", [(f"“{key}”", p, "") for key, p in value.items()])
    if parts and all(isinstance(p, list) and p and all(isinstance(t, str) for t in p) for p in parts):
        rows = [(f"“{key}”", text, str(key)) for key, texts in value.items() for text in texts]
        return Found("JSON, a list of texts for each category", rows)
    inner = [key for key, p in value.items() if _holds_prompts(p)]
    if len(inner) == 1:
        found = _from_list(value[inner[0]], f"{name}, “{inner[0]}”", "JSON", "item")
        return Found(f"{found.format}, inside “{inner[0]}”", found.rows, found.notes)
    raise PromptError(f"{name}: expected {_WANTED}, got an object with {list_names(value) or 'no fields'}")


def _from_columns(value: dict[str, Any], field: str, name: str) -> Found:
    """`{"prompt": […], "category": […]}`, and the same with an object for each column."""
    category = find_name(value, CATEGORY_NAMES)
    columns = {key: value[key] for key in (field, category) if key is not None}
    lists = {k: list(c.values()) if isinstance(c, dict) else c for k, c in columns.items()}
    texts, words = lists[field], lists.get(category or "")
    if not isinstance(words, list) or len(words) != len(texts):
        category, words = None, [None] * len(texts)
    rows = []
    for number, (text, word) in enumerate(zip(texts, words), 1):
        if isinstance(text, dict) and all(isinstance(t, dict) for t in texts):
            return _from_list(texts, f"{name}, “{field}”", "JSON", "item")
        if not isinstance(text, str | None):
            raise PromptError(f"{name}, “{field}”, item {number}: expected a text, got {_kind(text)}")
        rows.append((f"item {number}", text or "", _word(word)))
    others = [key for key in value if key not in (field, category)]
    notes = [f"Fields that are left out: {list_names(others)}."] if others else []
    told = f", categories of “{category}”" if category else ""
    return Found(f"JSON, columns, prompts of “{field}”{told}", rows, notes)


def _holds_prompts(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, dict) and find_name(item, PROMPT_NAMES) for item in value)


def _word(value: object) -> str:
    """A category as a word: `["a", "b"]` → `a, b`."""
    if isinstance(value, list):
        return ", ".join(str(part) for part in value if isinstance(part, str | int))
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"the number {str(value)[:20]}")
