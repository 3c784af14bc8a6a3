"""Ways of storing a transformer's weights in fewer bits, and what each needs. No torch here."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

from calibri.errors import BackboneError

if TYPE_CHECKING:
    import torch

STORED = "float8"  # no quantiser of its own: diffusers casts each layer's weights as it runs


class Quantisation(NamedTuple):
    """`library`: the module that does it, "" for none. `package`: what to install. `cpu`: whether a processor
    does it too. `bits`: of a weight, about. `words`: for people."""

    library: str
    package: str
    cpu: bool
    bits: int
    words: str


#: Those that diffusers applies while it loads. Weights that were stored quantised load as they are.
QUANTISATIONS: dict[str, Quantisation] = {
    "8bit": Quantisation("bitsandbytes", "bitsandbytes", False, 8, "LLM.int8"),
    "4bit": Quantisation("bitsandbytes", "bitsandbytes", False, 4, "NF4"),
    STORED: Quantisation("", "", True, 8, "stored as float8, computed in the dtype"),
    "torchao-int8": Quantisation("torchao", "torchao", True, 8, "integer weights"),
    "torchao-int4": Quantisation("torchao", "torchao mslk", False, 4, "integer weights, bfloat16"),
    "torchao-float8": Quantisation("torchao", "torchao", True, 8, "float8 weights"),
    "quanto-int8": Quantisation("optimum.quanto", "optimum-quanto", True, 8, "integer weights"),
    "quanto-float8": Quantisation("optimum.quanto", "optimum-quanto", True, 8, "float8 weights"),
    "sdnq-int8": Quantisation("sdnq", "sdnq", True, 8, "integer weights"),
    "sdnq-uint4": Quantisation("sdnq", "sdnq", True, 4, "integer weights"),
    "modelopt-fp8": Quantisation("modelopt", "nvidia-modelopt", False, 8, "float8 weights"),
}


def is_installed(library: str) -> bool:
    """Whether a module is there; it is not imported."""
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of `optimum.quanto` where there is no `optimum`
        return False


def check_quantisation(name: str, where: torch.device) -> None:
    """Raises BackboneError where this machine lacks what it needs."""
    found = QUANTISATIONS[name]
    if where.type != "cuda" and not (found.cpu and where.type == "cpu"):
        wanted = "a CUDA device or a CPU" if found.cpu else "a CUDA device"
        raise BackboneError(f"quantisation {name} needs {wanted}, not {where}")
    if found.library and not is_installed(found.library):
        raise BackboneError(f"quantisation {name} needs {found.library}: pip install {found.package}")


def make_quantiser(name: str, kind: torch.dtype) -> Any:
    """The configuration of diffusers. `kind`: of what is computed. Raises what the library raises."""
    import diffusers

    library, _, values = name.partition("-")
    if name == "8bit":
        return diffusers.BitsAndBytesConfig(load_in_8bit=True)
    if name == "4bit":
        return diffusers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind
        )
    if library == "torchao":
        from torchao import quantization

        kinds = {"int8": "Int8WeightOnly", "int4": "Int4WeightOnly", "float8": "Float8WeightOnly"}
        return diffusers.TorchAoConfig(getattr(quantization, f"{kinds[values]}Config")())
    if library == "quanto":
        return diffusers.QuantoConfig(weights_dtype=values)
    if library == "sdnq":
        return diffusers.SDNQConfig(weights_dtype=values)
    return diffusers.NVIDIAModelOptConfig(quant_type=values.upper())
