"""What reward models share: device and dtype, loading, batches that shrink where memory runs out, closing."""

from __future__ import annotations

import gc
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL
import torch

from calibri.errors import RewardError
from calibri.files import read_object
from calibri.memory import is_out_of_memory
from calibri.rewards.base import RewardInfo, check_counts, need_packages
from calibri.rewards.catalog import BITS, CATALOG, RewardSpec
from calibri.rewards.pictures import as_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.rewards.weights import Files

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(device: str | torch.device) -> torch.device:
    """cpu, cuda, cuda:1, mps … as torch knows it. Raises RewardError where this machine has none."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise RewardError(f"device {device!r}: expected cpu, cuda, cuda:1 or mps") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        there = f"cuda:0 to cuda:{last}" if last > 0 else "cuda:0 alone" if last == 0 else "no CUDA device"
        raise RewardError(f"device {str(device)!r}: torch finds {there} on this machine")
    return found


def choose_dtype(dtype: str, device: torch.device, spec: RewardSpec) -> str:
    """The name of the dtype: auto is bfloat16 on CUDA for the large ones, else float32.

    Raises RewardError for one that the reward does not take.
    """
    if dtype == "auto":
        return "bfloat16" if spec.large and device.type == "cuda" else "float32"
    known = (*DTYPES, *(bits for bits in BITS if bits in spec.memory))
    if dtype not in known:
        raise RewardError(f"{spec.name}: expected a dtype auto, {', '.join(known)}, got {dtype!r}")
    if dtype in BITS and device.type != "cuda":
        raise RewardError(f"{spec.name}: {dtype} needs a CUDA device, not {device}")
    return dtype


class ModelReward(ABC):
    """A reward that is a model with weights. One file a reward; it gives `name`, `_load` and `_score`.

    Calls of one object are not safe from several threads at once.
    """

    name: ClassVar[str]
    preprocessing: ClassVar[str] = "1"  # goes up when the same weights would give other numbers
    batch: ClassVar[int] = 16  # pictures at once, at most

    def __init__(
        self,
        device: str | torch.device = "cpu",
        source: str | Path | None = None,
        dtype: str = "auto",
    ) -> None:
        """`source`: a hub id or a folder in the published layout; by default the catalogue's. Raises
        RewardError that says what is missing.
        """
        self.spec = CATALOG[self.name]
        self.device = find_device(device)
        self.dtype_name = choose_dtype(dtype, self.device, self.spec)
        self.dtype = DTYPES.get(self.dtype_name, torch.bfloat16)
        self._batch = self.batch
        self._closed = False
        need_packages(self.spec)
        try:
            files = self._load(source or self.spec.source)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise RewardError(f"{self.name} {_too_big(self.device)}") from error
        self.info = self._describe(files)

    # ---- what a reward gives

    @abstractmethod
    def _load(self, source: str | Path) -> Files:
        """Find the files, load model and tokenizer onto `self.device` in `self.dtype`; the files."""

    @abstractmethod
    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        """(n,) scores of one batch of RGB pictures, in inference mode."""

    def _modules(self) -> list[torch.nn.Module]:
        """The modules in memory: the attributes that are modules."""
        return [value for value in vars(self).values() if isinstance(value, torch.nn.Module)]

    # ---- what a reward is

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64, higher is better. images: n pictures of any size and mode; prompts: n texts.

        Where memory runs out the batch is halved, and later ones stay so small. Raises RewardError.
        """
        if self._closed:
            raise RewardError(f"{self.name} was closed: load it again to score with it")
        check_counts(images, prompts, self.name)
        scores: list[np.ndarray] = [np.zeros(0)]
        done = 0
        while done < len(images):
            part = self._try_batch(images[done : done + self._batch], prompts[done : done + self._batch])
            if part is not None:
                scores.append(part)
                done += len(part)
        return np.concatenate(scores)

    def _try_batch(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray | None:
        """Scores of a batch; None where memory ran out and batches are smaller from now on."""
        try:
            with torch.inference_mode():
                found = self._score([as_rgb(image) for image in images], [_text(p) for p in prompts])
            return found.double().cpu().numpy()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise RewardError(f"{self.name} {_too_big(self.device)}") from error
        _free(self.device)  # after the error, which keeps the tensors of the batch that failed
        self._batch = len(images) // 2
        log.warning("%s: out of memory: batches now hold %d pictures", self.name, self._batch)
        return None

    def close(self) -> None:
        """Frees the memory. Scoring afterwards is an error."""
        self._closed = True
        for key in [key for key, value in vars(self).items() if isinstance(value, torch.nn.Module)]:
            delattr(self, key)
        _free(self.device)

    def _describe(self, files: Files) -> RewardInfo:
        spec = self.spec
        modules = self._modules()
        return RewardInfo(
            name=spec.name,
            role=spec.role,
            version=self.preprocessing,
            description=spec.summary,
            range_hint=spec.range_hint,
            kind=spec.kind,
            temperature=spec.temperature,
            licence=spec.licence,
            source=files.source,
            weights=files.id,
            revision=revision_of(files.id, self.preprocessing, self.dtype_name),
            size=files.size,
            memory=dict(spec.memory),
            parameters=sum(p.numel() for module in modules for p in module.parameters()),
        )


def revision_of(weights: str, preprocessing: str, dtype: str = "float32") -> str:
    """What scores depend on: weights, how pictures and prompts are prepared, Pillow, and the dtype."""
    return f"{weights}-p{preprocessing}-pillow{PIL.__version__}-{dtype}"


def build(
    make: Callable[[], torch.nn.Module],
    tensors: Mapping[str, torch.Tensor],
    *,
    name: str,
    unused: Sequence[str] = (),
    buffers: Callable[[torch.nn.Module], None] | None = None,
) -> torch.nn.Module:
    """A module made on the meta device that takes `tensors` as its own, without a copy; in evaluation mode.

    `unused`: beginnings of keys that may be there and are left out. `buffers`: makes the buffers again that
    no checkpoint holds (rotary frequencies); position_ids are made here. Raises RewardError where keys or
    shapes are not those of the module.
    """
    with torch.device("meta"):
        module = make()
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(tuple(unused) or "\0")}
    try:
        missing, extra = module.load_state_dict(kept, strict=False, assign=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise RewardError(f"{name}: the weights have other shapes than expected: {_last(error)}") from error
    extra = [key for key in extra if not key.endswith("position_ids")]
    missing = [key for key in missing if not key.endswith("position_ids")]
    if missing or extra:
        what = f"no {missing[0]}" if missing else f"an unknown {extra[0]}"
        raise RewardError(f"{name}: expected the published layout of weights, got {what}")
    device = next(iter(kept.values())).device
    for part in module.modules():
        held = getattr(part, "position_ids", None)
        if isinstance(held, torch.Tensor) and held.is_meta:
            part.position_ids = torch.arange(held.shape[-1], device=device)[None]
    if buffers is not None:
        buffers(module)
    left = [key for key, tensor in [*module.named_buffers(), *module.named_parameters()] if tensor.is_meta]
    if left:
        raise RewardError(f"{name}: {left[0]} has no values: the checkpoint does not hold it")
    return module.eval().requires_grad_(False)


def load_config(path: Path) -> dict[str, Any]:
    """A JSON object. Raises RewardError."""
    return read_object(path, RewardError)


def _text(prompt: str) -> str:
    """The prompt without halves of characters, which no tokenizer takes."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def _too_big(device: torch.device) -> str:
    other = "cpu" if device.type != "cpu" else "a machine with more memory"
    return (
        f"does not fit into the memory of {device}: unload other models, or choose a smaller dtype, or "
        f"another device ({other})"
    )


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _last(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
