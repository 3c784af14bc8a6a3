"""What the renderer must know of a diffusers pipeline: the few lines in which families differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from calibri.backbones.catalog import BackboneSpec

Embeddings = Mapping[str, "torch.Tensor"]  # of one prompt


class Adapter(Protocol):
    """One for each pipeline family; made by `adapter_of`.

    `repeated`: the transformer's keyword arguments with a row for each image, which are repeated for further
    members. `words`: its keyword argument with the prompts. `size_step`: height and width must be multiples
    of it, in pixels. `tokens`: of text, to which `encode` pads or cuts. `off`: how to call the pipeline
    without its own guidance. `tells_negatives`: a negative prompt is encoded in another way than the same
    positive one. `takes_embeddings`: the pipeline is called with them, and not with words. `guides_itself`:
    its guidance is not an ensemble of this transformer, so it is told how strong. `in_batch`: the pipeline
    guides by one call with both prompts, and no property of it says so.
    """

    repeated: tuple[str, ...]
    words: str
    size_step: int
    tokens: int
    off: str
    tells_negatives: bool
    takes_embeddings: bool
    guides_itself: bool
    in_batch: bool

    def encode(self, prompt: str, negative: bool = False) -> Embeddings:
        """The embeddings of one prompt, computed alone, so that they depend on nothing else."""
        ...

    def tokens_of(self, prompts: Any) -> int:
        """The `tokens` with which the prompts of a call of the transformer were encoded."""
        ...

    @property
    def reads(self) -> int:
        """How many tokens of a prompt are read."""
        ...

    def unread(self, prompt: str) -> str:
        """The end of a prompt that the encoder does not read; "" if all is read."""
        ...

    def alike(self, prompt: Embeddings) -> object:
        """Prompts of equal answers can share a forward."""
        ...

    def call(self, prompts: Sequence[Embeddings], guidance: float | None = None) -> dict[str, Any]:
        """Arguments of the pipeline's `__call__`: embeddings of B alike prompts, its own guidance off, or as
        strong as `guidance` where it guides itself.
        """
        ...

    def rows(
        self, prompts: Sequence[Embeddings], guidance: Sequence[float | None], call: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keyword arguments of the transformer that hold the condition of each of R rows of alike prompts.

        `guidance`: the embedded guidance of each row, where the model has one. `call`: the keyword arguments
        with which the pipeline calls the transformer.
        """
        ...

    def finish(self, combined: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """What the family does to a combined prediction (B, …), given the first positive member's."""
        ...

    def picture(self, prediction: torch.Tensor, call: Mapping[str, Any]) -> torch.Tensor:
        """What a prediction says of the picture, where it says something of the text too."""
        ...

    def prepare(self, height: int, width: int) -> None:
        """What the pipeline needs to be told before it paints this size, in pixels."""
        ...


class BaseAdapter:
    """What most families have in common."""

    repeated: tuple[str, ...] = ("hidden_states", "timestep")
    words = "encoder_hidden_states"
    off = "true_cfg_scale=1"
    tells_negatives = False
    takes_embeddings = True
    guides_itself = False
    in_batch = False

    def alike(self, prompt: Embeddings) -> object:
        return None

    def finish(self, combined: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        return combined

    def picture(self, prediction: torch.Tensor, call: Mapping[str, Any]) -> torch.Tensor:
        return prediction

    def prepare(self, height: int, width: int) -> None:
        return None


def adapter_of(family: ModuleType, pipeline: DiffusionPipeline, spec: BackboneSpec) -> Adapter:
    """How the renderer drives this pipeline: by an adapter of the family's own, or by its declared facts."""
    own = getattr(family, "adapter", None)
    if own is not None:
        made: Adapter = own(pipeline, spec)
        return made
    from calibri.backbones.facts_adapter import FactsAdapter

    facts = family.FACTS
    return FactsAdapter(pipeline, spec, facts.get(type(pipeline).__name__) or next(iter(facts.values())))
