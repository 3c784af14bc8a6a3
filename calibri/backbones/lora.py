"""LoRAs as part of a base: what a person typed, and which of those that are loaded are on.

Strengths go to diffusers as one number for each adapter: a dictionary of blocks would be matched by substring
there, so that `transformer_blocks.1` also hits `transformer_blocks.10`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import BackboneError, RenderError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

LoraUse = tuple[str, float]  # name of a loaded LoRA, and its strength
WEIGHTS = "pytorch_lora_weights.safetensors"  # what diffusers calls a LoRA that it saves
NONE = "none"  # what is typed for none of them
_DRIVE = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class LoraSource:
    """What a person typed as FILE or FILE:STRENGTH. `source`: a file, a folder or a hub id."""

    source: str
    strength: float = 1.0


@dataclass(frozen=True)
class LoadedLora:
    """A named adapter of a loaded pipeline.

    `file`: name without its folder. `strength`: where a request does not say another. `digest`: SHA-256 of
    the file. `reads_text`: whether it changes a text encoder too.
    """

    name: str
    file: str
    strength: float
    digest: str
    reads_text: bool = False


def parse_lora(text: str) -> LoraSource:
    """`FILE[:STRENGTH]`: a file, a folder, `owner/name` or `owner/name/file.safetensors` of the hub.

    Raises BackboneError where the strength is not a finite number.
    """
    text = text.strip()
    source, colon, last = text.rpartition(":")
    is_drive = _DRIVE.fullmatch(source) is not None and last[:1] in ("\\", "/")
    if not text or (colon and not source):
        raise BackboneError(f"LoRA {text!r}: expected FILE or FILE:STRENGTH")
    if not colon or is_drive or Path(text).exists():
        return LoraSource(text)
    try:
        strength = float(last)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise BackboneError(
            f"LoRA {Path(source).name}: expected a finite number as its strength, got {last[:40]!r}"
        )
    return LoraSource(source, strength)


def names_of(sources: Sequence[LoraSource]) -> tuple[str, ...]:
    """A short name for each, all different: of its file, or of what that lies in where the file has the
    name that all have. Letters, digits and `-`."""
    found: list[str] = []
    for each in sources:
        path = Path(each.source.replace("\\", "/"))
        stem = path.stem if path.suffix == ".safetensors" else path.name
        if path.name == WEIGHTS and path.parent.name:
            stem = path.parent.name
        # Peft finds adapters by their names: a dot would part one, and `lora_` names its own parts.
        plain = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:40].strip("-") or "lora"
        if plain in "lora":
            plain = f"{plain}-1"
        number, name = 1, plain
        while name in found:
            number += 1
            name = f"{plain}-{number}"
        found.append(name)
    return tuple(found)


def read_uses(text: str) -> tuple[LoraUse, ...] | None:
    """Which LoRAs are on, as somebody typed it: `ink:0.5, oil` by names, 1 without a number; `none` for none
    of them, nothing for all as they were loaded (None). Raises BackboneError for another strength.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        return None
    if [part.lower() for part in parts] == [NONE]:
        return ()
    uses = []
    for part in parts:
        name, colon, last = part.partition(":")
        try:
            strength = float(last) if colon else 1.0
        except ValueError:
            strength = math.nan
        if not name.strip() or not math.isfinite(strength):
            raise BackboneError(f"LoRA {part[:60]!r}: expected NAME or NAME:STRENGTH with a finite number")
        uses.append((name.strip(), strength))
    return tuple(uses)


def write_uses(uses: Sequence[LoraUse] | None) -> str:
    """The inverse of `read_uses`."""
    if uses is None:
        return ""
    return ", ".join(f"{name}:{strength:g}" for name, strength in uses) or NONE


class Loras:
    """The LoRAs of one pipeline. All are on, each at its own strength, outside of `using`."""

    def __init__(self, pipeline: DiffusionPipeline, loaded: Sequence[LoadedLora] = ()) -> None:
        self._pipeline = pipeline
        self.loaded = tuple(loaded)
        self._now = self.default

    def __len__(self) -> int:
        return len(self.loaded)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.loaded)

    @property
    def default(self) -> tuple[LoraUse, ...]:
        """Those that are on unless a request says otherwise."""
        return tuple((each.name, each.strength) for each in self.loaded if each.strength != 0)

    def resolve(self, chosen: Sequence[LoraUse] | None) -> tuple[LoraUse, ...]:
        """Those that are on for a request, in order of loading; None is the default, and strength 0 is off.

        Raises RenderError for a LoRA that is not loaded, is named twice, or has no finite strength.
        """
        if chosen is None:
            return self.default
        wanted: dict[str, float] = {}
        for name, strength in chosen:
            if name not in self.names:
                there = ", ".join(self.names) or "none"
                raise RenderError(f"LoRA {name!r} is not loaded: expected one of {there}")
            if name in wanted:
                raise RenderError(f"LoRA {name!r} is named twice")
            is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
            if not is_number or not math.isfinite(strength):
                raise RenderError(f"LoRA {name}: expected a finite number as its strength, got {strength!r}")
            wanted[name] = float(strength)
        return tuple((name, wanted[name]) for name in self.names if wanted.get(name, 0) != 0)

    def reads_text(self, uses: Sequence[LoraUse]) -> tuple[LoraUse, ...]:
        """Those of them that change what a prompt is encoded to."""
        changing = {each.name for each in self.loaded if each.reads_text}
        return tuple(use for use in uses if use[0] in changing)

    def fingerprint(self, base: str, uses: Sequence[LoraUse]) -> str:
        """SHA-256 of a base with these on; `base` itself where none is. Names do not count."""
        if not uses:
            return base
        digests = {each.name: each.digest for each in self.loaded}
        parts = [[digests[name], strength] for name, strength in uses]
        return hashlib.sha256(json.dumps([base, parts]).encode()).hexdigest()

    def about(self, uses: Sequence[LoraUse]) -> list[dict[str, Any]]:
        """Of each that is on: what a record of a picture or a search keeps, as JSON values."""
        known = {each.name: each for each in self.loaded}
        return [
            {"name": name, "file": known[name].file, "strength": strength, "sha256": known[name].digest}
            for name, strength in uses
        ]

    def find(self, about: Sequence[Mapping[str, Any]]) -> tuple[tuple[LoraUse, ...] | None, list[str]]:
        """The inverse of `about`: what a request says for these, None where that is the default; and the
        files of those that are not loaded, which are known by their digests."""
        uses: list[LoraUse] = []
        lost: list[str] = []
        for each in about:
            known = next((one for one in self.loaded if one.digest == each.get("sha256")), None)
            strength = each.get("strength")
            if known is None or isinstance(strength, bool) or not isinstance(strength, int | float):
                lost.append(str(each.get("file") or each.get("name"))[:80])
            else:
                uses.append((known.name, float(strength)))
        return (None if tuple(uses) == self.default else tuple(uses)), lost

    @contextmanager
    def using(self, uses: tuple[LoraUse, ...]) -> Iterator[None]:
        """Inside, exactly these are on, as `resolve` gives them; with none, the pipeline is bit for bit the
        one that no LoRA was loaded into."""
        before = self._now
        self._switch(uses)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, uses: tuple[LoraUse, ...]) -> None:
        if not self.loaded or uses == self._now:
            return
        if uses:
            if not self._now:
                self._pipeline.enable_lora()
            self._pipeline.set_adapters([name for name, _ in uses], [strength for _, strength in uses])
        else:
            self._pipeline.disable_lora()
        self._now = uses
