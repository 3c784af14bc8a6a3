"""Scales into the transformer: forward hooks at the gates, per-sample vectors, reversible and exact.

One module-level function for each operation, reading plain tensor attributes: values change in place, and
compiled blocks see no new code (SITES.md, at run time). `forward` is never replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibri.backbones.sites import (
    Argument,
    Branches,
    Chunk,
    Operation,
    Output,
    Site,
    TupleItem,
    unwrapped,
)
from calibri.errors import LayoutError, RenderError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

ATTRIBUTE = "calibri_scales"  # on a hooked module: ((what is multiplied, scales (B,) or (1,)), …)


def scale_items(module: torch.nn.Module, _: Any, output: tuple) -> tuple:
    """T(m,i): multiplies gates (B, D) in an output tuple by scales (B,)."""
    changed = list(output)
    for index, scale in getattr(module, ATTRIBUTE):
        changed[index] = _scaled(output[index], scale)
    return tuple(changed)


def scale_chunks(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """C(m,n,i): multiplies chunks (B, D) of an output tensor (B, n·D) by scales (B,)."""
    count = getattr(module, ATTRIBUTE + "_of")
    parts = list(output.chunk(count, dim=-1))
    for index, scale in getattr(module, ATTRIBUTE):
        parts[index] = _scaled(parts[index], scale)
    return torch.cat(parts, dim=-1)


def scale_output(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """O(m): multiplies all of an output (B, …) by scales (B,)."""
    for _, scale in getattr(module, ATTRIBUTE):
        output = _scaled(output, scale)
    return output


def scale_branch(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """L(m): multiplies what a LoRA adds, (B, …), by scales (B,).

    Experts and embedders of patches see the tokens of all pictures in one list: there a value that is the
    same for all still counts. Raises RenderError where it is not.
    """
    in_rows = not getattr(module, ATTRIBUTE + "_apart")
    for _, scale in getattr(module, ATTRIBUTE):
        rows, values = output.shape[0], scale.shape[0]
        if values != 1 and not (in_rows and rows in (values, 2 * values)):  # twice: a modulation over [t, 0]
            if not bool((scale == scale[0]).all()):
                raise RenderError(
                    "a LoRA changes layers here that see all pictures of a batch at once: expected the same "
                    "strengths for all of them, got several. Give batch size 1 and one member"
                )
            scale = scale[:1]
        output = _scaled(output, scale)
    return output


def scale_arguments(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A(kw,n,i): multiplies chunks of arguments (B, …, n·D) by scales (B,), before the module runs."""
    count = getattr(module, ATTRIBUTE + "_of")
    changed, given = dict(kwargs), list(args)
    for (name, place, index), scale in getattr(module, ATTRIBUTE):
        value = changed[name] if name in changed else given[place]
        parts = list(value.chunk(count, dim=-1))
        parts[index] = _scaled(parts[index], scale)
        whole = torch.cat(parts, dim=-1)
        if name in changed:
            changed[name] = whole
        else:
            given[place] = whole
    return tuple(given), changed


def _scaled(gate: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    # A small model has some thirty of these a forward, of a few microseconds each: what changes nothing is
    # not called.
    if scale.device != gate.device:
        scale = scale.to(gate.device)
    rows = scale.shape[0]
    if rows > 1:
        if rows != gate.shape[0] > 1 and gate.shape[0] % rows == 0:
            scale = scale.repeat(gate.shape[0] // rows)  # a modulation over [t, 0], each with the batch
        scale = scale.view(-1, *(1,) * (gate.ndim - 1))
    # float32 scales promote the product, so that 1.0039 counts in bf16 too; the gate keeps its dtype.
    product = gate * scale
    return product if product.dtype == gate.dtype else product.to(gate.dtype)


_HOOKS = {TupleItem: scale_items, Chunk: scale_chunks, Output: scale_output, Branches: scale_branch}


def _place(op: Operation) -> Any:
    """What a hook needs to know of one site of its module."""
    if isinstance(op, Argument):
        return op.name, op.place, op.index
    return 0 if isinstance(op, Output | Branches) else op.index


class ScaleHooks:
    """Context manager: inside it the transformer's branches are multiplied, outside it is as it was.

        with ScaleHooks(transformer, sites) as hooks:
            hooks.set(layout.expand(scales))

    Until `set` is called all scales are one, which is bit-identical to the transformer without hooks.
    """

    def __init__(
        self, transformer: torch.nn.Module, sites: Sequence[Site], device: torch.device | None = None
    ) -> None:
        """`device`: where the transformer runs, if that is not where its weights are (offload)."""
        self._transformer = unwrapped(transformer)
        self._device = device
        self._sites = tuple(sites)
        self._handles: list[RemovableHandle] = []
        self._modules: list[torch.nn.Module] = []
        self._values: list[torch.Tensor] = []  # of each site, (B,) or (1,)

    def __enter__(self) -> ScaleHooks:
        modules = dict(self._transformer.named_modules())
        self._plan: dict[str, list[int]] = {}  # module path → indices of its sites
        for i, site in enumerate(self._sites):
            for path in site.modules:
                if path not in modules:
                    raise RenderError(
                        f"{type(self._transformer).__name__} has no module {path!r} for {site.name}"
                    )
                self._plan.setdefault(path, []).append(i)
        if any(hasattr(modules[path], ATTRIBUTE) for path in self._plan):
            raise RenderError(
                "this transformer is scaled already (by load_calibration, a Renderer or ScaleHooks): leave "
                "that `with` before the next one"
            )
        try:
            for path, indices in self._plan.items():
                op = self._sites[indices[0]].op
                module = modules[path]
                self._modules.append(module)
                if isinstance(op, Chunk | Argument):
                    setattr(module, ATTRIBUTE + "_of", op.count)
                if isinstance(op, Branches):
                    setattr(module, ATTRIBUTE + "_apart", ".experts." in path)
                if isinstance(op, Argument):
                    handle = module.register_forward_pre_hook(scale_arguments, with_kwargs=True)
                else:
                    handle = module.register_forward_hook(_HOOKS[type(op)])
                self._handles.append(handle)
            self.set(np.ones(len(self._sites)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self._modules:
            for name in (ATTRIBUTE, ATTRIBUTE + "_of", ATTRIBUTE + "_apart"):
                if hasattr(module, name):
                    delattr(module, name)
        self._handles, self._modules, self._values = [], [], []

    def set(self, values: np.ndarray | torch.Tensor | Sequence[float]) -> None:
        """One vector (n_sites,) for the whole batch, or (B, n_sites), one for each row of the batch.

        Kept as float32 whatever the model's dtype. Raises LayoutError for another shape or for a number that
        is not finite, with the site's name.
        """
        if not self._handles:
            raise RenderError("scales can be set only inside `with ScaleHooks(…)`")
        array = np.asarray(values, dtype=np.float32)
        if array.ndim == 1:
            array = array[None]
        if array.ndim != 2 or array.shape[1] != len(self._sites) or not len(array):
            raise LayoutError(
                f"expected ({len(self._sites)},) or (B, {len(self._sites)}) scales, one for each site, "
                f"got shape {np.shape(values)}"
            )
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise LayoutError(
                f"{self._sites[column].name}: expected a finite number, got {array[row, column]}"
            )
        device = self._device or next(self._transformer.parameters()).device
        fresh = list(torch.from_numpy(array.T.copy()).to(device))  # n_sites × (B,)
        if self._values and self._values[0].shape == fresh[0].shape:
            torch._foreach_copy_(self._values, fresh)
            return
        with torch.inference_mode(False):  # an inference tensor could not be changed in place later
            # A tensor of its own for each site: rows of one tensor lie at offsets that depend on the batch,
            # and compiled blocks would be compiled anew for those.
            self._values = [row.clone() for row in fresh]
        for module, indices in zip(self._modules, self._plan.values(), strict=True):
            scales = tuple((_place(self._sites[i].op), self._values[i]) for i in indices)
            setattr(module, ATTRIBUTE, scales)
