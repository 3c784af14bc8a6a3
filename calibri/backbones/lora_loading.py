"""LoRA files as named adapters of a pipeline.

Diffusers reads them: its own and peft's names, and those of kohya, XLabs and others where the loader of the
family converts them. What it would leave out or change in silence is refused here.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.backbones.lora import WEIGHTS, LoadedLora, Loras, LoraSource, names_of, parse_lora
from calibri.backbones.sites import unwrapped
from calibri.errors import BackboneError
from calibri.files import read_tensor_header

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)

_PARTS = ("lora", "lokr")  # one of which stands in the name of every tensor that is a part of a LoRA
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LOADING_FAILS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,  # of diffusers' converters, for layers of another width
)


def load_loras(pipeline: DiffusionPipeline, texts: Sequence[str]) -> Loras:
    """Loads each FILE[:STRENGTH] as a named adapter, all on.

    Raises BackboneError in a sentence for what is no LoRA, is one of another family, or changes something
    that cannot be switched off again.
    """
    sources = [parse_lora(text) for text in texts]
    if not sources:
        return Loras(pipeline)
    if not hasattr(pipeline, "load_lora_weights"):
        raise BackboneError(
            f"{type(pipeline).__name__} takes no LoRA: diffusers has no loader for its family"
        )
    try:
        import peft  # noqa: F401  # diffusers' loader needs it, and says so in other words
    except ImportError as error:
        raise BackboneError("a LoRA needs the package peft: pip install peft") from error
    loaded = [_load(pipeline, source, name) for source, name in zip(sources, names_of(sources), strict=True)]
    made = Loras(pipeline, loaded)
    pipeline.set_adapters(list(made.names), [each.strength for each in loaded])
    if not made.default:
        pipeline.disable_lora()
    return made


def _load(pipeline: DiffusionPipeline, source: LoraSource, name: str) -> LoadedLora:
    path = locate_lora(source.source)
    tensors = read_header(path)
    if not any(part in key for key in tensors for part in _PARTS):
        raise BackboneError(
            f"{path.name} is no LoRA: expected tensors of one, got {next(iter(tensors), 'none')!r}"
        )
    if any("norm_q" in key or "query_norm" in key for key in tensors):
        raise BackboneError(
            f"{path.name} replaces norms of the model, as control LoRAs do: expected one that only adds"
        )
    widths = dict(pipeline.transformer.config)
    try:
        with warnings.catch_warnings(), _hushed():
            # Of a second LoRA peft says that it is one.
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            pipeline.load_lora_weights(
                str(path.parent),
                weight_name=path.name,
                adapter_name=name,
                use_safetensors=True,
                local_files_only=True,
            )
    except _LOADING_FAILS as error:
        model = type(unwrapped(pipeline.transformer)).__name__
        if "not found in the base model" in str(error):
            raise BackboneError(
                f"the LoRA {path.name} is one of another model: none of its layers is in this {model}"
            ) from error
        raise BackboneError(f"the LoRA {path.name} does not fit this {model}: {_first(error)}") from error
    if dict(pipeline.transformer.config) != widths:
        raise BackboneError(f"{path.name} widens the model, as control LoRAs do: expected one that only adds")
    carriers = [
        part
        for part in pipeline._lora_loadable_modules
        if name in (getattr(getattr(pipeline, part, None), "peft_config", None) or {})
    ]
    if "transformer" not in carriers:
        got = "one of a text encoder alone" if carriers else "none of whose tensors fits"
        raise BackboneError(
            f"the LoRA {path.name}: expected one of {type(pipeline.transformer).__name__}, got {got}"
        )
    _check_layers(pipeline, path, name)
    return LoadedLora(name, path.name, source.strength, _digest(path), carriers != ["transformer"])


def _check_layers(pipeline: DiffusionPipeline, path: Path, name: str) -> None:
    """Diffusers leaves out what a model has no layer for: a file for a deeper model would pass in silence.

    Raises BackboneError where the file changes blocks that this model is without; other layers are logged.
    """
    state = pipeline.lora_state_dict(str(path.parent), weight_name=path.name, use_safetensors=True)
    state = state[0] if isinstance(state, tuple) else state
    given = {
        key.removeprefix("transformer.").split(".lora")[0]
        for key in state
        if key.startswith("transformer.") and ".lora" in key
    }
    inner = unwrapped(pipeline.transformer)
    there = {path for path, module in inner.named_modules() if name in getattr(module, "scaling", {})}
    lost = sorted(given - there)
    blocks = {".".join(path.split(".")[:2]) for path, _ in inner.named_modules()}
    stacks = {block.split(".")[0] for block in blocks if block.split(".")[-1].isdigit()}
    deeper = [
        each for each in lost if each.split(".")[0] in stacks and ".".join(each.split(".")[:2]) not in blocks
    ]
    if deeper:
        raise BackboneError(
            f"the LoRA {path.name} is one of another model: expected layers of this "
            f"{type(inner).__name__}, got {deeper[0]!r}"
        )
    if lost:
        log.warning(
            "LoRA %s: %d of its %d layers are not in this model, such as %s",
            name,
            len(lost),
            len(given),
            lost[0],
        )


@contextmanager
def _hushed() -> Iterator[None]:
    """Diffusers logs what it raises, and what of a file is not for a part: `_load` says it once."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first(error: Exception) -> str:
    """What went wrong, in a line: of shapes that do not fit, the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    shapes = next((line for line in lines if line.startswith("size mismatch")), None)
    return (shapes or (lines[0] if lines else type(error).__name__))[:300]


def read_header(path: Path) -> list[str]:
    """The names of the tensors in a safetensors file. Raises BackboneError for another file."""
    try:
        return list(read_tensor_header(path))
    except OSError as error:
        raise BackboneError(f"the LoRA {path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BackboneError(
            f"{path.name} is no LoRA: expected a safetensors file ({_first(error)})"
        ) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate_lora(source: str) -> Path:
    """The file of a LoRA: `source` itself, the one in a folder, or one of a repository of the hub, which is
    downloaded where it is not in the cache. Raises BackboneError."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / _choose([each.name for each in sorted(path.glob("*.safetensors"))], path.name)
    plain = source.replace("\\", "/")
    repository, inside = "/".join(plain.split("/")[:2]), "/".join(plain.split("/")[2:])
    is_file = plain.endswith(".safetensors") and not inside
    if is_file or not _HUB_ID.fullmatch(repository) or plain.startswith(("/", ".", "~")):
        raise BackboneError(
            f"there is no LoRA {path.name!r}: expected a file, a folder, or OWNER/NAME of the hub"
        )
    return _download(repository, inside)


def _choose(files: Sequence[str], where: str) -> str:
    """The LoRA among a folder's files. Raises BackboneError where there is none, or no telling which."""
    if WEIGHTS in files:
        return WEIGHTS
    if len(files) != 1:
        shown = ", ".join(files[:5]) or "none"
        raise BackboneError(f"{where}: expected one .safetensors file of a LoRA, got {shown}; name the file")
    return files[0]


def _download(repository: str, inside: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if not inside:
            files = [name for name in HfApi().list_repo_files(repository) if "/" not in name]
            inside = _choose([name for name in files if name.endswith(".safetensors")], repository)
        return Path(hf_hub_download(repository, inside))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise BackboneError(f"the LoRA {repository} cannot be downloaded: {_first(error)}") from error
