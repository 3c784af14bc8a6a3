"""A cache of prompt embeddings."""

from __future__ import annotations

from collections import OrderedDict

from calibri.backbones.adapter import Adapter, Embeddings

MOST_BYTES = 512 * 2**20  # FLUX.1 takes 4 MB a prompt


class PromptCache:
    """Embeddings by prompt, the least recently used dropped first.

    Each prompt is encoded alone: its embeddings are then a function of the prompt and not of what happened
    to be encoded with it, so that a resumed search sees bit for bit what the first one saw.
    """

    def __init__(self, adapter: Adapter, most_bytes: int = MOST_BYTES) -> None:
        self._adapter = adapter
        self._most = most_bytes
        self._held: OrderedDict[object, Embeddings] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(
        self, prompt: str, negative: bool = False, loras: tuple[tuple[str, float], ...] = ()
    ) -> Embeddings:
        """`loras`: those of a text encoder that are on, with their strengths."""
        key = (prompt, negative and self._adapter.tells_negatives, loras)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = self._adapter.encode(prompt, negative)
            self._bytes += _size(found)
            while self._bytes > self._most and len(self._held) > 1:
                self._bytes -= _size(self._held.popitem(last=False)[1])
        else:
            self._held.move_to_end(key)
        return found


def _size(embeddings: Embeddings) -> int:
    return sum(t.numel() * t.element_size() for t in embeddings.values())
