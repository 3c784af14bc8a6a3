"""Loading a backbone: device, dtype, offload, quantisation, LoRA."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from calibri.backbones.adapter import adapter_of
from calibri.backbones.catalog import BackboneSpec, resolve
from calibri.backbones.layouts import Granularity, Layout
from calibri.backbones.lora import Loras
from calibri.backbones.lora_loading import load_loras
from calibri.backbones.lora_sites import lora_sites
from calibri.backbones.options import USUAL, LoadOptions, Offload, replace_given
from calibri.backbones.placing import check_machine, compile_backbone, find_device, place
from calibri.backbones.quantisations import STORED, make_quantiser
from calibri.backbones.single_file import find_file, load_transformer
from calibri.backbones.sites import Site, family_of, sites_of, unwrapped
from calibri.errors import BackboneError, first_line
from calibri.memory import is_out_of_memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin

    from calibri.backbones.adapter import Adapter
    from calibri.backbones.lora import LoraUse

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
        options: LoadOptions = USUAL,
    ) -> None:
        """`pipeline`: a diffusers pipeline on its device. `options`: how it was loaded; with the dtype mixed
        it renders under bfloat16 autocast. Raises BackboneError if its family is not known.
        """
        self.pipeline = pipeline
        self.spec = spec
        self.options = options
        self.sites: tuple[Site, ...] = sites_of(self.transformer, spec.extras)
        self.loras = Loras(pipeline)
        self._layouts: dict[str, Layout] = {}
        family = family_of(type(unwrapped(self.transformer)).__name__)
        _check_pipeline(type(pipeline).__name__, family)
        self.adapter: Adapter = adapter_of(family, pipeline, spec)

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

    @property
    def mixed(self) -> bool:
        """Whether matrix products are in bfloat16 while weights are in float32."""
        return self.options.dtype == "mixed"

    def layout(self, granularity: Granularity) -> Layout:
        """The layout at this granularity. Raises LayoutError for an unknown one."""
        if granularity not in self._layouts:
            self._layouts[granularity] = Layout.from_sites(self.sites, granularity)
        return self._layouts[granularity]

    def add_loras(self, texts: Sequence[str]) -> None:
        """Loads LoRAs, each FILE or FILE:STRENGTH, beside the base. Once, before the pipeline is placed.

        Raises BackboneError for what is no LoRA of this base.
        """
        if len(self.loras):
            raise BackboneError("this backbone has its LoRAs already: load it anew for others")
        _ = self._base_fingerprint  # of the weights as they are without
        with _quiet():
            self.loras = load_loras(self.pipeline, texts)

    def use_lora_blocks(self) -> None:
        """The strengths of the LoRAs in each block become scales of the layouts, behind those of the base.

        Raises BackboneError without a LoRA, and for LoKr and DoRA, whose strength cannot differ in blocks.
        """
        if not len(self.loras):
            raise BackboneError("lora-blocks: expected a LoRA (--lora FILE), got none")
        if not self.has_lora_blocks:
            self.sites = (*self.sites, *lora_sites(self.transformer, self.loras.names))
            self._layouts = {}

    def forget_loras(self) -> None:
        """After their layers were taken away, or became part of the base: its fingerprint is another one."""
        self.loras = Loras(self.pipeline)
        self.sites = tuple(site for site in self.sites if site.extra != "lora")
        self._layouts = {}
        self.__dict__.pop("_base_fingerprint", None)

    @property
    def has_lora_blocks(self) -> bool:
        """Whether layouts have scales for the blocks of LoRAs."""
        return any(site.extra == "lora" for site in self.sites)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the base, and of the LoRAs that are on with their strengths."""
        return self.fingerprint_with(None)

    def fingerprint_with(self, loras: Sequence[LoraUse] | None) -> str:
        """As `fingerprint`, of what a request with these LoRAs paints with; that of the base for none."""
        return self.loras.fingerprint(self._base_fingerprint, self.loras.resolve(loras))

    @cached_property
    def _base_fingerprint(self) -> str:
        """SHA-256 over configurations and weights of all parts: every value of a part with up to 64 million
        parameters, else 64 values spread over each tensor. Two backbones that paint alike share it.
        """
        digest = hashlib.sha256(self.options.painting.encode())
        for name, part in sorted(self.pipeline.components.items()):
            if part is None:
                continue
            config = getattr(part, "config", None)
            if config is not None:
                digest.update(f"{name} {type(part).__name__} {_stable(config)}".encode())
            if isinstance(part, torch.nn.Module):
                _read_weights(unwrapped(part), digest)
        own = {k: v for k, v in self.pipeline.config.items() if k not in self.pipeline.components}
        if any(not key.startswith("_") for key in own):  # Krea 2's is_distilled, say
            digest.update(_stable(own).encode())
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
        for part in _plain_tensors(tensor.detach()):
            flat = part.reshape(-1)
            if not whole and len(flat) > _SAMPLE:
                at = torch.linspace(0, len(flat) - 1, _SAMPLE, dtype=torch.float64).long()
                flat = flat[at.to(flat.device)]
            digest.update(flat.contiguous().cpu().view(torch.uint8).numpy().tobytes())


def _plain_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a quantised tensor is made of: torchao's and quanto's hold others, GGUF's is one with a note."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        yield tensor
    elif hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain_tensors(getattr(tensor, name))
    else:
        yield tensor.as_subclass(torch.Tensor)


def load_backbone(
    name_or_path: str | Path,
    *,
    options: LoadOptions | None = None,
    device: str | None = None,
    dtype: str | None = None,
    offload: Offload | None = None,
    quantisation: str | None = None,
    lora: str | Path | Sequence[str | Path] | None = None,
    lora_blocks: bool | None = None,
    compile: bool | None = None,
) -> Backbone:
    """Load a pipeline by catalog name, folder or hub id.

    `options`: all of how it is loaded; what else is given here comes before it. `device`: auto (CUDA, then
    MPS, then CPU) or a torch device. `dtype`: auto (bfloat16 on CUDA, else float32), float32, bfloat16,
    float16, or mixed: float32 with matrix products in bfloat16, the same noise as float32. `offload`: model,
    sequential or group (CUDA only). `quantisation`: of the transformer, a name of QUANTISATIONS. `lora`: a
    file, folder or hub id, with a strength behind a colon, or several. `lora_blocks`: their strengths in each
    block are scales of the layouts too. `compile`: compile the transformer's repeated blocks when they first
    run: a minute at most, then 1.3 times as fast on a CPU.

    Raises BackboneError that says what was expected. Only a hub id makes it use the network.
    """
    how = replace_given(
        options or USUAL,
        device=device,
        dtype=dtype,
        offload=offload,
        quantisation=quantisation,
        loras=None if lora is None else tuple(map(str, [lora] if isinstance(lora, str | Path) else lora)),
        lora_blocks=lora_blocks,
        compile=compile,
    ).check()
    spec = resolve(name_or_path)
    where = find_device(how.device)
    kind = _dtype(how.dtype, where)
    check_machine(how, where)
    if spec.name == "tabletop" and not spec.is_local:
        raise BackboneError(f"the embedded backbone is not there: expected it in {spec.source}")
    with _quiet():
        pipeline = _from_pretrained(spec, kind, how)
    backbone = Backbone(pipeline, spec, options=how)
    _ = backbone.fingerprint  # offload may take the weights out of sight
    backbone.add_loras(how.loras)
    if how.lora_blocks:
        backbone.use_lora_blocks()
    place(pipeline, where, how)
    if how.compile:
        compile_backbone(backbone)
    return backbone


def check_backbone(name_or_path: str | Path, options: LoadOptions = USUAL) -> None:
    """Raises BackboneError for what can be told to fail without reading weights: the options, the machine,
    the pipeline's class and its parts. Of a hub id, the index is fetched.
    """
    options.check()
    check_machine(options, find_device(options.device))
    spec = resolve(name_or_path)
    if options.transformer:
        find_file(options.transformer)
    try:
        index = _read_index(spec)
        class_name = _transformer_class(index, spec)
        _check_pipeline(str(index.get("_class_name")), family_of(class_name))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{spec.source} cannot be loaded: {first_line(error)}") from error
    if not spec.is_local:
        return
    given = "transformer" if options.transformer else ""
    for part, entry in index.items():
        named = isinstance(entry, list | tuple) and len(entry) == 2 and all(entry)
        if named and part not in (given, *spec.parts) and not (Path(spec.source) / part).is_dir():
            raise BackboneError(f"{spec.name} cannot be loaded: its folder {part} is not there")


def _read_index(spec: BackboneSpec) -> dict[str, Any]:
    from diffusers import DiffusionPipeline

    index: dict[str, Any] = DiffusionPipeline.load_config(
        spec.source, revision=spec.revision, local_files_only=spec.is_local
    )
    return index


def _dtype(dtype: str, where: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if where.type == "cuda" else torch.float32
    # Mixed: weights and latents; matrix products are in bfloat16.
    return torch.float32 if dtype == "mixed" else getattr(torch, dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and advice of diffusers and transformers while loading; errors still come through."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():  # torch_dtype is renamed dtype, which diffusers 0.38 does not know
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for library, (level, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()


def _from_pretrained(spec: BackboneSpec, kind: torch.dtype, how: LoadOptions) -> DiffusionPipeline:
    from diffusers import DiffusionPipeline
    from diffusers.quantizers import PipelineQuantizationConfig

    options: dict[str, Any] = {"torch_dtype": kind, "revision": spec.revision}
    options["local_files_only"] = spec.is_local
    try:
        index = _read_index(spec)
        class_name = _transformer_class(index, spec)
        _check_pipeline(str(index.get("_class_name")), family_of(class_name))
        options |= {part: None for part in _absent_parts(index)}
        options |= {part: _load_part(part, source, kind) for part, source in spec.parts.items()}
        if how.transformer:
            options["transformer"] = load_transformer(how.transformer, class_name, spec, kind)
        if how.quantisation and how.quantisation != STORED:
            options["quantization_config"] = PipelineQuantizationConfig(
                quant_mapping={"transformer": make_quantiser(how.quantisation, kind)}
            )
        pipeline = DiffusionPipeline.from_pretrained(spec.source, **options)
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, AttributeError) as error:
        first = first_line(error)
        if is_out_of_memory(error):
            first = "it does not fit into memory. Choose a smaller one, or bfloat16"
        raise BackboneError(f"{spec.source} cannot be loaded: {first}") from error
    if how.quantisation == STORED:
        pipeline.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=kind)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_pipeline(name: str, family: ModuleType) -> None:
    """Raises BackboneError where the renderer cannot drive a pipeline of this class."""
    if name not in family.PIPELINES:
        wanted = " or ".join(family.PIPELINES) or "pipeline class, which this family lacks in diffusers"
        raise BackboneError(f"{name} cannot be rendered with: expected a {wanted}")


def _load_part(part: str, source: str, kind: torch.dtype) -> Any:
    """A tokenizer or a language model that the pipeline's own repository is without."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = Path(source).is_dir()
    try:
        if part.startswith("tokenizer"):
            return AutoTokenizer.from_pretrained(source, local_files_only=local)
        return AutoModelForCausalLM.from_pretrained(source, dtype=kind, local_files_only=local)
    except (OSError, ValueError) as error:
        raise BackboneError(f"{part} cannot be loaded from {source}: {first_line(error)}") from error


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
