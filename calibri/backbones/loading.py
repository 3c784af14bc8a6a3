"""Loading a backbone: device, dtype, offload, quantisation, LoRA."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from calibri.backbones.catalog import BackboneSpec, resolve
from calibri.backbones.layouts import Granularity, Layout
from calibri.backbones.sites import Site, family_of, sites_of, unwrapped
from calibri.errors import BackboneError
from calibri.memory import is_out_of_memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin

    from calibri.backbones.adapter import Adapter

Offload = Literal["model", "sequential", "group"]
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "mixed": torch.float32,  # weights and latents; matrix products in bfloat16
}
QUANTISATIONS = ("8bit", "4bit")
_WHOLE = 64 * 2**20  # parameters up to which a fingerprint reads every value
_SAMPLE = 64
# Where a part was loaded from and by which version; the dtype is read from the weights.
_PAINTS_NOTHING = ("architectures", "dtype", "torch_dtype", "transformers_version", "name_or_path")


class Backbone:
    """A loaded pipeline with its sites. One copy of the weights serves base, calibrated and all members."""

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        spec: BackboneSpec,
        *,
        offload: Offload | None = None,
        mixed: bool = False,
    ) -> None:
        """`pipeline`: a diffusers pipeline on its device. `mixed`: render under bfloat16 autocast. Raises
        BackboneError if its family is not known.
        """
        self.pipeline = pipeline
        self.spec = spec
        self.offload = offload
        self.mixed = mixed
        self.sites: tuple[Site, ...] = sites_of(self.transformer)
        self._layouts: dict[str, Layout] = {}
        family = family_of(type(unwrapped(self.transformer)).__name__)
        if type(pipeline).__name__ != family.PIPELINE:
            raise BackboneError(
                f"{type(pipeline).__name__} cannot be rendered with: expected a {family.PIPELINE}"
            )
        self.adapter: Adapter = family.adapter(pipeline, spec)

    @property
    def transformer(self) -> ModelMixin:
        """The calibrated module of the pipeline."""
        found = getattr(self.pipeline, "transformer", None)
        if found is None:
            raise BackboneError(f"{type(self.pipeline).__name__} has no transformer to calibrate")
        return found

    @property
    def device(self) -> torch.device:
        """Where the transformer runs; with offload, where it is brought to run."""
        return self.pipeline._execution_device

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's activations."""
        return unwrapped(self.transformer).dtype

    def layout(self, granularity: Granularity) -> Layout:
        """The layout at this granularity. Raises LayoutError for an unknown one."""
        if granularity not in self._layouts:
            self._layouts[granularity] = Layout.from_sites(self.sites, granularity)
        return self._layouts[granularity]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over configurations and weights of all parts: every value of a part with up to 64 million
        parameters, else 64 values spread over each tensor. Two backbones that paint alike share it.
        """
        digest = hashlib.sha256(b"mixed" if self.mixed else b"")
        for name, part in sorted(self.pipeline.components.items()):
            if part is None:
                continue
            config = getattr(part, "config", None)
            if config is not None:
                digest.update(f"{name} {type(part).__name__} {_stable(config)}".encode())
            if isinstance(part, torch.nn.Module):
                _read_weights(unwrapped(part), digest)
        return digest.hexdigest()


def _stable(config: Any) -> str:
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    kept = {k: v for k, v in values.items() if not k.startswith("_") and k not in _PAINTS_NOTHING}
    return json.dumps(kept, sort_keys=True, default=str)


def _read_weights(module: torch.nn.Module, digest: Any) -> None:
    state = module.state_dict()
    whole = sum(t.numel() for t in state.values() if isinstance(t, torch.Tensor)) <= _WHOLE
    for key in sorted(state):
        tensor = state[key]
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.device.type == "meta":
            continue
        flat = tensor.detach().reshape(-1)
        if not whole and len(flat) > _SAMPLE:
            at = torch.linspace(0, len(flat) - 1, _SAMPLE, dtype=torch.float64).long()
            flat = flat[at.to(flat.device)]
        digest.update(flat.contiguous().cpu().view(torch.uint8).numpy().tobytes())


def load_backbone(
    name_or_path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offload: Offload | None = None,
    quantisation: str | None = None,
    lora: str | Path | None = None,
    compile: bool = False,
) -> Backbone:
    """Load a pipeline by catalog name, folder or hub id.

    `device`: auto (CUDA, then MPS, then CPU) or a torch device. `dtype`: auto (bfloat16 on CUDA, else
    float32), float32, bfloat16, float16, or mixed: float32 with matrix products in bfloat16, the same noise
    as float32. `offload`: model, sequential or group (CUDA only). `quantisation`:
    8bit or 4bit of the transformer, by bitsandbytes (CUDA only). `lora`: a LoRA file, folder or hub id.
    `compile`: compile the transformer's repeated blocks when they first run: a minute at most, then
    1.3 times as fast on a CPU.

    Raises BackboneError that says what was expected. Only a hub id makes it use the network.
    """
    spec = resolve(name_or_path)
    where, kind = _device(device), _dtype(dtype, device)
    _check_options(where, offload, quantisation)
    if spec.name == "tabletop" and not spec.is_local:
        raise BackboneError(f"the embedded backbone is not there: expected it in {spec.source}")
    with _quiet():
        pipeline = _from_pretrained(spec, kind, quantisation)
        if lora is not None:
            _add_lora(pipeline, str(lora))
    backbone = Backbone(pipeline, spec, offload=offload, mixed=dtype == "mixed")
    _ = backbone.fingerprint  # offload may take the weights out of sight
    _place(pipeline, where, offload)
    if compile:
        _compile(backbone)
    return backbone


def _device(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise BackboneError(f"device {device!r}: expected auto, cpu, cuda, cuda:1 or mps") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise BackboneError(f"device {device!r}: this machine has no CUDA device that torch can use")
    return found


def _dtype(dtype: str, device: str) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if _device(device).type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise BackboneError(f"dtype {dtype!r}: expected auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _check_options(where: torch.device, offload: str | None, quantisation: str | None) -> None:
    if offload not in (None, "model", "sequential", "group"):
        raise BackboneError(f"offload {offload!r}: expected model, sequential or group")
    if quantisation is not None and quantisation not in QUANTISATIONS:
        raise BackboneError(f"quantisation {quantisation!r}: expected {' or '.join(QUANTISATIONS)}")
    if where.type != "cuda" and (offload or quantisation):
        raise BackboneError(f"{'offload' if offload else 'quantisation'} needs a CUDA device, not {where}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and advice of diffusers and transformers while loading; errors still come through."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():  # torch_dtype is renamed dtype, which diffusers 0.38 does not know
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def _from_pretrained(spec: BackboneSpec, kind: torch.dtype, quantisation: str | None) -> DiffusionPipeline:
    from diffusers import DiffusionPipeline

    options: dict[str, Any] = {"torch_dtype": kind, "revision": spec.revision}
    options["local_files_only"] = spec.is_local
    try:
        index = DiffusionPipeline.load_config(spec.source, local_files_only=spec.is_local)
        family_of(_transformer_class(index, spec))
        options |= {part: None for part in _absent_parts(index)}
        if quantisation is not None:
            options["quantization_config"] = _quantisation(quantisation, kind)
        pipeline = DiffusionPipeline.from_pretrained(spec.source, **options)
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if is_out_of_memory(error):
            first = "it does not fit into memory. Choose a smaller one, or bfloat16"
        raise BackboneError(f"{spec.source} cannot be loaded: {first}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _absent_parts(index: dict[str, Any]) -> list[str]:
    """Parts that the pipeline was saved without, as Stable Diffusion 3 often is without its T5. Diffusers
    takes a folder as whole only where the caller says that they are None."""
    return [part for part, entry in index.items() if isinstance(entry, list | tuple) and not any(entry)]


def _transformer_class(index: dict[str, Any], spec: BackboneSpec) -> str:
    entry = index.get("transformer")
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not entry[1]:
        raise BackboneError(
            f"{spec.source} is a {index.get('_class_name')} without a transformer to calibrate"
        )
    return str(entry[1])


def _quantisation(bits: str, kind: torch.dtype) -> Any:
    from diffusers.quantizers import PipelineQuantizationConfig

    values = (
        {"load_in_8bit": True}
        if bits == "8bit"
        else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": kind}
    )
    return PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{bits}", quant_kwargs=values, components_to_quantize=["transformer"]
    )


def _add_lora(pipeline: DiffusionPipeline, lora: str) -> None:
    if not hasattr(pipeline, "load_lora_weights"):
        raise BackboneError(f"{type(pipeline).__name__} takes no LoRA")
    try:
        path = Path(lora)
        if path.is_file():
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
        else:
            pipeline.load_lora_weights(lora)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BackboneError(f"the LoRA {lora} does not fit: {str(error).strip().splitlines()[0]}") from error


def _place(pipeline: DiffusionPipeline, where: torch.device, offload: Offload | None) -> None:
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=where)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=where)
    elif offload == "group":
        pipeline.enable_group_offload(
            onload_device=where, offload_type="block_level", num_blocks_per_group=1, use_stream=True
        )
    elif where.type != "cpu":
        pipeline.to(where)
    elif getattr(pipeline, "vae", None) is not None:
        # Decoding is half of a small picture's time. On a CPU convolutions are 1.5 times faster with channels
        # last, and again 1.3 times picture by picture: what a picture needs stays in the cache. Torch has no
        # such order for the 3-D convolutions of Qwen-Image's decoder.
        if all(parameter.ndim < 5 for parameter in pipeline.vae.parameters()):
            pipeline.vae.to(memory_format=torch.channels_last)
        if hasattr(pipeline.vae, "enable_slicing"):
            pipeline.vae.enable_slicing()


def _compile(backbone: Backbone) -> None:
    if not getattr(backbone.transformer, "_repeated_blocks", None):
        raise BackboneError(f"{type(backbone.transformer).__name__} names no repeated blocks to compile")
    if backbone.device.type == "cpu" and not can_compile():
        raise BackboneError(
            "compiling for a CPU needs a C++ compiler and Python's headers (on Debian: apt-get install g++ "
            "python3-dev)"
        )
    # The exact tanh of the CPU's GELU is a tenth of a small transformer's time; of exp it costs next to
    # nothing and differs by a rounding. A GPU's code does not read this option.
    options = {"cpp.use_decompose_tanh": True}
    backbone.transformer.compile_repeated_blocks(dynamic=True, options=options)
    decoder = getattr(getattr(backbone.pipeline, "vae", None), "decoder", None)
    if backbone.device.type == "cpu" and decoder is not None:
        decoder.compile(options=options)  # one shape for all: a CPU decodes picture by picture


def can_compile() -> bool:
    """Whether this machine has what torch.compile needs for a CPU: a C++ compiler and Python's headers."""
    compilers = (os.environ.get("CXX"), "g++", "clang++")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return headers.exists() and any(name and shutil.which(name) for name in compilers)
