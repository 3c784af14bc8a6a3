"""How a backbone is to be loaded, as the fold *More settings* of *Change backbone* has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from calibri.backbones.options import DTYPES, OFFLOADS, LoadOptions
from calibri.backbones.quantisations import QUANTISATIONS, Quantisation, is_installed
from calibri.backbones.step_cache import CACHES
from studio.core import Core

Choices = list[tuple[str, str]]
USUAL_BACKEND = ("diffusers' own choice", "")


@dataclass(frozen=True)
class LoadFields:
    """The fields, in the order of NAMES."""

    fold: gr.Accordion
    fields: tuple[Component, ...]


#: Fields of LoadOptions that the page sets; the others stay as the studio was started.
NAMES = (
    "dtype",
    "offload",
    "quantisation",
    "transformer",
    "attention",
    "step_cache",
    "vae_tiling",
    "vae_slicing",
    "compile",
    "loras",
    "lora_blocks",
)


def lay_out_settings(options: LoadOptions) -> LoadFields:
    """The fold, closed and out of sight."""
    with gr.Accordion("More settings", open=False, visible=False, elem_id="load-settings") as fold:
        with gr.Row():
            first = (
                _dropdown("dtype", "Dtype", [("auto", "auto"), *((name, name) for name in DTYPES)], options),
                _dropdown("offload", "Offload (CUDA)", list_offloads(), options),
                _dropdown("quantisation", "Quantisation", list_quantisations(), options),
                gr.Textbox(
                    options.transformer,
                    label="Transformer from a file",
                    placeholder=".gguf, .safetensors or owner/name/file",
                    max_lines=1,
                    elem_id="load-transformer",
                ),
            )
        with gr.Row():
            second = (
                _dropdown("attention", "Attention", [USUAL_BACKEND], options, free=True),
                _dropdown("step_cache", "Step cache (no searches then)", list_caches(), options, free=True),
                gr.Checkbox(options.vae_tiling, label="Decode in tiles", elem_id="load-vae-tiling"),
                gr.Checkbox(options.vae_slicing, label="Decode one by one", elem_id="load-vae-slicing"),
                gr.Checkbox(options.compile, label="Compile blocks", elem_id="load-compile"),
            )
        with gr.Row():
            third = (
                gr.Textbox(
                    write_loras(options.loras),
                    label="LoRAs",
                    placeholder="one a line: FILE, folder or owner/name, with :STRENGTH if wanted",
                    lines=1,
                    max_lines=4,
                    scale=3,
                    elem_id="load-loras",
                ),
                gr.Checkbox(
                    options.lora_blocks,
                    label="Their strength in each block as scales",
                    elem_id="load-lora-blocks",
                ),
            )
    return LoadFields(fold, (*first, *second, *third))


def write_loras(loras: tuple[str, ...]) -> str:
    """One a line, as `read_settings` reads them."""
    return "\n".join(loras)


def _dropdown(
    name: str, label: str, choices: Choices, options: LoadOptions, free: bool = False
) -> gr.Dropdown:
    return gr.Dropdown(
        choices,
        value=getattr(options, name),
        label=label,
        allow_custom_value=free,
        min_width=150,
        elem_id=f"load-{name.replace('_', '-')}",
    )


def list_offloads() -> Choices:
    """What may be chosen, with its value."""
    return [("none: all on the device", ""), *((name, name) for name in OFFLOADS)]


def list_quantisations() -> Choices:
    """What may be chosen, with its value; the installed ones first."""
    found = sorted(QUANTISATIONS.items(), key=lambda each: not _is_there(each[1]))
    return [("none", ""), *((_name_quantisation(name, each), name) for name, each in found)]


def _is_there(quantisation: Quantisation) -> bool:
    return not quantisation.library or is_installed(quantisation.library)


def _name_quantisation(name: str, quantisation: Quantisation) -> str:
    needs = "" if _is_there(quantisation) else f" (needs {quantisation.package})"
    return f"{name}: {quantisation.words}{'' if quantisation.cpu else ', CUDA'}{needs}"


def list_caches() -> Choices:
    """What may be chosen, with its value."""
    return [("none", ""), *((f"{name}, every second step", name) for name in CACHES)]


def list_backends() -> Choices:
    """What may be chosen, with its value. Imports diffusers: asked when somebody opens the fold."""
    from calibri.backbones.placing import list_attention_backends

    hub = " (fetches a kernel)"
    names = list_attention_backends()
    return [USUAL_BACKEND, *((f"{name}{hub if 'hub' in name else ''}", name) for name in names)]


def show_settings(core: Core) -> list[Any]:
    """The fold and its fields as the loaded backbone has them."""
    options = core.host.options
    shown: list[Any] = [getattr(options, name) for name in NAMES]
    shown[NAMES.index("loras")] = write_loras(options.loras)
    place = NAMES.index("attention")
    shown[place] = gr.Dropdown(list_backends(), value=options.attention)
    return [gr.Accordion(visible=True), *shown]


def read_settings(core: Core, values: tuple[Any, ...]) -> LoadOptions:
    """What the fields hold, with what the page does not show. Raises BackboneError."""
    given: dict[str, Any] = {}
    for name, value in zip(NAMES, values, strict=True):
        if name == "loras":
            lines = value.splitlines() if isinstance(value, str) else value or ()
            given[name] = tuple(line.strip() for line in lines if str(line).strip())
            continue
        is_switch = isinstance(getattr(LoadOptions, name), bool)
        given[name] = bool(value) if is_switch else str(value or "").strip()
    given["dtype"] = given["dtype"] or "auto"
    return replace(core.host.options, **given).check()
