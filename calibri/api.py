"""What `import calibri` offers as functions: calibrations in plain diffusers, pictures, searches.

Loads nothing heavy until a function is called. `docs/library.md` shows every name at work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import ArtifactError, BackboneError, RenderError

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration
    from calibri.rewards.base import Reward
    from calibri.search.config import Budget, SearchConfig
    from calibri.search.records import Record


def load_calibration(
    pipeline_or_transformer: Any,
    file_or_calibration: str | Path | Calibration,
    *,
    negative_prompt: str = "",
) -> AbstractContextManager[Calibration]:
    """A context manager: inside it the pipeline paints with the calibration, outside it is as it was.

        with calibri.load_calibration(pipe, "file.json"):
            image = pipe("a red cube").images[0]

    Call the pipeline as you always do. Each prediction v(x, t, c) of the transformer becomes
    Σ_k w_k · v(x, t, c_k; s_k): of one member, its weight times its prediction; of several, one forward for
    each. A pipeline's own classifier-free guidance works on these predictions, its negative prompt included.

    `pipeline_or_transformer`: a diffusers pipeline, a Backbone, or a transformer of a known class. On a bare
    transformer all members see the arguments that it is called with, and its output (B, …) is their weighted
    sum, in its own dtype. `negative_prompt`: what members with the condition `negative` see on a pipeline;
    they are the guidance, so the pipeline's own must be off (`guidance_scale=1` or `true_cfg_scale=1`), and
    calling it with guidance raises a RenderError.

    One calibration at a time: a second `with` on the same transformer raises a RenderError, also by another
    pipeline that shares it. All scales 1 and one member of weight 1 give the bits of the base. A compiled
    transformer is compiled once more for each `with`.

    Raises ArtifactError for a file that is no calibration, BackboneError with the known classes for another
    transformer, LayoutError for a calibration of another backbone, and RenderError for negative members on a
    pipeline that cannot encode a negative prompt by itself.

    Source of the formula: the paper's ensemble of calibrated models, as in `Member`; classifier-free guidance
    of strength g is the ensemble of weights g and 1 − g.
    """
    from calibri.sampling.attach import AttachedCalibration

    found = _opened(file_or_calibration, pipeline_or_transformer)
    return AttachedCalibration(pipeline_or_transformer, found, negative_prompt)


def import_checkpoint(
    path: str | Path,
    pipeline_or_transformer: Any,
    *,
    backbone: str | None = None,
    round_to: str | None = None,
) -> Calibration:
    """A checkpoint of the paper's own code (`cmaes_step_0100.json`) as a calibration of this transformer.

    `backbone`: the name that it gets; None takes it from the pipeline where the catalog knows where that came
    from. `round_to`: `bfloat16` or `float16` rounds the scales as that code does when it applies them to a
    model of that dtype. What that code does with them is kept, and `found["warnings"]` says where it differs
    from what one would expect.

    Raises ArtifactError where the file is no such checkpoint or belongs to another backbone, BackboneError
    for a transformer of no known class.
    """
    from calibri.backbones.sites import sites_of
    from calibri.calibration.official import read_official
    from calibri.calibration.target import transformer_of

    sites = sites_of(transformer_of(pipeline_or_transformer))
    name = _backbone_name(pipeline_or_transformer) if backbone is None else backbone
    return read_official(path, sites, backbone=name, round_to=round_to)


def fold(pipeline_or_transformer: Any, calibration: str | Path | Calibration) -> None:
    """Multiplies one member into the transformer's weights, for good: the same pictures without this library.

    Each call multiplies once more. Products are computed in float32 and rounded once to the weights' dtype,
    so that pictures are equal to those of `load_calibration` up to that rounding.

    Raises ArtifactError, before any weight is changed, for an ensemble, a weight other than 1, a negative
    member, and weights that cannot be folded exactly: quantised, with a LoRA, or offloaded sequentially.
    LayoutError for a calibration of another backbone, RenderError inside `load_calibration`.
    """
    from calibri.backbones.sites import unwrapped
    from calibri.calibration.fold import fold_calibration
    from calibri.calibration.target import transformer_of
    from calibri.sampling.hooks import ATTRIBUTE

    transformer = transformer_of(pipeline_or_transformer)
    if any(hasattr(module, ATTRIBUTE) for module in unwrapped(transformer).modules()):
        raise RenderError("this transformer is scaled already: leave load_calibration before you fold")
    fold_calibration(transformer, _opened(calibration, pipeline_or_transformer))


def render(
    backbone: Backbone | str | Path,
    prompts: str | Sequence[str],
    calibration: str | Path | Calibration | None = None,
    *,
    seeds: int | Sequence[int] = 0,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    guidance: float | None = None,
    negative_prompt: str = "",
    embedded_guidance: float | None = None,
    loras: Mapping[str, float] | None = None,
    batch_size: int = 8,
) -> list[Image]:
    """RGB pictures of the prompts, in order; without `calibration` those of the base.

    `backbone`: loaded, or a name, folder or hub id to load. `seeds`: one for all prompts, or one for each;
    one prompt with several seeds gives a picture for each seed. `steps`, `height`, `width` (pixels): None
    takes the backbone's. `guidance`: classifier-free, for the base and for calibrations of one member; None
    is none; an ensemble has its own in its weights. `negative_prompt`: what guidance and negative members
    see. `embedded_guidance`: of distilled models such as FLUX.1-dev. `loras`: which of the backbone's LoRAs
    are on, each with its strength; None are all as they were loaded.

    Ensembles run all members in one forward. For progress, cancelling, or pictures of several calibrations in
    one batch, use a Renderer.

    Raises RenderError, LayoutError, ArtifactError or BackboneError for what cannot be rendered.
    """
    from calibri.backbones.loading import Backbone, load_backbone
    from calibri.backbones.lora_sites import adapters_of
    from calibri.sampling.renderer import Renderer, RenderRequest

    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    numbers = list(seeds) if isinstance(seeds, Iterable) else [seeds] * len(texts)
    if len(texts) == 1:
        texts = texts * len(numbers)
    if len(texts) != len(numbers):
        raise RenderError(f"expected one seed for each of {len(texts)} prompts, got {len(numbers)}")
    if isinstance(backbone, str | os.PathLike):
        backbone = load_backbone(backbone)
    if not isinstance(backbone, Backbone):
        raise BackboneError(f"expected a Backbone from load_backbone, got {type(backbone).__name__}")
    found = None if calibration is None else _opened(calibration, backbone)
    if found is not None and len(backbone.loras) and adapters_of(found.names):
        backbone.use_lora_blocks()
    requests = [
        RenderRequest.of(
            text,
            seed,
            backbone.spec.steps if steps is None else steps,
            found,
            guidance,
            height=height,
            width=width,
            negative_prompt=negative_prompt,
            embedded_guidance=embedded_guidance,
            loras=None if loras is None else tuple(loras.items()),
        )
        for text, seed in zip(texts, numbers, strict=True)
    ]
    return [rendered.image for rendered in Renderer(backbone, batch_size).render(requests)]


def run_search(
    config: SearchConfig | None,
    folder: str | Path,
    *,
    backbone: Backbone | None = None,
    rewards: Mapping[str, Reward] | None = None,
    budget: Budget | None = None,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Record]:
    """Searches scales; yields each record of the run once it is on the disk. Nothing runs until you iterate.

    `config`: from `SearchConfig.make`; None goes on with the run in `folder` where it stopped. `backbone`,
    `rewards`: loaded; None loads those that the config names, as it says.
    `budget`: images, minutes or generations of the whole run; None takes that of the last session, or 4,000
    images. `stop`: asked between batches; yes ends the search, which still judges and keeps what it has.
    `progress(done, total)`: images of the generation under way.

    The last record is a ResultRecord: its `verdict` compares the point reached with the base on held-out
    prompts, and `calibration` names the file in `folder` if it is better.

    Raises SearchError, JournalError, and what backbone and rewards raise; a run can be resumed after any of
    them.
    """
    from calibri.errors import SearchError
    from calibri.search.journal import JournalTail
    from calibri.search.run import run_search as run

    known = JournalTail(folder).config() if config is None else config
    if known is None:
        raise SearchError(f"expected a run folder to go on with, got {folder}, which has no config.json")
    if backbone is None:
        from calibri.backbones.loading import load_backbone

        backbone = load_backbone(known.backbone, options=known.load_options)
    if rewards is None:
        from calibri.rewards.own import admit_addresses, admit_recorded

        admit_recorded(known.reward_names)
        admit_addresses(known.reward_loading.sources.values())
        rewards = known.reward_loading.load(known.reward_names, backbone.device)
    yield from run(
        config, folder, backbone=backbone, rewards=rewards, budget=budget, stop=stop, progress=progress
    )


def _opened(file_or_calibration: Any, target: Any) -> Calibration:
    """The calibration in a file for this pipeline or transformer, or the calibration itself."""
    from calibri.backbones.sites import sites_of
    from calibri.calibration.artifact import Calibration
    from calibri.calibration.reading import read_calibration
    from calibri.calibration.target import transformer_of

    if isinstance(file_or_calibration, Calibration):
        return file_or_calibration
    if isinstance(file_or_calibration, str | os.PathLike):
        sites = sites_of(transformer_of(target))
        return read_calibration(os.fspath(file_or_calibration), sites, backbone=_backbone_name(target))
    raise ArtifactError(
        f"expected a calibration or the path of its file, got {type(file_or_calibration).__name__}"
    )


def _backbone_name(target: Any) -> str:
    """The catalog's name of what the pipeline was loaded from, or no name."""
    from calibri.backbones.catalog import CATALOG

    spec = getattr(target, "spec", None)
    if spec is not None:
        return str(spec.name)
    source = str(getattr(target, "name_or_path", "") or "")
    return next((spec.name for spec in CATALOG.values() if spec.source == source), "")
