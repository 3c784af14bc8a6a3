"""Named backbones and their defaults. Any folder or hub id whose transformer class is known works too."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibri.assets import ASSETS
from calibri.backbones.sites import Extra
from calibri.errors import BackboneError
from calibri.files import read_object
from calibri.words import hub_id_of

LONGEST_NAME = 1000  # characters of a name or a folder
DEFAULTS_FILE = "calibri.json"  # beside a local pipeline's model_index.json: its BackboneSpec fields


class BackboneSpec(BaseModel):
    """Where a backbone comes from and how it is used unless a request says otherwise.

    `source`: local folder or hub id. `steps`: sampling steps. `height`, `width`: pixels. `guidance`: the
    embedded guidance of a distilled model (FLUX.1-dev: 3.5), None where it has none. `cfg`: the
    classifier-free guidance its authors recommend, None for none. `max_sequence_length`: text tokens.
    `transformer`: class, and the part of its configuration that its sites depend on, where known without
    weights. `extras`: groups of further sites, `cross` or `refiners`, that its layouts have too. `parts`:
    parts that its repository is without, and the hub ids they come from. `licence`, `gated`: what its card
    says.
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
    extras: tuple[str, ...] = ()
    parts: dict[str, str] = Field(default_factory=dict)
    licence: str = ""
    gated: bool = False

    @property
    def is_local(self) -> bool:
        """Whether the source is a folder of this machine."""
        return Path(self.source).is_dir()


_NON_COMMERCIAL = {"licence": "FLUX non-commercial", "gated": True}
_STABILITY = {"licence": "Stability AI Community", "gated": True, "max_sequence_length": 256}
_APACHE = {"licence": "Apache-2.0"}
_LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"  # which HiDream's repositories are without


def _of(class_name: str, **config: Any) -> dict[str, Any]:
    """A transformer's class, and what its sites depend on."""
    return {"transformer": (f"{class_name}Transformer2DModel", config)}


def _flux(doubles: int = 19, singles: int = 38, kind: str = "Flux") -> dict[str, Any]:
    return _of(kind, num_layers=doubles, num_single_layers=singles)


def _sd3(blocks: int, dual: int = 0) -> dict[str, Any]:
    """dual: how many blocks, from the first on, have a second image attention."""
    return _of("SD3", num_layers=blocks, dual_attention_layers=list(range(dual)))


def _hidream() -> dict[str, Any]:
    parts = {"text_encoder_4": _LLAMA, "tokenizer_4": _LLAMA}
    layers = _of("HiDreamImage", num_layers=16, num_single_layers=32)
    return {**layers, "parts": parts, "licence": "MIT; its Llama 3.1 has Meta's", "gated": True}


def _zimage() -> dict[str, Any]:
    return {**_of("ZImage", n_layers=30, n_refiner_layers=2), **_APACHE}


def _sana(blocks: int) -> dict[str, Any]:
    return {**_of("Sana", num_layers=blocks), "licence": "NVIDIA NSCL v2", "max_sequence_length": 300}


def _pixart(tokens: int) -> dict[str, Any]:
    layers = _of("PixArt", num_layers=28)
    return {**layers, "licence": "CreativeML Open RAIL++-M", "max_sequence_length": tokens}


def _krea2(source: str) -> dict[str, Any]:
    layers = _of("Krea2", num_layers=28, num_refiner_text_blocks=2)
    return {"source": source, **layers, "licence": "Krea 2 Community", "gated": True}


# Defaults: the model cards on the hub. `cfg` is ours: of Z-Image and Krea 2 one more than their pipelines'.
_ENTRIES: dict[str, dict[str, Any]] = {
    "tabletop": {"source": str(ASSETS / "tabletop"), "steps": 8, "height": 128, "width": 128, **_flux(4, 8)},
    "FLUX.1-dev": {
        "source": "black-forest-labs/FLUX.1-dev",
        "guidance": 3.5,
        **_flux(),
        **_NON_COMMERCIAL,
    },
    "FLUX.1-schnell": {
        "source": "black-forest-labs/FLUX.1-schnell",
        "steps": 4,
        "max_sequence_length": 256,
        **_flux(),
        **_APACHE,
        "gated": True,
    },
    "SD3-medium": {
        "source": "stabilityai/stable-diffusion-3-medium-diffusers",
        "cfg": 7.0,
        **_sd3(24),
        **_STABILITY,
    },
    "SD3.5-medium": {
        "source": "stabilityai/stable-diffusion-3.5-medium",
        "steps": 40,
        "cfg": 4.5,
        **_sd3(24, dual=13),
        **_STABILITY,
    },
    "SD3.5-large": {
        "source": "stabilityai/stable-diffusion-3.5-large",
        "cfg": 3.5,
        **_sd3(38),
        **_STABILITY,
    },
    "Qwen-Image": {
        "source": "Qwen/Qwen-Image",
        "steps": 50,
        "cfg": 4.0,
        "height": 1328,
        "width": 1328,
        **_of("QwenImage", num_layers=60),
        **_APACHE,
    },
    "FLUX.2-dev": {
        "source": "black-forest-labs/FLUX.2-dev",
        "steps": 50,
        "guidance": 4.0,
        **_flux(8, 48, "Flux2"),
        **_NON_COMMERCIAL,
    },
    "FLUX.2-klein-4B": {
        "source": "black-forest-labs/FLUX.2-klein-4B",
        "steps": 4,
        **_flux(5, 20, "Flux2"),
        **_APACHE,
    },
    "FLUX.2-klein-base-4B": {
        "source": "black-forest-labs/FLUX.2-klein-base-4B",
        "steps": 50,
        "cfg": 4.0,
        **_flux(5, 20, "Flux2"),
        **_APACHE,
    },
    "FLUX.2-klein-9B": {
        "source": "black-forest-labs/FLUX.2-klein-9B",
        "steps": 4,
        **_flux(8, 24, "Flux2"),
        **_NON_COMMERCIAL,
    },
    "FLUX.2-klein-base-9B": {
        "source": "black-forest-labs/FLUX.2-klein-base-9B",
        "steps": 50,
        "cfg": 4.0,
        **_flux(8, 24, "Flux2"),
        **_NON_COMMERCIAL,
    },
    "Z-Image-Turbo": {"source": "Tongyi-MAI/Z-Image-Turbo", "steps": 9, **_zimage()},
    "Z-Image": {"source": "Tongyi-MAI/Z-Image", "steps": 50, "cfg": 5.0, **_zimage()},
    "Qwen-Image-2.1": {
        "source": "Qwen/Qwen-Image-2.1",
        "steps": 40,
        **_of("QwenImage21", num_layers=32),
        "licence": "Qwen Research",
    },
    "Chroma1-HD": {
        "source": "lodestones/Chroma1-HD",
        "steps": 40,
        "cfg": 3.0,
        **_flux(kind="Chroma"),
        **_APACHE,
    },
    "Sana-1.6B": {
        "source": "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",
        "steps": 20,
        "cfg": 4.5,
        **_sana(20),
    },
    "Sana-1.5-4.8B": {
        "source": "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers",
        "steps": 20,
        "cfg": 4.5,
        **_sana(60),
    },
    "Lumina-Image-2.0": {
        "source": "Alpha-VLLM/Lumina-Image-2.0",
        "steps": 50,
        "cfg": 4.0,
        "max_sequence_length": 256,
        **_of("Lumina2", num_layers=26, num_refiner_layers=2),
        **_APACHE,
    },
    "AuraFlow-v0.3": {
        "source": "fal/AuraFlow-v0.3",
        "steps": 50,
        "cfg": 3.5,
        "max_sequence_length": 256,
        **_of("AuraFlow", num_mmdit_layers=4, num_single_dit_layers=32),
        **_APACHE,
    },
    "PixArt-alpha": {
        "source": "PixArt-alpha/PixArt-XL-2-1024-MS",
        "steps": 20,
        "cfg": 4.5,
        **_pixart(120),
    },
    "PixArt-Sigma": {
        "source": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "steps": 20,
        "cfg": 4.5,
        **_pixart(300),
    },
    "CogView4": {
        "source": "zai-org/CogView4-6B",
        "steps": 50,
        "cfg": 3.5,
        "max_sequence_length": 1024,
        **_of("CogView4", num_layers=28),
        **_APACHE,
    },
    "HiDream-I1-Full": {"source": "HiDream-ai/HiDream-I1-Full", "steps": 50, "cfg": 5.0, **_hidream()},
    "HiDream-I1-Dev": {"source": "HiDream-ai/HiDream-I1-Dev", **_hidream()},
    "HiDream-I1-Fast": {"source": "HiDream-ai/HiDream-I1-Fast", "steps": 16, **_hidream()},
    "Krea-2-Turbo": {"steps": 8, **_krea2("krea/Krea-2-Turbo")},
    "Krea-2-Raw": {"steps": 28, "cfg": 5.5, **_krea2("krea/Krea-2-Raw")},
    "Ideogram-4": {
        "source": "ideogram-ai/ideogram-4-nf4-diffusers",
        "steps": 48,
        "cfg": 7.0,
        "height": 2048,
        "width": 2048,
        "max_sequence_length": 2048,
        **_of("Ideogram4", num_layers=34),
        "licence": "Ideogram's own",
        "gated": True,
    },
}
CATALOG: dict[str, BackboneSpec] = {
    name: BackboneSpec(name=name, **entry) for name, entry in _ENTRIES.items()
}


def known_backbones() -> tuple[str, ...]:
    """Names in the catalog, the embedded backbone first."""
    return tuple(CATALOG)


def resolve(name_or_path: str | Path) -> BackboneSpec:
    """A catalog name (in any case), a folder with a diffusers pipeline, or a hub id `owner/name`.

    Behind it, `+cross` or `+refiners` asks for further sites. Raises BackboneError with what there is.
    Nothing is downloaded.
    """
    text = str(name_or_path).strip()
    if len(text) > LONGEST_NAME or "\0" in text:
        raise BackboneError(f"expected a name of at most {LONGEST_NAME} characters, got {len(text)}")
    plain, *extras = text.split("+")
    if extras and set(extras) <= set(get_args(Extra)) and not Path(text).expanduser().is_dir():
        spec = resolve(plain)
        return spec.model_copy(
            update={"name": "+".join([spec.name, *extras]), "extras": tuple(dict.fromkeys(extras))}
        )
    for spec in CATALOG.values():
        if text.lower() in (spec.name.lower(), spec.source.lower()):
            return spec
    folder = Path(text).expanduser()
    if os.path.isdir(folder):  # Path.is_dir fails where a part of the name is too long
        for spec in CATALOG.values():
            if spec.is_local and folder.resolve() == Path(spec.source).resolve():
                return spec
        return _local(folder.resolve())
    if os.path.isfile(folder):
        raise BackboneError(
            f"{folder.name} is a single file: expected a name, a hub id owner/name, or a folder with a whole "
            "diffusers pipeline (its model_index.json, transformer, text encoders and VAE)"
        )
    if text.count("/") == 1 and not text.startswith((".", "/", "~")) and " " not in text:
        return BackboneSpec(name=text.split("/")[1] or text, source=text)
    close = difflib.get_close_matches(text, CATALOG, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise BackboneError(
        f"no backbone {text!r}: expected {', '.join(CATALOG)}, a folder with a diffusers pipeline, "
        f"or a hub id owner/name{hint}"
    )


def backbone_name(source: str) -> str:
    """What the backbone of this source is called in configs and calibrations: a snapshot in the hub's cache
    as its hub id is. No look at the disk."""
    hub_id = hub_id_of(source)
    known = next((spec.name for spec in CATALOG.values() if spec.source == hub_id), "")
    return known or Path(hub_id or source).name


def is_catalogs(spec: BackboneSpec) -> bool:
    """Whether it is the catalogue's own model of its name, and not another owner's."""
    known = CATALOG.get(spec.name.partition("+")[0])
    return known is not None and known.source == spec.source


def _local(folder: Path) -> BackboneSpec:
    if not (folder / "model_index.json").is_file():
        raise BackboneError(f"{folder} holds no diffusers pipeline: expected a model_index.json there")
    values: dict[str, Any] = {"name": backbone_name(str(folder))}
    if (known := CATALOG.get(values["name"])) is not None and known.source == hub_id_of(str(folder)):
        values = known.model_dump()
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
