"""The mixing desk without its screen: one vector of scales, what can be done to it, and the way back. No
Gradio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from calibri.calibration.layout import Layout
from calibri.errors import LayoutError

NEUTRAL = 1.0
LOWEST, HIGHEST = -4.0, 4.0  # beyond this a picture is noise; a typing error is likelier than a wish
HISTORY = 100

Vector = tuple[float, ...]


def checked(values: Iterable[object], layout: Layout) -> Vector:
    """Numbers that came from a page as a vector of this layout, or a LayoutError that names the first wrong
    one."""
    vector: list[float] = []
    for name, value in zip(layout.names, given := list(values)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise LayoutError(f"{name}: expected a number, came {value!r}.")
        if not LOWEST <= value <= HIGHEST:
            raise LayoutError(f"{name}: expected a scale from {LOWEST:g} to {HIGHEST:g}, came {value:g}.")
        vector.append(float(value))
    if len(given) != len(layout.names):
        raise LayoutError(f"Expected {len(layout.names)} scales for this layout, came {len(given)}.")
    return tuple(vector)


@dataclass(frozen=True)
class Desk:
    """A layout, its vector and the vectors before and after it. Every change returns a new desk."""

    layout: Layout
    values: Vector
    past: tuple[Vector, ...] = ()
    future: tuple[Vector, ...] = ()

    @classmethod
    def neutral(cls, layout: Layout) -> Desk:
        return cls(layout, (NEUTRAL,) * len(layout.names))

    def set(self, values: Sequence[float]) -> Desk:
        """All scales at once. The same values again are no step of the history."""
        vector = checked(values, self.layout)
        if vector == self.values:
            return self
        return replace(self, values=vector, past=(*self.past, self.values)[-HISTORY:], future=())

    def reset(self) -> Desk:
        """Every scale back to 1."""
        return self.set((NEUTRAL,) * len(self.values))

    def strengthen(self, factor: float) -> Desk:
        """The distance of every scale from 1, times `factor`: 0.5 halves the calibration, -1 mirrors it."""
        return self.set([NEUTRAL + factor * (v - NEUTRAL) for v in self.values])

    def blend(self, other: Sequence[float], share: float) -> Desk:
        """`share` of `other` (0: this vector, 1: the other) with the rest of this vector."""
        target = checked(other, self.layout)
        return self.set([v + share * (o - v) for v, o in zip(self.values, target)])

    def undo(self) -> Desk:
        if not self.past:
            return self
        return replace(self, values=self.past[-1], past=self.past[:-1], future=(self.values, *self.future))

    def redo(self) -> Desk:
        if not self.future:
            return self
        return replace(self, values=self.future[0], past=(*self.past, self.values), future=self.future[1:])

    def carried_to(self, layout: Layout) -> Desk:
        """This vector at another granularity of the same backbone, as a step that starts a new history."""
        if layout == self.layout:
            return self
        return Desk(layout, tuple(float(v) for v in self.layout.convert(self.values, layout)))


def group_of(name: str) -> str:
    """The block a scale belongs to: `double.3.img.attn` → `double.3`."""
    return ".".join(name.split(".")[:2])


def layer_of(name: str) -> str:
    """`attn`, `attn2`, `mlp`, `fused`, or `block` where a scale drives a whole block."""
    parts = name.split(".")
    if len(parts) > 2:
        return parts[-1]
    return "fused" if parts[0] == "single" else "block"


def stream_of(name: str) -> str:
    """`img`, `txt`, or `joint` where one scale drives both streams."""
    parts = name.split(".")
    return parts[2] if len(parts) > 3 else "joint"


LAYER_WORDS = {
    "attn": "attention",
    "attn2": "second attention",
    "mlp": "MLP",
    "fused": "attention and MLP, fused",
    "block": "the whole block",
}
STREAM_WORDS = {"img": "image stream", "txt": "text stream", "joint": "both streams"}


def words_for(name: str) -> str:
    """A scale in words: `double.3.img.attn` → `double block 3: attention, image stream`."""
    parts = name.split(".")
    block = f"{parts[0]} block {parts[1]}" if len(parts) > 1 else name
    return f"{block}: {LAYER_WORDS.get(layer_of(name), layer_of(name))}, {STREAM_WORDS[stream_of(name)]}"


def strips(layout: Layout) -> list[dict[str, str]]:
    """What the desk's script needs of each scale, in order of depth."""
    short = {"attn": "attn", "attn2": "attn2", "mlp": "mlp", "fused": "all", "block": "all"}
    made = []
    for name in layout.names:
        layer, stream = layer_of(name), stream_of(name)
        tag = short.get(layer, layer)
        made.append(
            {
                "name": name,
                "group": group_of(name),
                "tag": tag if stream == "joint" else f"{stream} {tag}",
                "layer": layer,
                "stream": stream,
                "words": words_for(name),
            }
        )
    return made
