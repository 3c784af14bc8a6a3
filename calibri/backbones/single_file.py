"""The transformer's weights from one file, GGUF or safetensors, in the place of a pipeline's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.backbones.quantisations import is_installed
from calibri.errors import BackboneError, first_line

if TYPE_CHECKING:
    import torch

    from calibri.backbones.catalog import BackboneSpec

ENDINGS = (".gguf", ".safetensors")
_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+/.+")


def check_file(text: str) -> None:
    """Raises BackboneError for what cannot be such a file."""
    if not text.lower().endswith(ENDINGS):
        raise BackboneError(
            f"transformer {Path(text).name!r}: expected a file that ends in {' or '.join(ENDINGS)}, or "
            "owner/name/file of the hub"
        )


def is_gguf(text: str) -> bool:
    """Whether a file's weights are GGUF's."""
    return text.lower().endswith(".gguf")


def find_file(text: str) -> Path:
    """The file on this machine; `owner/name/file` is fetched from the hub. Raises BackboneError."""
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if not _ON_HUB.fullmatch(text) or text.startswith("."):
        raise BackboneError(f"transformer: expected a file, got {text}, which is not there")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    owner, name, file = text.split("/", 2)
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise BackboneError(f"transformer: {text} cannot be downloaded: {first_line(error)}") from error


def load_transformer(text: str, class_name: str, spec: BackboneSpec, kind: torch.dtype) -> Any:
    """A transformer with the weights of one file, and the configuration of the backbone.

    Raises BackboneError, and what diffusers raises for a file that it cannot read.
    """
    import diffusers

    path = find_file(text)
    options: dict[str, Any] = {"torch_dtype": kind}
    if is_gguf(text):
        if not is_installed("gguf"):
            raise BackboneError("a GGUF file needs gguf: pip install gguf")
        options["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=kind)
    made = getattr(diffusers, class_name)
    if not hasattr(made, "from_single_file"):
        raise BackboneError(f"transformer: {class_name} takes no single file")
    try:
        return made.from_single_file(
            str(path),
            config=spec.source,
            subfolder="transformer",
            config_revision=spec.revision,
            local_files_only=spec.is_local,
            **options,
        )
    except (IndexError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        # Names that it looked for in vain; the last one is of weights that stayed empty.
        raise BackboneError(
            f"transformer: {path.name} does not hold all weights of a {class_name} ({type(error).__name__})"
        ) from error
