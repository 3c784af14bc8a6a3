"""What this machine has. No token, path or name of a person is told."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from calibri.errors import BackboneError
from calibri.memory import free_bytes

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "safetensors")
OPTIONAL = {
    "bitsandbytes": "8bit and 4bit",
    "torchao": "other quantisations",
    "gguf": "GGUF files",
    "xformers": "an attention backend",
    "flash-attn": "an attention backend",
    "sageattention": "an attention backend",
    "kernels": "attention kernels of the hub",
    "peft": "LoRAs",
    "ray": "searches on several workers",
}


@dataclass(frozen=True)
class Gpu:
    """`memory`: bytes, all of it. `capability`: CUDA's, such as 8.9; empty for others."""

    name: str
    memory: int
    capability: str = ""


@dataclass(frozen=True)
class Machine:
    """`memory`, `free`: bytes of main memory, 0 where not known. `packages`: version, or empty. `token`:
    whether there is one for the hub."""

    cpu: str
    cores: int
    memory: int
    free: int
    gpus: tuple[Gpu, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
    token: bool = False

    @property
    def card(self) -> int | None:
        """Bytes of the first CUDA GPU; None for none: others share main memory, and have no such modes."""
        return self.gpus[0].memory if self.gpus and self.gpus[0].capability else None


def find_machine() -> Machine:
    """This machine. Imports torch, to ask it for GPUs."""
    from huggingface_hub import get_token

    packages = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    memory, free = _main_memory(), free_bytes()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(_cpu(), cores, memory, free, _gpus(), packages, get_token() is not None)


def parse_memory(text: str) -> int:
    """`12GB`, `12` → bytes. A card of 12 GB has 12 · 2^30. Raises BackboneError."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*(G|GB|GiB|M|MB|MiB)?", text.strip(), re.IGNORECASE)
    size = float(found[1]) * (2**20 if (found[2] or "G")[0] in "mM" else 2**30) if found else 0
    if not 2**20 <= size <= 2**50:
        raise BackboneError(f"memory: expected such as 12GB, got {text[:40]!r}")
    return int(size)


def _gpus() -> tuple[Gpu, ...]:
    import torch

    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return tuple(Gpu(each.name, each.total_memory, f"{each.major}.{each.minor}") for each in found)
    if torch.backends.mps.is_available():
        return (Gpu("Apple GPU", int(torch.mps.recommended_max_memory())),)
    return ()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _main_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
