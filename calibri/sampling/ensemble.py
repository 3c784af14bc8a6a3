"""All members of all images in one forward: v(x,t) = Σ_k w_k · v(x, t, c_k; s_k).

The images of a batch are sorted by their number of members, most first. Row block k of the forward holds the
k-th member of every image that has one, so that repeating and combining are slices, and images with one
member share the forward with ensembles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from calibri.errors import RenderError

Finish = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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
        """(B, …) → (R, …), of a tensor or a list."""
        parts = [value[:count] for count in self.counts]
        if isinstance(value, torch.Tensor):
            return torch.cat(parts)
        return [each for part in parts for each in part]

    def combine(self, rows: torch.Tensor) -> torch.Tensor:
        """(R, …) predictions → (B, …) float32 weighted sums, in the order of members."""
        shape = (-1,) + (1,) * (rows.ndim - 1)
        weights = torch.tensor(self.weights, dtype=torch.float32, device=rows.device).view(shape)
        weighted = rows.float() * weights
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
    conditions: Mapping[str, Any],
    finish: Finish | None = None,
) -> Iterator[None]:
    """Inside, each call of the transformer with B images runs R rows and returns B predictions.

    `repeated`: keyword arguments with one entry for each image. `conditions`: keyword arguments that are
    put in as they are, one entry for each row: the embeddings of positive and negative prompts.
    `finish(combined, first member's)`: applied to the images with several members.
    """

    def before(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        missing = [name for name in repeated if name not in kwargs]
        if args or missing:
            raise RenderError(
                f"{type(module).__name__} was called without the keyword argument {(missing or ['?'])[0]!r}"
            )
        changed = {name: rows.repeat(kwargs[name]) for name in repeated if kwargs[name] is not None}
        return args, {**kwargs, **changed, **conditions}

    def after(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        is_tuple = isinstance(output, tuple)
        prediction = output[0] if is_tuple else output.sample
        if prediction.shape[0] != len(rows.weights):
            raise RenderError(f"expected {len(rows.weights)} predictions, got {prediction.shape[0]}")
        combined = rows.combine(prediction).to(prediction.dtype)
        several = rows.counts[1] if len(rows.counts) > 1 else 0
        if finish is not None and several:
            combined = torch.cat([finish(combined[:several], prediction[:several]), combined[several:]])
        return (combined, *output[1:]) if is_tuple else type(output)(sample=combined)

    handles = [
        transformer.register_forward_pre_hook(before, with_kwargs=True),
        transformer.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
