"""Options of the commands that load a backbone: device, dtype, memory, speed, LoRAs."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from calibri.backbones.lora_sites import adapters_of
from calibri.backbones.options import OFFLOADS, QUANTISATIONS, LoadOptions

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

MEANINGS: dict[str, str] = {
    "device": "auto, cpu, cuda, cuda:1, mps (default auto)",
    "dtype": "auto (bfloat16 on CUDA, else float32), float32, bfloat16, float16, or mixed: float32 with "
    "matrix products in bfloat16",
    "transformer": "a .gguf or .safetensors file of the transformer's weights, or owner/name/file of the hub",
    "offload": "keep weights in main memory until they are needed (CUDA)",
    "quantisation": "the transformer's weights in fewer bits",
    "vae_tiling": "decode pictures in tiles: less memory for large ones",
    "vae_slicing": "decode pictures one by one: less memory for batches; always so on a CPU",
    "attention": "an attention backend of diffusers, such as native, flash or sage; names with hub in them "
    "fetch a kernel from the hub",
    "compile": "compile the transformer's blocks: slower to start (a minute on a CPU), faster from there on",
    "step_cache": "taylorseer or pab: one step of two computed in full, with :3 one of three; no searches",
    "loras": "a LoRA on the base, its strength behind a colon (default 1); may be given several times",
    "lora_blocks": "the strength of each LoRA in each block is a scale too, behind those of the base",
}


def add_loading_arguments(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, only: Collection[str] = tuple(MEANINGS)
) -> None:
    """The options of a command that loads a backbone. `only`: fields of LoadOptions; usually all."""
    choices: dict[str, Any] = {"offload": OFFLOADS, "quantisation": tuple(QUANTISATIONS), "dtype": None}
    shown = {
        "device": "DEVICE",
        "dtype": "DTYPE",
        "attention": "BACKEND",
        "transformer": "FILE",
        "step_cache": "NAME[:N]",
    }
    for name in MEANINGS:
        if name not in only:
            continue
        flag = "--" + name.replace("_", "-")
        if name == "loras":
            parser.add_argument(
                "--lora", dest="loras", action="append", metavar="FILE[:STRENGTH]", help=MEANINGS[name]
            )
        elif isinstance(getattr(LoadOptions, name), bool):
            parser.add_argument(flag, action="store_const", const=True, help=MEANINGS[name])
        elif choices.get(name):
            parser.add_argument(flag, choices=choices[name], help=MEANINGS[name])
        else:
            parser.add_argument(flag, metavar=shown[name], help=MEANINGS[name])


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of them: field → value."""
    values = {field.name: getattr(args, field.name, None) for field in fields(LoadOptions)}
    return {name: value for name, value in values.items() if value is not None}


def read_options(args: argparse.Namespace, calibrations: Iterable[Calibration | None] = ()) -> LoadOptions:
    """How to load the backbone, with strengths in blocks where one of `calibrations` sets them. Raises
    BackboneError for what cannot be, before anything is loaded."""
    given = given_options(args)
    if given.get("loras") and any(adapters_of(each.names) for each in calibrations if each is not None):
        given["lora_blocks"] = True
    return LoadOptions.from_json(given)
