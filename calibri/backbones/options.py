"""How a backbone is loaded: on what device, in how much memory, how fast. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from calibri.backbones.lora import parse_lora
from calibri.backbones.quantisations import QUANTISATIONS, STORED
from calibri.backbones.single_file import check_file, is_gguf
from calibri.backbones.step_cache import read_step_cache
from calibri.errors import BackboneError

Offload = Literal["", "model", "sequential", "group"]
OFFLOADS = tuple(name for name in get_args(Offload) if name)
DTYPES = ("float32", "bfloat16", "float16", "mixed")
_DEVICE = re.compile(r"[a-z]+(:\d+)?")
_BACKEND = re.compile(r"\w+")
MOST_LORAS = 32
LONGEST_TEXT = 4096  # of a file's name


@dataclass(frozen=True)
class LoadOptions:
    """All that may be said of loading, beside which backbone. A default is what nobody needs to write down.

    `device`: auto (CUDA, then MPS, then CPU) or a torch device. `dtype`: auto (bfloat16 on CUDA, else
    float32), float32, bfloat16, float16, or mixed. `offload`: model, sequential or group; "" keeps the
    weights on the device. `quantisation`: of the transformer, "" for none. `transformer`: a .gguf or
    .safetensors file with the transformer's weights, "" for the pipeline's own. `vae_tiling`, `vae_slicing`:
    decode a picture in tiles, or pictures one by one. `attention`: a backend of diffusers, "" for its own
    choice. `compile`: the transformer's repeated blocks. `step_cache`: taylorseer or pab, with the number of
    steps that share one behind a colon; "" for none, as in every search. `loras`: each FILE or FILE:STRENGTH.
    `lora_blocks`: their strengths in each block are scales too.
    """

    device: str = "auto"
    dtype: str = "auto"
    offload: Offload = ""
    quantisation: str = ""
    transformer: str = ""
    vae_tiling: bool = False
    vae_slicing: bool = False
    attention: str = ""
    compile: bool = False
    step_cache: str = ""
    loras: tuple[str, ...] = ()
    lora_blocks: bool = False

    def check(self) -> LoadOptions:
        """Itself. Raises BackboneError for what cannot be anywhere; what this machine lacks, loading says."""
        for field in fields(self):
            self._check_type(field.name, getattr(self, field.name))
        if not _DEVICE.fullmatch(self.device):
            raise BackboneError(f"device {self.device!r}: expected auto, cpu, cuda, cuda:1 or mps")
        _among("dtype", self.dtype, ("auto", *DTYPES))
        _among("offload", self.offload, ("", *OFFLOADS))
        _among("quantisation", self.quantisation, ("", *QUANTISATIONS))
        if self.attention and not _BACKEND.fullmatch(self.attention):
            raise BackboneError(f"attention {self.attention!r}: expected the name of a backend of diffusers")
        if self.step_cache:
            read_step_cache(self.step_cache)
        if self.transformer:
            check_file(self.transformer)
        self._check_together()
        for each in self.loras:
            parse_lora(each)
        if self.lora_blocks and not self.loras:
            raise BackboneError("lora-blocks: expected a LoRA too (--lora FILE), got none")
        if len(self.loras) > MOST_LORAS:
            raise BackboneError(f"loras: expected at most {MOST_LORAS}, got {len(self.loras)}")
        return self

    def _check_together(self) -> None:
        stored_whole = self.quantisation == STORED and not is_gguf(self.transformer)
        if self.transformer and self.quantisation and not stored_whole:
            raise BackboneError(
                "transformer: a single file is loaded as it is stored: leave quantisation out"
            )
        if self.dtype == "mixed" and (self.quantisation or is_gguf(self.transformer)):
            raise BackboneError(
                "dtype mixed is for weights in float32: expected bfloat16 with quantised weights"
            )
        if self.compile and self.offload == "sequential":
            raise BackboneError(
                "compile: sequential offload moves weights within the blocks, which compiled code cannot: "
                "expected model or group offload"
            )
        if self.compile and self.step_cache:
            raise BackboneError("compile: a step cache works within the blocks, expected one or the other")

    def _check_type(self, name: str, value: object) -> None:
        if name == "loras":
            if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
                raise BackboneError(f"loras: expected a list of texts, got {value!r:.60}")
            texts = [(name, each) for each in value]
        elif isinstance(getattr(LoadOptions, name), bool):
            if not isinstance(value, bool):
                raise BackboneError(f"{name}: expected true or false, got {value!r:.60}")
            return
        else:
            texts = [(name, value)]
        for label, text in texts:
            if not isinstance(text, str):
                raise BackboneError(f"{label}: expected text, got {text!r:.60}")
            if len(text) > LONGEST_TEXT or "\0" in text:
                raise BackboneError(f"{label}: expected at most {LONGEST_TEXT} characters, got {len(text)}")

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, as plain JSON values."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        found = {name: value for name, value in given.items() if value != getattr(LoadOptions, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LoadOptions:
        """The inverse of `to_json`, checked. Raises BackboneError, also for a name that is not known."""
        if not isinstance(values, Mapping):
            raise BackboneError(f"loading: expected an object, got {type(values).__name__}")
        names = [field.name for field in fields(cls)]
        strange = [name for name in values if name not in names]
        if strange:
            raise BackboneError(f"loading: expected some of {', '.join(names)}, got {strange[0]!r:.60}")
        taken: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**taken).check()

    @property
    def words(self) -> str:
        """What differs from the defaults, for people: `bfloat16, group offload, 4bit, 2 LoRAs`; without
        folders."""
        parts = [value for value in (self.device, self.dtype) if value != "auto"]
        parts += [f"{self.offload} offload"] if self.offload else []
        parts += [self.quantisation] if self.quantisation else []
        parts += ["GGUF" if is_gguf(self.transformer) else "another transformer"] if self.transformer else []
        parts += ["VAE tiling"] if self.vae_tiling else []
        parts += ["VAE slicing"] if self.vae_slicing else []
        parts += [f"attention {self.attention}"] if self.attention else []
        parts += ["compiled"] if self.compile else []
        parts += [f"step cache {self.step_cache}"] if self.step_cache else []
        if self.loras:
            parts.append("a LoRA" if len(self.loras) == 1 else f"{len(self.loras)} LoRAs")
        parts += ["its strengths in blocks as scales"] if self.lora_blocks else []
        return ", ".join(parts)

    def tell(self) -> dict[str, Any]:
        """As `to_json`, for what travels: files without their folders."""
        loras = tuple(_without_folder(text) for text in self.loras)
        return replace(self, transformer=_without_folder(self.transformer), loras=loras).to_json()

    @property
    def painting(self) -> str:
        """What changes pictures by more than rounding and cannot be seen in the weights; part of a
        fingerprint."""
        parts = ["mixed"] if self.dtype == "mixed" else []
        parts += [self.attention] if "sage" in self.attention else []  # it quantises what attention reads
        parts += [self.step_cache] if self.step_cache else []
        return " ".join(parts)


def _without_folder(text: str) -> str:
    """`/srv/loras/ink.safetensors:0.7` → `ink.safetensors:0.7`; a hub id stays as it is."""
    is_path = text.startswith(("/", "~", ".")) or "\\" in text
    return text.replace("\\", "/").rpartition("/")[2] if is_path else text


USUAL = LoadOptions()


def _among(label: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        *rest, last = [name for name in known if name]
        raise BackboneError(f"{label} {value!r}: expected {', '.join(rest)} or {last}")


def replace_given(options: LoadOptions, **given: Any) -> LoadOptions:
    """`options` with what is given in place of its own; None is not given."""
    return replace(options, **{name: value for name, value in given.items() if value is not None})
