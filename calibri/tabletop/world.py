"""What a scene of the embedded world is made of, and how one is drawn at random.

Axes: x to the right, y away from the viewer, z up; lengths in table units (the picture is about 4.4 units
wide).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.10, 0.10),
    "orange": (0.96, 0.50, 0.06),
    "yellow": (0.96, 0.84, 0.12),
    "green": (0.10, 0.56, 0.16),
    "cyan": (0.12, 0.72, 0.76),
    "blue": (0.10, 0.24, 0.82),
    "purple": (0.50, 0.14, 0.64),
    "black": (0.05, 0.05, 0.06),
}
SHAPES = ("sphere", "cube", "cylinder", "cone")
SIZES: dict[str, float] = {"small": 0.38, "big": 0.56}  # radius, or half the side
TABLES: dict[str, tuple[float, float, float]] = {
    "white": (0.90, 0.90, 0.88),
    "grey": (0.60, 0.61, 0.62),
    "wooden": (0.70, 0.56, 0.40),
    "dark": (0.36, 0.36, 0.40),
    "pale blue": (0.70, 0.77, 0.86),
}
RELATIONS = ("left of", "right of", "in front of", "behind")
KINDS = ("single", "pair", "beside", "count", "row")
KIND_SHARES = (0.22, 0.33, 0.12, 0.15, 0.18)
MAX_SOLIDS = 3


@dataclass(frozen=True)
class Solid:
    """One solid on the table: what it is, where it stands (x, y) and how it is turned (radians)."""

    colour: str
    shape: str
    size: str
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    @property
    def kind(self) -> tuple[str, str]:
        return (self.colour, self.shape)


@dataclass(frozen=True)
class Scene:
    """What a caption tells, and all that a picture needs. `solids` are in the order in which the caption
    names them.
    """

    kind: str  # one of KINDS
    solids: tuple[Solid, ...]
    table: str
    relation: str | None = None  # of the first solid to the second, for kind "pair"

    @property
    def key(self) -> str:
        """The combination that decides which prompt set the scene belongs to: colours, shapes, relation,
        count.

        Left/right and front/behind of two solids are one fact told from two sides, so both have the same key.
        """
        names = [f"{s.colour} {s.shape}" for s in self.solids]
        if self.kind == "pair":
            first, second = (names[1], names[0]) if self.relation in ("right of", "behind") else names
            axis = "x" if self.relation in ("left of", "right of") else "y"
            return f"pair {axis}: {first} | {second}"
        if self.kind == "beside":
            return "beside: " + " | ".join(sorted(names))
        return f"{self.kind}: " + " | ".join(names)


def split_of(scene: Scene) -> str:
    """`train` (80 %), `search` (10 %) or `held-out` (10 %), from the scene's key alone: the sets are
    disjoint.
    """
    bucket = hashlib.sha256(scene.key.encode()).digest()[0] % 10
    return {0: "held-out", 1: "search"}.get(bucket, "train")


def _kinds(rng: np.random.Generator, n: int) -> list[tuple[str, str]]:
    """n different (colour, shape) pairs; colours differ too in two out of three draws, as people tend to
    ask.
    """
    colours, shapes = list(COLOURS), list(SHAPES)
    distinct = rng.random() < 0.67
    while True:
        c = rng.choice(len(colours), n, replace=not distinct)
        s = rng.integers(len(shapes), size=n)
        pairs = [(colours[i], shapes[j]) for i, j in zip(c, s, strict=True)]
        if len(set(pairs)) == n:
            return pairs


def _apart(places: list[tuple[float, float]], radii: list[float]) -> bool:
    """True when no two solids touch, and none hides much of another as seen from the camera."""
    for i in range(len(places)):
        for j in range(i):
            dx, dy = abs(places[i][0] - places[j][0]), abs(places[i][1] - places[j][1])
            reach = radii[i] + radii[j]
            if np.hypot(dx, dy) < 1.05 * reach + 0.05 or (dx < 0.7 * reach and dy < 1.2 * reach + 0.2):
                return False
    return True


def _place(
    rng: np.random.Generator, kind: str, relation: str | None, radii: list[float]
) -> list[tuple[float, float]]:
    """Positions that make the told relation plainly true."""
    n = len(radii)
    if n == 1:
        return [(float(rng.uniform(-1.0, 1.0)), float(rng.uniform(-0.7, 0.7)))]
    for _ in range(1000):
        if n == 3:
            xs = np.array([-1.42, 0.0, 1.42]) + rng.uniform(-0.1, 0.1, 3)
            if kind == "count" and rng.random() < 0.5:
                xs = np.array([-0.9, 0.9, 0.0]) + rng.uniform(-0.2, 0.2, 3)
                ys = np.array([-0.7, -0.7, 0.85]) + rng.uniform(-0.15, 0.15, 3)
            else:
                ys = rng.uniform(-0.35, 0.35) + rng.uniform(-0.12, 0.12, 3)
        elif kind in ("pair", "beside", "count") and relation in (None, "left of", "right of"):
            half = rng.uniform(0.65, 1.15)
            centre, middle = rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.5)
            xs = centre + np.array([-half, half])
            ys = middle + rng.uniform(-0.16, 0.16, 2)
            if relation == "right of" or (relation is None and rng.random() < 0.5):
                xs = xs[::-1]
        else:
            half = rng.uniform(0.8, 1.1)
            centre = rng.uniform(-0.9, 0.9)
            ys = np.array([-half, half]) + rng.uniform(-0.1, 0.1)
            xs = centre + rng.uniform(-0.22, 0.22, 2)
            if relation == "behind":
                ys = ys[::-1]
        places = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        if _apart(places, radii):
            return places
    raise AssertionError(f"no room for radii {radii} as {kind} {relation}")


def draw_scene(rng: np.random.Generator, split: str | None = None) -> Scene:
    """A random scene; with `split`, one whose combination belongs to that prompt set."""
    while True:
        kind = KINDS[int(rng.choice(len(KINDS), p=KIND_SHARES))]
        relation = RELATIONS[int(rng.integers(4))] if kind == "pair" else None
        n = {"single": 1, "pair": 2, "beside": 2, "row": 3}.get(kind) or int(rng.integers(2, 4))
        what = _kinds(rng, 1) * n if kind == "count" else _kinds(rng, n)
        sizes = [list(SIZES)[int(i)] for i in rng.integers(2, size=n)]
        if kind == "count":
            sizes = sizes[:1] * n
        table = list(TABLES)[int(rng.integers(len(TABLES)))]
        draft = Scene(
            kind, tuple(Solid(c, s, z) for (c, s), z in zip(what, sizes, strict=True)), table, relation
        )
        if split is not None and split_of(draft) != split:
            continue
        places = _place(rng, kind, relation, [SIZES[z] for z in sizes])
        solids = tuple(
            Solid(s.colour, s.shape, s.size, x, y, float(rng.uniform(0.15, 1.42)))
            for s, (x, y) in zip(draft.solids, places, strict=True)
        )
        return Scene(kind, solids, table, relation)
