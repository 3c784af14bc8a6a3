"""Scenes that differ from a given one in one fact: the captions that an alignment reward must tell apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibri.tabletop.world import COLOURS, SHAPES, Scene, Solid, split_of

_OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "in front of": "behind",
    "behind": "in front of",
}


def altered(scene: Scene, rng: np.random.Generator, split: str = "train") -> Scene:
    """The scene with one fact changed, never true of its picture, and of the prompt set `split`: another
    colour or shape of one solid, two colours or shapes exchanged, the opposite relation, another count.
    """
    while True:
        other = _one_change(scene, rng)
        alike = len({s.kind for s in other.solids}) < len(other.solids)
        if alike == (scene.kind == "count") and other.key != scene.key and split_of(other) == split:
            return other


def _one_change(scene: Scene, rng: np.random.Generator) -> Scene:
    solids = list(scene.solids)
    part, names = (("colour", COLOURS), ("shape", SHAPES))[int(rng.integers(2))]
    roll = rng.random()
    if scene.kind == "count":
        if roll < 0.3:
            return replace(scene, solids=tuple((solids * 2)[: 5 - len(solids)]))  # two for three, and back
        drawn = str(rng.choice(list(names)))
        return replace(scene, solids=tuple(_with(s, part, drawn) for s in solids))
    if scene.relation is not None and roll < 0.2:
        return replace(scene, relation=_OPPOSITE[scene.relation])
    if len(solids) > 1 and roll < 0.5:
        i, j = rng.choice(len(solids), 2, replace=False)
        solids[i], solids[j] = _exchanged(solids[i], solids[j], part)
    else:
        i = int(rng.integers(len(solids)))
        solids[i] = _with(solids[i], part, str(rng.choice(list(names))))
    return replace(scene, solids=tuple(solids))


def _with(solid: Solid, part: str, value: str) -> Solid:
    return replace(solid, colour=value) if part == "colour" else replace(solid, shape=value)


def _exchanged(a: Solid, b: Solid, part: str) -> tuple[Solid, Solid]:
    return _with(a, part, getattr(b, part)), _with(b, part, getattr(a, part))
