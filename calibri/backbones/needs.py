"""What a backbone needs in each mode of loading, and which mode suits a machine. No torch.

Weights are counted from shapes. Activations and overheads are estimates: each constant says where it is from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from calibri.backbones.options import OFFLOADS, LoadOptions
from calibri.backbones.sizes import Part, Sizes
from calibri.words import data_size

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec

BYTES = {"float32": 4, "bfloat16": 2}
#: Bytes of a matrix's value. bitsandbytes keeps 4-bit numbers in blocks of 64 with a float32 each.
QUANTISED = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
CONTEXT = 600 * 10**6  # bytes that CUDA itself and its libraries take on a card
USABLE = 0.95  # of a card: the allocator's gaps take the rest
OF_MAIN = 0.9  # of main memory, which others use too
# Of width (residual, norm, q, k, v, sum) and of hidden that live at once in a block of FLUX.1.
BRANCHES, INNER = 6, 2
DECODER = 4  # maps of the decoder's widest full-size layer that live at once


@dataclass(frozen=True)
class Ask:
    """What is painted at once. `members`: of an ensemble; 2 with classifier-free guidance. `text`: tokens."""

    width: int
    height: int
    batch: int = 1
    members: int = 1
    text: int = 512

    @classmethod
    def of(cls, spec: BackboneSpec, batch: int = 1) -> Ask:
        """As the backbone is used unless somebody says otherwise."""
        members = 2 if spec.cfg not in (None, 1) else 1
        return cls(spec.width, spec.height, batch, members, spec.max_sequence_length)

    def tokens(self, sizes: Sizes) -> int:
        """Of one row: those of the picture and of the text."""
        return (self.width // sizes.token) * (self.height // sizes.token) + self.text


@dataclass(frozen=True)
class Need:
    """Bytes that a mode takes. `device`: on the card, or of main memory where there is none. `main`: of main
    memory besides."""

    options: LoadOptions
    weights: int
    activations: int
    device: int
    main: int

    @property
    def words(self) -> str:
        return self.options.words or "as usual"


@dataclass(frozen=True)
class Suggestion:
    """`need`: of the mode that is suggested; None where nothing fits, which `words` say."""

    need: Need | None
    words: str


def weigh_part(part: Part, dtype: str, quantisation: str = "") -> int:
    """Bytes of a part's weights. `quantisation`: 8bit or 4bit of its matrices."""
    each = BYTES[dtype]
    matrix = QUANTISED[quantisation] if quantisation else each
    return round((part.values - part.matrix) * each + part.matrix * matrix) + part.fixed


def weigh_activations(sizes: Sizes, ask: Ask, dtype: str) -> int:
    """Bytes that live at once beside the weights: in a block of the transformer, or while decoding."""
    return max(weigh_stream(sizes, ask, dtype), weigh_decoding(sizes, ask, dtype))


def weigh_stream(sizes: Sizes, ask: Ask, dtype: str) -> int:
    """Bytes that live at once in a block of the transformer."""
    rows = ask.batch * ask.members * ask.tokens(sizes)
    return BYTES[dtype] * rows * (BRANCHES * sizes.width + INNER * sizes.hidden)


def weigh_decoding(sizes: Sizes, ask: Ask, dtype: str) -> int:
    """Bytes that live at once while pictures are decoded."""
    return BYTES[dtype] * DECODER * sizes.channels * ask.width * ask.height * ask.batch


def find_need(sizes: Sizes, options: LoadOptions, ask: Ask, *, cuda: bool = True) -> Need:
    """What this mode takes. `cuda`: on a card, beside main memory."""
    dtype = options.dtype if options.dtype in BYTES else "bfloat16"
    each = {
        part.name: weigh_part(part, dtype, options.quantisation if part.name == "transformer" else "")
        for part in sizes.parts
    }
    whole, active = sum(each.values()), weigh_activations(sizes, ask, dtype)
    if not cuda:
        return Need(options, whole, active, whole + active, 0)
    size = BYTES[dtype]
    alone = {
        "transformer": weigh_stream(sizes, ask, dtype),
        "vae": weigh_decoding(sizes, ask, dtype),
    }  # offloaded parts compute one after the other
    there = {
        "model": lambda part: each[part.name],
        # A stream brings the next block while one computes; what lies outside of blocks stays.
        "group": lambda part: (2 * part.block + part.rest) * size,
        "sequential": lambda part: part.leaf * size,
    }
    if not options.offload:  # a part is read before it is brought over
        return Need(options, whole, active, whole + active + CONTEXT, max(each.values()))
    taken = max(there[options.offload](part) + alone.get(part.name, 0) for part in sizes.parts)
    return Need(options, whole, active, taken + CONTEXT, whole)


def list_modes(cuda: bool = True) -> list[LoadOptions]:
    """Every mode: dtype or quantisation × offload. Quantised weights are not offloaded in pieces."""
    if not cuda:
        return [LoadOptions(dtype=dtype) for dtype in BYTES]
    plain = [LoadOptions(dtype=d, offload=o) for d in BYTES for o in ("", *OFFLOADS)]
    small = [
        LoadOptions(dtype="bfloat16", quantisation=q, offload=o) for q in QUANTISED for o in ("", "model")
    ]
    return [*plain, *small]


def _preferred() -> Iterable[LoadOptions]:
    """From the best to the last resort: whole numbers before few bits, few bits before what is slow."""
    half = LoadOptions(dtype="bfloat16")
    yield half
    yield replace(half, offload="model")
    yield replace(half, quantisation="8bit")
    yield replace(half, quantisation="8bit", offload="model")
    yield replace(half, offload="group")
    yield replace(half, quantisation="4bit")
    yield replace(half, quantisation="4bit", offload="model")
    yield replace(half, offload="sequential")


def suggest(sizes: Sizes, ask: Ask, card: int | None, main: int, *, name: str = "it") -> Suggestion:
    """The mode for a card of so many bytes, None for none, and so much main memory, 0 where not known."""
    room = OF_MAIN * main if main else float("inf")
    if card is None:
        needs = [find_need(sizes, LoadOptions(dtype=dtype), ask, cuda=False) for dtype in BYTES]
        fitting = [need for need in needs if need.device <= room]
        best, limit = (fitting[0] if fitting else None), f"{data_size(main)} of main memory"
    else:
        needs = [find_need(sizes, options, ask) for options in _preferred()]
        fitting = [need for need in needs if need.device <= USABLE * card and need.main <= room]
        best, limit = (fitting[0] if fitting else None), f"{name_card(card)} and {data_size(main)} beside it"
    if best is not None:
        return Suggestion(best, f"{best.words}: about {_tell(best, card)}")
    least = min(needs, key=lambda need: need.device)
    return Suggestion(
        None,
        f"{name} does not fit into {limit}: the smallest mode ({least.words}) takes about "
        f"{_tell(least, card)}. Choose a smaller backbone or picture",
    )


def _tell(need: Need, card: int | None) -> str:
    if card is None:
        return f"{data_size(need.device)} of main memory"
    beside = f", {data_size(need.main)} of main memory" if need.options.offload else ""
    return f"{data_size(need.device)} on the card{beside}"


def name_card(card: int) -> str:
    """As it is sold: `a card of 12 GB`."""
    return f"a card of {card / 2**30:.0f} GB"


def count_flops(sizes: Sizes, ask: Ask) -> float:
    """Of one evaluation for a picture with all its members: 2 for each value and token that it is multiplied
    with, and 4 · tokens² · width for the attention of each block. Where streams have matrices of their own,
    it counts too many."""
    tokens = ask.tokens(sizes)
    attention = 4.0 * tokens**2 * sizes.width * sizes.blocks
    return ask.members * (2.0 * tokens * sizes.work + attention)
