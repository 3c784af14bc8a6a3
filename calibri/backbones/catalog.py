"""Named backbones and their defaults. Any folder or hub id whose transformer class is known works too."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibri.assets import ASSETS
from calibri.errors import BackboneError
from calibri.files import read_object

DEFAULTS_FILE = "calibri.json"  # beside a local pipeline's model_index.json: its BackboneSpec fields


class BackboneSpec(BaseModel):
    """Where a backbone comes from and how it is used unless a request says otherwise.

    `source`: local folder or hub id. `steps`: sampling steps. `height`, `width`: pixels. `guidance`: the
    embedded guidance of a distilled model (FLUX.1-dev: 3.5), None where it has none. `cfg`: the
    classifier-free guidance its authors recommend, None for none. `max_sequence_length`: text tokens.
    `transformer`: class, and the part of its configuration that its sites depend on, where known without
    weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    revision: str | None = None
    steps: int = Field(default=28, ge=1, le=1000)
    height: int = Field(default=1024, ge=8)
    width: int = Field(default=1024, ge=8)
    guidance: float | None = None
    cfg: float | None = None
    max_sequence_length: int = Field(default=512, ge=1)
    transformer: tuple[str, dict[str, Any]] | None = None

    @property
    def is_local(self) -> bool:
        """Whether the source is a folder of this machine."""
        return Path(self.source).is_dir()


def _flux(
    name: str, source: str, steps: int, blocks: tuple[int, int] = (19, 38), **more: Any
) -> BackboneSpec:
    """blocks: double and single ones."""
    config = {"num_layers": blocks[0], "num_single_layers": blocks[1]}
    return BackboneSpec(
        name=name, source=source, steps=steps, transformer=("FluxTransformer2DModel", config), **more
    )


def _sd3(name: str, source: str, steps: int, cfg: float, blocks: int, dual: int = 0) -> BackboneSpec:
    """dual: how many blocks, from the first on, have a second image attention."""
    config = {"num_layers": blocks, "dual_attention_layers": list(range(dual))}
    transformer = "SD3Transformer2DModel", config
    return BackboneSpec(
        name=name, source=source, steps=steps, cfg=cfg, max_sequence_length=256, transformer=transformer
    )


def _qwen(name: str, source: str, steps: int, cfg: float, side: int, blocks: int) -> BackboneSpec:
    transformer = "QwenImageTransformer2DModel", {"num_layers": blocks}
    return BackboneSpec(
        name=name, source=source, steps=steps, cfg=cfg, height=side, width=side, transformer=transformer
    )


# Defaults: the model cards on the hub.
CATALOG: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        _flux("tabletop", str(ASSETS / "tabletop"), 8, (4, 8), height=128, width=128),
        _flux("FLUX.1-dev", "black-forest-labs/FLUX.1-dev", 28, guidance=3.5),
        _flux("FLUX.1-schnell", "black-forest-labs/FLUX.1-schnell", 4, max_sequence_length=256),
        _sd3("SD3-medium", "stabilityai/stable-diffusion-3-medium-diffusers", 28, cfg=7.0, blocks=24),
        _sd3("SD3.5-medium", "stabilityai/stable-diffusion-3.5-medium", 40, cfg=4.5, blocks=24, dual=13),
        _sd3("SD3.5-large", "stabilityai/stable-diffusion-3.5-large", 28, cfg=3.5, blocks=38),
        _qwen("Qwen-Image", "Qwen/Qwen-Image", 50, cfg=4.0, side=1328, blocks=60),
    )
}


def known_backbones() -> tuple[str, ...]:
    """Names in the catalog, the embedded backbone first."""
    return tuple(CATALOG)


def resolve(name_or_path: str | Path) -> BackboneSpec:
    """A catalog name (in any case), a folder with a diffusers pipeline, or a hub id `owner/name`.

    Raises BackboneError with what there is. Nothing is downloaded.
    """
    text = str(name_or_path).strip()
    for spec in CATALOG.values():
        if text.lower() in (spec.name.lower(), spec.source.lower()):
            return spec
    folder = Path(text).expanduser()
    if folder.is_dir():
        for spec in CATALOG.values():
            if spec.is_local and folder.resolve() == Path(spec.source).resolve():
                return spec
        return _local(folder.resolve())
    if text.count("/") == 1 and not text.startswith((".", "/", "~")) and " " not in text:
        return BackboneSpec(name=text.split("/")[1] or text, source=text)
    close = difflib.get_close_matches(text, CATALOG, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise BackboneError(
        f"no backbone {text!r}: expected {', '.join(CATALOG)}, a folder with a diffusers pipeline, "
        f"or a hub id owner/name{hint}"
    )


def _local(folder: Path) -> BackboneSpec:
    if not (folder / "model_index.json").is_file():
        raise BackboneError(f"{folder} holds no diffusers pipeline: expected a model_index.json there")
    values: dict[str, Any] = {"name": folder.name}
    defaults = folder / DEFAULTS_FILE
    if defaults.is_file():
        values |= read_object(defaults, BackboneError)
    config = folder / "transformer" / "config.json"
    if config.is_file():
        content = read_object(config, BackboneError)
        values["transformer"] = (str(content.get("_class_name", "")), content)
    try:
        return BackboneSpec(**(values | {"source": str(folder)}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BackboneError(f"{defaults}: {where}: {first['msg']}") from error
