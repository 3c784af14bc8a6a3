"""Captions of scenes, in many wordings, and the facts that a caption tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from calibri.tabletop.world import Scene, Solid

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow", "yellow", "yellow", "golden"),
    "green": ("green",),
    "cyan": ("cyan", "cyan", "turquoise"),
    "blue": ("blue",),
    "purple": ("purple", "purple", "violet"),
    "black": ("black",),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "sphere": ("sphere", "ball", "sphere", "ball", "orb"),
    "cube": ("cube", "box", "cube", "block"),
    "cylinder": ("cylinder", "cylinder", "can", "tube"),
    "cone": ("cone",),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "big": ("big", "large", "huge"),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "in front of": ("in front of", "before"),
    "behind": ("behind", "in back of"),
}
BESIDE_WORDS = ("and", "next to", "beside", "with", "near", "by")
COUNT_WORDS = {2: ("two", "two", "2", "a pair of"), 3: ("three", "three", "3")}
_OPENINGS = ("a photo of ", "a picture of ", "an image of ", "there is ", "i see ")


@dataclass(frozen=True)
class Facts:
    """What a picture of a prompt must show: the kinds of solids (colour, shape), how many in all, and the
    relation.
    """

    kinds: tuple[tuple[str, str], ...]
    count: int
    relation: str | None = None  # of the first kind to the second


def facts_of(scene: Scene) -> Facts:
    """The facts of a scene's captions; the order in a row counts as relation `left of` between neighbours."""
    relation = "left of" if scene.kind == "row" else scene.relation
    return Facts(tuple(dict.fromkeys(s.kind for s in scene.solids)), len(scene.solids), relation)


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _noun(rng: np.random.Generator, solid: Solid, plural: bool = False) -> str:
    """`red ball`, now and then with its size."""
    noun = _pick(rng, SHAPE_WORDS[solid.shape])
    if plural:
        noun += "es" if noun.endswith("x") else "s"
    text = f"{_pick(rng, COLOUR_WORDS[solid.colour])} {noun}"
    return f"{_pick(rng, SIZE_WORDS[solid.size])} {text}" if rng.random() < 0.2 else text


def _the(rng: np.random.Generator, noun: str) -> str:
    roll = rng.random()
    if roll < 0.72:
        return ("an " if noun[0] in "aeiou" else "a ") + noun
    return ("the " if roll < 0.82 else "one " if roll < 0.86 else "") + noun


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One wording of a scene: lower case, no full stop; says every solid's colour and shape, the relation
    and the count.
    """
    solids = scene.solids
    if scene.kind == "count":
        text = f"{_pick(rng, COUNT_WORDS[len(solids)])} {_noun(rng, solids[0], plural=True)}"
        text += (
            " in a row"
            if len(solids) == 3 and len({round(s.y) for s in solids}) == 1 and rng.random() < 0.2
            else ""
        )
    elif scene.kind == "row":
        a, b, c = (_the(rng, _noun(rng, s)) for s in solids)
        text = _pick(
            rng,
            (
                f"{a}, {b} and {c}",
                f"{a}, {b} and {c} in a row",
                f"{a} and {b} and {c}",
                f"from left to right {a}, {b}, {c}",
            ),
        )
    else:
        text = _the(rng, _noun(rng, solids[0]))
        if scene.relation is not None:
            text += f" {_pick(rng, RELATION_WORDS[scene.relation])} {_the(rng, _noun(rng, solids[1]))}"
        elif scene.kind == "beside":
            text += f" {_pick(rng, BESIDE_WORDS)} {_the(rng, _noun(rng, solids[1]))}"
    if rng.random() < 0.25:
        text += f" on a {scene.table} table"
    if rng.random() < 0.2:
        text = _pick(rng, _OPENINGS) + text
    return text


def words(prompt: str) -> list[str]:
    """The words of a prompt, lower case, without punctuation."""
    return re.findall(r"[a-z]+|[0-9]+", prompt.lower())
