"""Scales into a model of ComfyUI, for the time of one forward: multiplies chunks of what modulations put out.

The change comes and goes with the forward: nothing of it is left on the model, whatever happens in between.
Weights stay as they are, so patches of them (LoRA), low precision and offload work as ever.

A module gets a `forward` of its own, no hook: code that `torch.compile` has made without hooks does not look
for any, but it does notice another `forward`. Numbers are tensors beside it, whose values compiled code reads
anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch

from .table import Site

FORWARD = "forward"
FACTORS = "calibri_factors"  # on a module: (rows, chunks) float32
BEFORE = "calibri_forward"  # on a module: the `forward` that another node had put there


def forward_scaled(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The module's forward, its output multiplied."""
    before = getattr(module, BEFORE, None)
    output = type(module).forward(module, *args, **kwargs) if before is None else before(*args, **kwargs)
    return multiply_chunks(output, getattr(module, FACTORS))


def multiply_chunks(output: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiplies chunk k of row r of an output (B, …, n·D) by factors (1 or B, n), at place (r, k)."""
    rows, chunks = factors.shape
    if rows not in (1, output.shape[0]):  # Qwen-Image-Edit: a modulation over [t, 0], each with the batch
        factors = factors.repeat(output.shape[0] // rows, 1)
    factors = factors.view(-1, *(1,) * (output.ndim - 2), chunks, 1)
    # float32 factors promote the product, so that 1.0039 counts in bf16 too; the output keeps its type.
    return (output.unflatten(-1, (chunks, -1)) * factors).flatten(-2).to(output.dtype)


class Scales:
    """Several vectors for the sites of one model, as the factors of its modulations."""

    def __init__(self, sites: Sequence[Site], vectors: Sequence[Sequence[float]]) -> None:
        """`vectors`: (K, number of sites). A module has one row of factors for each of the K."""
        found: dict[str, torch.Tensor] = {}
        for i, site in enumerate(sites):
            factors = found.setdefault(site.module, torch.ones(len(vectors), site.count))
            factors[:, site.index] = torch.tensor([vector[i] for vector in vectors])
        self._factors = found

    @contextmanager
    def on(self, model: torch.nn.Module, chosen: Sequence[int], device: torch.device) -> Iterator[None]:
        """Inside it row r of a batch has vector `chosen[r]`; one that is chosen alone is for all rows.

        `model`: the `diffusion_model`. Raises AttributeError for a model without a site's module.
        """
        index = torch.tensor(chosen)
        changed: list[dict[str, Any]] = []
        try:
            for path, factors in self._factors.items():
                module = model.get_submodule(path)
                own = vars(module)
                changed.append(own)
                if FORWARD in own:
                    own[BEFORE] = own[FORWARD]
                own[FACTORS] = factors[index].to(device)
                own[FORWARD] = MethodType(forward_scaled, module)
            yield
        finally:
            for own in changed:
                before = own.pop(BEFORE, None)
                own.pop(FACTORS, None)
                own.pop(FORWARD, None)
                if before is not None:
                    own[FORWARD] = before
