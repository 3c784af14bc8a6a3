"""One answer to “how do I load this here?”, for the command line and the page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibri.backbones.needs import Ask, Suggestion, count_flops, suggest
from calibri.backbones.sizes import Sizes, explain_gate, find_sizes
from calibri.errors import BackboneError

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec
    from calibri.backbones.machine import Machine

SHARE = 0.4  # of the matmul rate that a transformer reaches: a guess, which the sentence says
MATMUL = {"cpu": 1024, "cuda": 8192}  # rows of the matrices that are multiplied


@dataclass(frozen=True)
class Advice:
    """What a backbone needs and what to do. `sizes`: None where nothing is known; `notes` say why."""

    spec: BackboneSpec
    sizes: Sizes | None
    ask: Ask
    suggestion: Suggestion | None
    notes: tuple[str, ...]


def advise(
    spec: BackboneSpec,
    machine: Machine,
    *,
    card: int | None = None,
    ask: Ask | None = None,
    ask_hub: bool = False,
) -> Advice:
    """How to load a backbone on this machine. `card`: bytes of a card, instead of this machine's. `ask_hub`:
    read headers there. Raises BackboneError where a folder is broken."""
    ask = ask or Ask.of(spec)
    notes: list[str] = []
    if spec.gated and not spec.is_local and not machine.token:
        notes.append(explain_gate(spec.source))
    try:
        sizes = find_sizes(spec, ask_hub=ask_hub)
    except BackboneError as error:
        if spec.is_local:
            raise
        refused = str(error)
        return Advice(spec, None, ask, None, tuple(dict.fromkeys([*notes, refused])))
    notes += [note for note in sizes.notes if note not in notes]
    found = suggest(sizes, ask, card if card is not None else machine.card, machine.memory, name=spec.name)
    if found.need is not None and found.need.options.quantisation and not machine.packages["bitsandbytes"]:
        notes.append("8bit and 4bit need bitsandbytes: pip install bitsandbytes")
    return Advice(spec, sizes, ask, found, tuple(notes))


def guess_seconds(sizes: Sizes, ask: Ask, steps: int, dtype: str) -> float:
    """Of a picture on this machine, from the operations that it takes and a matrix product timed here.

    An estimate: a transformer is taken to reach SHARE of that rate."""
    return steps * count_flops(sizes, ask) / (SHARE * measure_rate(dtype))


def measure_rate(dtype: str) -> float:
    """Operations a second of large matrix products in this dtype."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = MATMUL[device]
    left = torch.ones(rows, rows, dtype=getattr(torch, dtype), device=device)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        (left @ left)[0, 0].item()  # waits for the GPU too
        best = min(best, time.perf_counter() - began)
    return 2.0 * rows**3 / best
