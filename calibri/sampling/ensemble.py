"""All members of all images in one forward: v(x,t) = Σ_k w_k · v(x, t, c_k; s_k).

The images of a batch are sorted by their number of members, most first. Row block k of the forward holds the
k-th member of every image that has one, so that repeating and combining are slices, and images with one
member share the forward with ensembles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from calibri.backbones.sites import unwrapped
from calibri.errors import RenderError

Finish = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Picture = Callable[[torch.Tensor, Mapping[str, Any]], torch.Tensor]
Conditions = Callable[[Sequence[int], Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Rows:
    """How B images lie in the R rows of a forward.

    `counts`: images that have a k-th member, for k = 0, 1, …; falling, the first is B. `weights`: of all
    R = Σ counts rows, block after block.
    """

    counts: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, weights: Sequence[Sequence[float]]) -> Rows:
        """From the weights of each image's members. Raises RenderError unless images with most come first."""
        lengths = [len(each) for each in weights]
        if not lengths or min(lengths) < 1:
            raise RenderError("every image needs at least one member")
        if lengths != sorted(lengths, reverse=True):
            raise RenderError("images with most members must come first in a batch")
        blocks = [[each[k] for each in weights if len(each) > k] for k in range(lengths[0])]
        return cls(tuple(len(b) for b in blocks), tuple(w for block in blocks for w in block))

    @property
    def images(self) -> int:
        return self.counts[0]

    @property
    def order(self) -> list[tuple[int, int]]:
        """(image, member) of each row."""
        return [(i, k) for k, count in enumerate(self.counts) for i in range(count)]

    @property
    def is_plain(self) -> bool:
        """One member of weight 1 an image: nothing to combine."""
        return len(self.counts) == 1 and all(weight == 1 for weight in self.weights)

    def repeat(self, value: Any) -> Any:
        """(B, …) → (R, …), of a tensor, a list, or each value of a dictionary."""
        if value is None:
            return None
        if isinstance(value, dict):
            return {name: self.repeat(each) for name, each in value.items()}
        parts = [value[:count] for count in self.counts]
        if isinstance(value, torch.Tensor):
            return torch.cat(parts)
        return [each for part in parts for each in part]

    def combine(self, rows: torch.Tensor, weights: Sequence[float] | None = None) -> torch.Tensor:
        """(R, …) predictions → (B, …) float32 weighted sums, in the order of members. `weights`: (R,), of
        this step, where they are not always the same."""
        shape = (-1,) + (1,) * (rows.ndim - 1)
        given = self.weights if weights is None else weights
        factors = torch.tensor(given, dtype=torch.float32, device=rows.device).view(shape)
        weighted = rows.float() * factors
        total = weighted[: self.images].clone() if len(self.counts) > 1 else weighted
        start = self.images
        for count in self.counts[1:]:
            total[:count] += weighted[start : start + count]
            start += count
        return total


@contextmanager
def member_rows(
    transformer: torch.nn.Module,
    rows: Rows,
    repeated: Sequence[str],
    conditions: Mapping[str, Any] | Conditions,
    finish: Finish | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    on_group: Callable[[Sequence[int]], None] | None = None,
    picture: Picture | None = None,
    weigh: Callable[[], Sequence[float]] | None = None,
) -> Iterator[None]:
    """Inside, each call of the transformer with B images runs R rows and returns B predictions.

    `repeated`: keyword arguments with one entry for each image. `conditions`: keyword arguments that are put
    in as they are, one entry for each row: the embeddings of positive and negative prompts; or a function
    that makes them of the rows and the call. `finish(combined, first member's)`: applied to the images with
    several members. `groups`: rows that can share a forward, where not all can; `on_group` is told before
    each. `picture(prediction, call)`: what of a prediction counts. `weigh()`: the weights of all rows at this
    call, where they are not always the same; rows of weight 0 do not run.
    """
    every = groups or [range(len(rows.weights))]
    state = _Call(transformer, rows, repeated, conditions, every, on_group, weigh)

    def before(
        module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]] | None:
        if state.within:
            return None
        state.begin(call_of(module, args, kwargs))
        return (), state.arguments(state.groups[0])

    def after(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        if state.within:
            return None
        is_tuple = isinstance(output, tuple)
        first, is_list = prediction_of(output)
        if picture is not None:
            first = picture(first, state.call)
        prediction = state.run_others(module, first, picture)
        if prediction.shape[0] != len(rows.weights):
            raise RenderError(f"expected {len(rows.weights)} predictions, got {prediction.shape[0]}")
        combined = rows.combine(prediction, state.weights).to(prediction.dtype)
        images, firsts = state.several
        if finish is not None and images:
            combined[images] = finish(combined[images], prediction[firsts])
        told = list(combined.unbind()) if is_list else combined
        return (told, *output[1:]) if is_tuple else type(output)(sample=told)

    handles = [
        transformer.register_forward_pre_hook(before, with_kwargs=True),
        transformer.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Call:
    """One call of the transformer with R rows, in as many forwards as there are groups of rows."""

    def __init__(
        self,
        transformer: torch.nn.Module,
        rows: Rows,
        repeated: Sequence[str],
        conditions: Mapping[str, Any] | Conditions,
        groups: Sequence[Sequence[int]],
        on_group: Callable[[Sequence[int]], None] | None,
        weigh: Callable[[], Sequence[float]] | None,
    ) -> None:
        self._name = type(unwrapped(transformer)).__name__
        self._rows, self._repeated, self._conditions = rows, repeated, conditions
        self._every = [tuple(group) for group in groups]
        self._on_group, self._weigh = on_group, weigh
        self._made: dict[tuple[int, ...], Mapping[str, Any]] = {}  # of rows, at every step
        self.groups = self._every  # those of this step
        self.weights: Sequence[float] = rows.weights
        self.several = self._find_several()
        self.call: dict[str, Any] = {}
        self._whole: dict[str, Any] = {}
        self.within = False  # a forward that is asked for here

    def begin(self, call: dict[str, Any]) -> None:
        missing = [name for name in self._repeated if name not in call]
        if missing:
            raise RenderError(f"{self._name} was called without the keyword argument {missing[0]!r}")
        if self._weigh is not None:
            self.weights = self._weigh()
            counting = [tuple(row for row in group if self.weights[row] != 0) for group in self._every]
            self.groups = [group for group in counting if group]
            self.several = self._find_several()
        self.call = call
        self._whole = {n: self._rows.repeat(call[n]) for n in self._repeated if call[n] is not None}

    def _find_several(self) -> tuple[list[int], list[int]]:
        """The images in which several members count, and the first row of each that does."""
        counting: dict[int, list[int]] = {}
        for row, (image, _) in enumerate(self._rows.order):
            # Without phases a member of weight 0 would be one that counts: its forward runs.
            if self._weigh is None or self.weights[row] != 0:
                counting.setdefault(image, []).append(row)
        images = [image for image, rows in counting.items() if len(rows) > 1]
        return images, [counting[image][0] for image in images]

    def arguments(self, group: tuple[int, ...]) -> dict[str, Any]:
        """Keyword arguments of the forward of one group of rows."""
        if group not in self._made:
            made = self._conditions
            self._made[group] = made(group, self.call) if callable(made) else made
        seen = self._whole
        if len(self._every) > 1 or self._weigh is not None:
            seen = {name: _chosen(value, group) for name, value in seen.items()}
            if self._on_group is not None:
                self._on_group(group)
        return {**self.call, **seen, **self._made[group]}

    def run_others(
        self, module: torch.nn.Module, first: torch.Tensor, picture: Picture | None
    ) -> torch.Tensor:
        """(R, …) predictions: those of the first group, and of the others, which run now. Of rows that do not
        count: zeros."""
        if len(self._every) == 1 and self._weigh is None:
            return first
        whole = first.new_zeros(len(self._rows.weights), *first.shape[1:])
        whole[list(self.groups[0])] = first
        self.within = True
        try:
            for group in self.groups[1:]:
                other, _ = prediction_of(module(**self.arguments(group)))
                whole[list(group)] = other if picture is None else picture(other, self.call)
        finally:
            self.within = False
        return whole


def call_of(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call of a transformer, some of which came without their names."""
    if not args:
        return kwargs
    names = list(inspect.signature(type(unwrapped(module)).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def prediction_of(output: Any) -> tuple[torch.Tensor, bool]:
    """A transformer's prediction (B, …), and whether it was a list of those of single images."""
    found = output[0] if isinstance(output, tuple) else getattr(output, "sample", None)
    if isinstance(found, list | tuple):
        return torch.stack(list(found)), True
    if not isinstance(found, torch.Tensor):
        raise RenderError(f"expected a prediction from the transformer, got {type(output).__name__}")
    return found, False


def _chosen(value: Any, rows: Sequence[int]) -> Any:
    """Some rows of a tensor, a list, or of each value of a dictionary."""
    if isinstance(value, dict):
        return {name: _chosen(each, rows) for name, each in value.items()}
    if isinstance(value, torch.Tensor):
        return value[torch.as_tensor(list(rows), device=value.device)]
    return None if value is None else [value[i] for i in rows]
