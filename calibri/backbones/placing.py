"""A loaded pipeline onto its device as asked: offload, decoding, attention, compilation."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from calibri.backbones.options import LoadOptions
from calibri.backbones.quantisations import check_quantisation
from calibri.backbones.sites import unwrapped
from calibri.backbones.step_cache import enable_step_cache
from calibri.errors import BackboneError, first_line

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from calibri.backbones.loading import Backbone


def find_device(device: str) -> torch.device:
    """The device of this machine that is meant. Raises BackboneError where it has none such."""
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


def check_machine(options: LoadOptions, where: torch.device) -> None:
    """Raises BackboneError for what this machine cannot do."""
    if options.offload and where.type != "cuda":
        raise BackboneError(f"offload needs a CUDA device, not {where}")
    if options.quantisation:
        check_quantisation(options.quantisation, where)
    if options.attention:
        _check_attention(options.attention)


def place(pipeline: DiffusionPipeline, where: torch.device, options: LoadOptions) -> None:
    """The pipeline's parts to where they run, or under what brings them there."""
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=where)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=where)
    elif options.offload == "group":
        pipeline.enable_group_offload(
            onload_device=where,
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=where.type == "cuda",  # copies the next block while one runs
        )
    elif where.type != "cpu":
        pipeline.to(where)
    _set_decoder(pipeline, where, options)
    if options.attention:
        _set_attention(pipeline, options.attention)
    if options.step_cache:
        enable_step_cache(pipeline, options.step_cache)


def _set_decoder(pipeline: DiffusionPipeline, where: torch.device, options: LoadOptions) -> None:
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        if options.vae_tiling or options.vae_slicing:
            raise BackboneError(f"{type(pipeline).__name__} has no VAE to decode with")
        return
    on_cpu = where.type == "cpu"
    # Decoding is half of a small picture's time. On a CPU convolutions are 1.5 times faster with channels
    # last, and again 1.3 times picture by picture: what a picture needs stays in the cache. Torch has no
    # such order for the 3-D convolutions of Qwen-Image's decoder.
    if on_cpu and not options.offload and all(parameter.ndim < 5 for parameter in vae.parameters()):
        vae.to(memory_format=torch.channels_last)
    for wanted, must, what in (
        (on_cpu or options.vae_slicing, options.vae_slicing, "slicing"),
        (options.vae_tiling, options.vae_tiling, "tiling"),
    ):
        if not wanted:
            continue
        enable = getattr(vae, f"enable_{what}", None)
        try:
            if enable is None:
                raise NotImplementedError
            enable()
        except NotImplementedError as error:
            if must:
                raise BackboneError(f"vae-{what}: {type(vae).__name__} knows no {what}") from error


def list_attention_backends() -> list[str]:
    """Names that diffusers has; those with `hub` in their names fetch a kernel from the hub."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    return [str(backend.value) for backend in AttentionBackendName]


def _check_attention(name: str) -> None:
    known = list_attention_backends()
    if name not in known:
        raise BackboneError(f"attention {name!r}: expected one of {', '.join(known)}")


def _set_attention(pipeline: DiffusionPipeline, name: str) -> None:
    from diffusers.models.attention_dispatch import attention_backend

    transformer = unwrapped(pipeline.transformer)
    try:
        with (
            attention_backend()
        ):  # diffusers also makes it that of all models of the process, which this undoes
            transformer.set_attention_backend(name)
    except (RuntimeError, ValueError, ImportError, OSError) as error:
        raise BackboneError(f"attention {name} cannot be used here: {first_line(error)}") from error


def compile_backbone(backbone: Backbone) -> None:
    """Compiles the transformer's repeated blocks when they first run. Raises BackboneError."""
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
