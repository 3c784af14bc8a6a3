"""A calibrated pipeline as a folder that plain diffusers loads, without this library.

All parts but the transformer are copied as they are. Files of its weights stay what they were (shards, names,
dtypes): only the rows that a calibration scales are other numbers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.calibration.fold import fold_calibration
from calibri.calibration.lora_file import fuse_loras
from calibri.errors import ArtifactError, BackboneError, first_line
from calibri.files import read_tensor_header, write_whole
from calibri.words import data_size

if TYPE_CHECKING:
    import torch

    from calibri.backbones.catalog import BackboneSpec
    from calibri.backbones.loading import Backbone
    from calibri.backbones.options import LoadOptions
    from calibri.calibration.artifact import Calibration

LARGEST_SIDE = 256  # px of the picture that is predicted once
NOTE = "calibration.json"  # beside model_index.json: what was folded
Tell = Callable[[str], None]
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def _keep_quiet(what: str) -> None:
    """Nobody asked how far the work is."""


def stored_dtype(folder: Path) -> str:
    """The dtype in which a pipeline's transformer is stored, from the header of its first file of weights:
    float32, bfloat16 or float16. Raises BackboneError for others, which cannot be folded exactly."""
    path = _weight_files(folder)[0]
    try:
        kinds = {entry["dtype"] for entry in read_tensor_header(path).values()}
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path.name} cannot be read: {first_line(error)}") from error
    found = kinds & set(_DTYPES)
    if not found or kinds - set(_DTYPES):
        raise BackboneError(f"expected weights as {', '.join(_DTYPES)}, got {', '.join(sorted(kinds))}")
    return next(_DTYPES[kind] for kind in ("BF16", "F16", "F32") if kind in found)


def find_source(spec: BackboneSpec) -> Path:
    """The folder with the pipeline's files; a hub id is downloaded where it is not in the cache. Raises
    BackboneError."""
    if spec.is_local:
        return Path(spec.source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(spec.source, revision=spec.revision))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise BackboneError(f"{spec.source} cannot be downloaded: {first_line(error)}") from error


def fold_backbone(
    name: str | Path,
    calibration: Calibration,
    out: Path,
    options: LoadOptions | None = None,
    tell: Tell = _keep_quiet,
) -> float:
    """As `fold_to_folder`, for a backbone by its name, folder or hub id, which is loaded for it, without
    quantisation and offload. Raises BackboneError, too, and what loading raises."""
    from calibri.backbones.catalog import resolve
    from calibri.backbones.loading import load_backbone
    from calibri.backbones.options import LoadOptions

    tell("finding its files")
    source = find_source(resolve(name))
    tell("loading a copy of the model")
    backbone = load_backbone(name, options=options or LoadOptions(device="cpu"), dtype=stored_dtype(source))
    return fold_to_folder(backbone, calibration, source, out, tell)


def fold_to_folder(
    backbone: Backbone, calibration: Calibration, source: Path, out: Path, tell: Tell = _keep_quiet
) -> float:
    """Fold a calibration into a loaded backbone, for good, and write the pipeline as a folder. LoRAs of the
    backbone are fused into the weights first.

    `backbone`: loaded from `source`, a folder in the hub's format, in the dtype of its weights. Returns the
    largest difference between one prediction with hooks and the same one folded, as a share of the largest
    value: the rounding of the weights. Raises ArtifactError where the calibration cannot be folded, where
    `out` exists, where the disk has no room for it, or where the folded model does not predict the same.
    `tell(what)`: called before each part of the work, in a few words; what it raises ends it, and nothing is
    left behind.
    """
    if out.exists():
        raise ArtifactError(f"{out.name} exists: expected a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_room(source, out.parent)
    tell("predicting once with hooks")
    with_hooks = _predict(backbone, calibration)
    if len(backbone.loras):
        fuse_loras(backbone, calibration)
        calibration = calibration.without_loras()
    fold_calibration(backbone, calibration)
    tell("predicting once with folded weights")
    folded = _predict(backbone, None)
    top = max(float(with_hooks.abs().max()), 1e-12)
    difference = float((with_hooks - folded).abs().max()) / top
    limit = 1e-4 if str(backbone.dtype) == "torch.float32" else 5e-2  # one rounding of each weight
    if not difference <= limit:
        raise ArtifactError(f"the folded model differs by {difference:.2g} of its largest value: not written")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        tell("copying the other parts")
        shutil.copytree(source, part, ignore=_leave_weights(source), symlinks=False)
        _write_weights(backbone.transformer, source, part, tell)
        write_whole(part / NOTE, calibration.to_json())
        part.rename(out)
    except OSError as error:
        raise ArtifactError(f"{out.name} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return difference


def _predict(backbone: Backbone, calibration: Calibration | None) -> torch.Tensor:
    """The transformer's first prediction on a fixed noise and prompt, float32 on the CPU."""
    from calibri.sampling.renderer import Renderer
    from calibri.sampling.request import RenderRequest

    seen: list[torch.Tensor] = []

    def keep(module: Any, arguments: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output.sample
        seen.append((tensor[0] if isinstance(tensor, list) else tensor).detach().float().cpu())

    spec = backbone.spec
    size = {"height": min(spec.height, LARGEST_SIDE), "width": min(spec.width, LARGEST_SIDE)}
    request = RenderRequest.of("a red cube", 0, 1, calibration=calibration, **size)
    handle = backbone.transformer.register_forward_hook(keep)
    try:
        Renderer(backbone, batch_size=1).render([request])
    finally:
        handle.remove()
    return seen[0]


def _weight_files(folder: Path) -> list[Path]:
    """Files with the transformer's weights. Raises BackboneError for none."""
    files = sorted((folder / "transformer").glob("*.safetensors"))
    if not files:
        raise BackboneError(f"{folder.name}: expected weights as safetensors in its folder transformer")
    return files


def _leave_weights(source: Path) -> Any:
    weights = {path.name for path in _weight_files(source)}

    def ignore(folder: str, names: list[str]) -> set[str]:
        hidden = {name for name in names if name in (".git", ".cache", ".gitattributes")}
        return hidden | (weights & set(names) if Path(folder) == source / "transformer" else set())

    return ignore


def _check_room(source: Path, where: Path) -> None:
    """Raises ArtifactError where the disk has no room for a copy of the pipeline."""
    needed = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    free = shutil.disk_usage(where).free
    if needed > free:
        raise ArtifactError(
            f"the folder needs {data_size(needed)}, and {data_size(free)} of the disk are free"
        )


def _write_weights(transformer: torch.nn.Module, source: Path, out: Path, tell: Tell) -> None:
    """The same files with the folded numbers."""
    from safetensors.torch import save_file

    state, files = transformer.state_dict(), _weight_files(source)
    for number, path in enumerate(files, 1):
        tell(f"writing weights, file {number} of {len(files)}")
        tensors = {}
        metadata: dict[str, str] = {}
        for name, tensor, about in _read(path):
            metadata = about
            new = state.get(name)
            if new is None or new.shape != tensor.shape:
                raise ArtifactError(f"{path.name}: {name} is not in the loaded model: its names were changed")
            tensors[name] = new.detach().to("cpu", tensor.dtype).contiguous()
        save_file(tensors, out / "transformer" / path.name, metadata=metadata or {"format": "pt"})


def _read(path: Path) -> Iterator[tuple[str, torch.Tensor, dict[str, str]]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # no mapping
            yield name, file.get_tensor(name), file.metadata() or {}
