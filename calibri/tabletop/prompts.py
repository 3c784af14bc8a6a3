"""Prompt sets that share no combination of colours, shapes and relation, and the words that the backbone
knows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

from calibri.errors import CalibriError
from calibri.tabletop import captions as c
from calibri.tabletop.captions import Facts, caption, facts_of, words
from calibri.tabletop.world import TABLES, Scene, draw_scene

_STREAM = {"train": 101, "search": 102, "held-out": 103}
_OTHER = (
    "a an the one on in of to and with near by from left right front back row table there is i see photo "
    "picture image"
)

EXAMPLES = (
    "a red cube",
    "a blue ball next to a yellow cone",
    "three green cones",
    "a purple cylinder in front of an orange box",
    "a red ball, a green cube and a blue cone in a row",
    "two small yellow spheres on a dark table",
)


@cache
def scenes(name: str, n: int, seed: int = 0) -> tuple[tuple[Scene, str], ...]:
    """The first n scenes of a prompt set with their prompts: n + 1 begins with n."""
    if name not in _STREAM:
        raise CalibriError(f"prompt set must be one of {', '.join(_STREAM)}; got {name!r}")
    drawn: dict[str, Scene] = {}
    index = 0
    while len(drawn) < n:
        rng = np.random.default_rng([_STREAM[name], seed, index])
        scene = draw_scene(rng, name)
        drawn.setdefault(caption(scene, rng), scene)
        index += 1
    return tuple((scene, prompt) for prompt, scene in drawn.items())


def prompt_set(name: str, n: int, seed: int = 0) -> list[str]:
    """n different prompts of the set `train`, `search` or `held-out`."""
    return [prompt for _, prompt in scenes(name, n, seed)]


@cache
def known_words() -> frozenset[str]:
    """Every word that a caption can hold."""
    text = [_OTHER, *c.BESIDE_WORDS, *TABLES]
    for table in (c.COLOUR_WORDS, c.SIZE_WORDS, c.RELATION_WORDS, c.COUNT_WORDS):
        text += [word for options in table.values() for word in options]
    for options in c.SHAPE_WORDS.values():
        text += [form for word in options for form in (word, word + ("es" if word.endswith("x") else "s"))]
    return frozenset(words(" ".join(text)))


def unknown_words(prompt: str) -> list[str]:
    """Words of the prompt that the backbone never met in training, in order, each once."""
    return [word for word in dict.fromkeys(words(prompt)) if word not in known_words()]


def hint(prompt: str) -> str | None:
    """A friendly sentence about words that the backbone does not know; None when it knows them all."""
    unknown = unknown_words(prompt)
    if not unknown:
        return None
    near = [m[0] for word in unknown if (m := difflib.get_close_matches(word, known_words(), 1, 0.75))]
    colours, shapes = ", ".join(c.COLOUR_WORDS), ", ".join(c.SHAPE_WORDS)
    meant = f" Did you mean {' or '.join(repr(word) for word in near)}?" if near else ""
    never = ", ".join(repr(word) for word in unknown)
    return (
        f"Tabletop has never seen {never}, so it may paint something else.{meant} "
        f"It knows {shapes} in {colours}, up to three of them, and left of, right of, in front of, behind."
    )


@cache
def _meanings() -> dict[str, tuple[str, str]]:
    """Word → (what it names, the standard word)."""
    meaning: dict[str, tuple[str, str]] = {}
    for part, table in (("colour", c.COLOUR_WORDS), ("shape", c.SHAPE_WORDS)):
        for standard, options in table.items():
            for word in options:
                meaning[word] = (part, standard)
                if part == "shape":
                    meaning[word + ("es" if word.endswith("x") else "s")] = (part, standard)
    return meaning


def meaning_of(word: str) -> tuple[str, str]:
    """What a word names, "colour" or "shape", and the standard word for it; two empty texts for others."""
    return _meanings().get(word, ("", ""))


def pairs_in(meanings: Iterable[tuple[str, str]]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Where a shape follows a colour that no other shape took: its index and (colour, shape)."""
    colour = None
    for at, (part, standard) in enumerate(meanings):
        if part == "colour":
            colour = standard
        elif part == "shape" and colour:
            yield at, (colour, standard)
            colour = None


def facts_in(prompt: str) -> Facts | None:
    """The facts that a prompt asks for, read from its words; None when it names no (colour, shape) pair.

    A wording of this world is read exactly: `facts_in(caption(scene)) == facts_of(scene)` for every scene.
    """
    tokens = words(prompt)
    text = " ".join(tokens)
    kinds = [kind for _, kind in pairs_in(map(meaning_of, tokens))]
    if not kinds:
        return None
    if len(kinds) == 1:
        many = 3 if {"three", "3"} & set(tokens) else 2 if {"two", "2", "pair"} & set(tokens) else 1
        return Facts(tuple(kinds), many)
    relation = None
    if len(kinds) == 3:
        relation = "left of"
    else:
        for standard, options in c.RELATION_WORDS.items():
            if any(f" {option} " in text for option in options):
                relation = standard
    return Facts(tuple(dict.fromkeys(kinds)), len(kinds), relation)


__all__ = ["EXAMPLES", "facts_in", "facts_of", "hint", "known_words", "prompt_set", "scenes", "unknown_words"]
