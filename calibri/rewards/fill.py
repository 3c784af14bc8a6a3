"""Large models without twice the memory: built without weights, then filled one tensor at a time."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from calibri.errors import RewardError
from calibri.rewards.weights import load_tensors

Module = TypeVar("Module", bound=nn.Module)
Bits = Literal[4, 8]


def build_empty(make: Callable[[], Module]) -> Module:
    """The module that `make` builds, its parameters and buffers on the meta device: shapes alone.

    Transformers ties parameters while it builds; `fill` gives each name a tensor of its own.
    """
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def count_parameters(model: nn.Module) -> int:
    """Numbers in all parameters, those that share a tensor counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def read_tensors(
    paths: Sequence[Path], rename: Callable[[str], str | None] = str
) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of one shard after the other, each let go of before the next one is read.

    `rename`: the name in the model of a name in the file; None for a tensor that is not needed. The tensors
    of a safetensors file lie in the mapped file until they are copied. Raises RewardError as `load_tensors`.
    """
    for path in paths:
        shard = load_tensors(path)
        for name in list(shard):
            new, tensor = rename(name), shard.pop(name)
            if new is not None:
                yield new, tensor


def fill(
    model: nn.Module,
    tensors: Iterable[tuple[str, torch.Tensor]],
    *,
    label: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    exact: Sequence[str] = (),
) -> None:
    """Gives every parameter and stored buffer of a model from `build_empty` its tensor, on `device`.

    `exact`: beginnings of names that stay float32 whatever `dtype` is. Buffers that no checkpoint holds
    (rotary frequencies, position ids) are computed again: on meta they had no values. `label` names the
    reward in messages. Raises RewardError unless names and shapes are those of the model.
    """
    missing = _places(model)
    for name, tensor in tensors:
        place = missing.pop(name, None)
        if place is None:
            raise RewardError(f"{label}: expected the weights of another model, got a tensor {name}")
        if place.shape != tensor.shape:
            raise RewardError(
                f"{label}: expected {name} of shape {tuple(place.shape)}, got {tuple(tensor.shape)}"
            )
        wanted = torch.float32 if name.startswith(tuple(exact)) else dtype
        value = tensor.to(device, wanted if tensor.is_floating_point() else tensor.dtype)
        _put(model, name, value, torch.device(device))
    if missing:
        first = next(iter(missing))
        raise RewardError(f"{label}: the weights lack {len(missing)} tensors, {first} among them")
    _compute_buffers(model, torch.device(device))


def _places(model: nn.Module) -> dict[str, torch.Tensor]:
    """name → parameter or stored buffer that a checkpoint has to bring."""
    found: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        stored = {k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set}
        found |= {prefix + k: v for k, v in (module._parameters | stored).items() if v is not None}
    return found


def _put(model: nn.Module, name: str, value: torch.Tensor, device: torch.device) -> None:
    """Sets one parameter or buffer, quantised where its layer is: only one at a time is in memory whole."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._buffers:
        module._buffers[leaf] = value
        return
    old: Any = module._parameters[leaf]
    if type(old) is nn.Parameter:
        module._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        return
    # One of bitsandbytes' own parameters, which rounds its values when it comes to the device.
    options: dict[str, Any] = {"has_fp16_weights": False}
    if type(old).__name__ == "Params4bit":
        options = {name: getattr(old, name) for name in ("quant_type", "compress_statistics", "blocksize")}
        options["module"] = module
    module._parameters[leaf] = type(old)(value.cpu(), requires_grad=False, **options).to(device)


def _compute_buffers(model: nn.Module, device: torch.device) -> None:
    """Buffers that are stored nowhere: modules with frequencies are made again, positions are counted."""
    for module in model.modules():
        empty = [name for name, buffer in module._buffers.items() if buffer is not None and buffer.is_meta]
        if not empty:
            continue
        if empty == ["position_ids"]:
            count = module.get_buffer("position_ids").shape[-1]
            module._buffers["position_ids"] = torch.arange(count, device=device)[None]
            continue
        # Computed on the CPU whatever the device, so that the last bits are the same everywhere.
        kind: Any = type(module)
        fresh = kind(module.config)
        for name in empty:
            module._buffers[name] = fresh.get_buffer(name).to(device)


def quantise(
    model: nn.Module, bits: Bits, dtype: torch.dtype, *, label: str, keep: Sequence[str] = ()
) -> None:
    """Replaces the linear layers of a model from `build_empty` by bitsandbytes' NF4 or 8-bit ones.

    `keep`: beginnings of names of layers that stay as they are. `dtype`: of the products. Raises RewardError
    where bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RewardError(f"{label} in {bits} bits needs bitsandbytes: pip install 'calibri-studio[gpu]'")
    layers: Any = importlib.import_module("bitsandbytes.nn")
    found: Mapping[str, nn.Module] = dict(model.named_modules())
    for name, old in found.items():
        if type(old) is not nn.Linear or name.startswith(tuple(keep)):
            continue
        shape = (old.in_features, old.out_features, old.bias is not None)
        with torch.device("meta"):
            if bits == 4:
                new = layers.Linear4bit(*shape, dtype, compress_statistics=True, quant_type="nf4")
            else:
                new = layers.Linear8bitLt(*shape, has_fp16_weights=False)
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, new.requires_grad_(False))
