"""Whether a folder with a pipeline is whole, without its weights: loading would find out minutes later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.sites import family_of
from calibri.errors import BackboneError
from calibri.files import read_object

INDEX = "model_index.json"
_WEIGHTS = (".safetensors", ".bin")
_SHARDED = ("diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json")
_WITHOUT_WEIGHTS = ("scheduler", "tokenizer", "feature_extractor", "image_processor", "processor")


def check_folder(spec: BackboneSpec) -> None:
    """Raises BackboneError where the pipeline in a local folder cannot be rendered with, or lacks a part."""
    folder = Path(spec.source)
    index = read_object(folder / INDEX, BackboneError)
    check_class(spec, index)
    for part, entry in index.items():
        if not is_part(entry) or part in spec.parts:
            continue
        if not (folder / part).is_dir():
            raise BackboneError(f"{spec.name} cannot be loaded: its folder {part} is not there")
        if not part.startswith(_WITHOUT_WEIGHTS):
            check_weights(folder / part, spec.name)


def check_class(spec: BackboneSpec, index: Mapping[str, Any]) -> None:
    """Raises BackboneError where the renderer cannot drive this pipeline's class or its transformer's."""
    name, entry = str(index.get("_class_name")), index.get("transformer")
    if not is_part(entry):
        raise BackboneError(f"{spec.name} is a {name} without a transformer to calibrate")
    assert isinstance(entry, list | tuple)
    known = family_of(str(entry[1])).PIPELINES
    if name not in known:
        wanted = " or ".join(known) or "pipeline class, which this family lacks in diffusers"
        raise BackboneError(f"{name} cannot be rendered with: expected a {wanted}")


def is_part(entry: object) -> bool:
    """Whether an entry of an index names a part that is there."""
    return isinstance(entry, list | tuple) and len(entry) == 2 and all(entry)


def check_weights(folder: Path, name: str) -> None:
    """Raises BackboneError where a part's weights, or one of their shards, are not there."""
    files = {path.name for path in folder.iterdir()}
    if not (folder / "config.json").is_file():
        raise BackboneError(f"{name} cannot be loaded: {folder.name} has no config.json")
    if not any(file.endswith(_WEIGHTS) for file in files):
        raise BackboneError(f"{name} cannot be loaded: {folder.name} has no weights ({', '.join(_WEIGHTS)})")
    for file in sorted(files & set(_SHARDED)):
        shards = read_object(folder / file, BackboneError).get("weight_map")
        wanted = set(shards.values()) if isinstance(shards, dict) else set()
        if missing := sorted(str(shard) for shard in wanted if shard not in files):
            raise BackboneError(f"{name} cannot be loaded: {folder.name} lacks {missing[0]}")
