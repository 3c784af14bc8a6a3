"""What the renderer must know of a diffusers pipeline: the few lines in which families differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from calibri.backbones.catalog import BackboneSpec

Embeddings = Mapping[str, "torch.Tensor"]  # of one prompt; each tensor (1, …)


class Adapter(Protocol):
    """One for each pipeline family; made by the family's `adapter(pipeline, spec)`.

    `repeated`: the transformer's keyword arguments with a row for each image, which are repeated for further
    members. `size_step`: height and width must be multiples of it, in pixels. `tokens`: of text, to which
    `encode` pads or cuts.
    """

    repeated: tuple[str, ...]
    size_step: int
    tokens: int

    def __init__(self, pipeline: DiffusionPipeline, spec: BackboneSpec) -> None: ...

    def encode(self, prompt: str) -> Embeddings:
        """The embeddings of one prompt, computed alone, so that they depend on nothing else."""
        ...

    def tokens_of(self, encoder_hidden_states: torch.Tensor) -> int:
        """The `tokens` with which prompts (B, L, D) of the transformer were encoded."""
        ...

    @property
    def reads(self) -> int:
        """How many tokens of a prompt are read."""
        ...

    def unread(self, prompt: str) -> str:
        """The end of a prompt that the encoder does not read; "" if all is read."""
        ...

    def call(self, prompts: Sequence[Embeddings]) -> dict[str, Any]:
        """Arguments of the pipeline's `__call__`: embeddings of B prompts, its own guidance off."""
        ...

    def rows(self, prompts: Sequence[Embeddings], guidance: Sequence[float | None]) -> dict[str, Any]:
        """Keyword arguments of the transformer that hold the condition of each of R rows.

        `guidance`: the embedded guidance of each row, where the model has one.
        """
        ...

    def finish(self, combined: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """What the family does to a combined prediction (B, …), given the first positive member's."""
        ...
