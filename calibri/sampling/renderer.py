"""Render requests → pictures: arms, candidates and ensembles mixed in one batch."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image

from calibri.backbones.loading import Backbone
from calibri.errors import RenderCancelled, RenderError
from calibri.memory import is_out_of_memory
from calibri.sampling.ensemble import Rows, member_rows
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.prompts import PromptCache
from calibri.sampling.request import Job, Rendered, RenderRequest, Term, check_request
from calibri.sampling.trajectory import find_step

__all__ = ["RenderRequest", "Rendered", "Renderer"]

log = logging.getLogger(__name__)

OnStep = Callable[[int, int], None]
Cancel = Callable[[], bool]
Turn = Callable[[], AbstractContextManager]


class Renderer:
    """Renders with one backbone. Threads that share it, or its backbone, take turns: see `render`.

    A picture depends on its request alone: noise comes from a CPU generator of its own, prompts are encoded
    one by one. What is left is the rounding of matrix products, which changes with the number of rows:
    below 1e-5 in float32, which may move a pixel by one level of 255. The same requests in the same
    order give the same bits.
    """

    def __init__(self, backbone: Backbone, batch_size: int = 8) -> None:
        """`batch_size`: pictures in one forward; each may have several members."""
        if batch_size < 1:
            raise RenderError(f"batch_size: expected 1 or more, got {batch_size}")
        self.backbone = backbone
        self.batch_size = batch_size
        self._prompts = PromptCache(backbone.adapter)

    def render(
        self,
        requests: Sequence[RenderRequest],
        *,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        turn: Turn = nullcontext,
    ) -> list[Rendered]:
        """Pictures in the order of `requests`.

        Requests of equal steps, size and LoRAs share batches, whatever their scales and members.
        `on_step(done, total)` counts sampling steps over all batches. `cancel` is asked before each batch
        and after each step; yes raises RenderCancelled. `turn()` makes a context manager that is held while
        one batch renders (a lock, say); between two batches the transformer is as it was. Where memory runs
        out, the batch is halved and rendered again, and later ones stay so small. Raises RenderError and
        LayoutError for what cannot be rendered.
        """
        groups = _groups(
            [check_request(request, place, self.backbone) for place, request in enumerate(requests)]
        )
        done: dict[int, Rendered] = {}
        progress = _Progress(on_step, cancel)
        while groups:
            group = groups.pop(0)
            progress.ask()
            with turn():
                batch, rest = group[: self.batch_size], group[self.batch_size :]
                progress.begin(batch, [rest, *groups], self.batch_size)
                pictures = self._try_batch(batch, progress)
            if pictures is None:
                groups.insert(0, group)
                continue
            progress.end()
            done.update((job.place, picture) for job, picture in zip(batch, pictures, strict=True))
            if rest:
                groups.insert(0, rest)
        return [done[place] for place in range(len(requests))]

    def _try_batch(self, batch: list[Job], progress: _Progress) -> list[Rendered] | None:
        """The pictures of a batch; None where memory ran out and batches are smaller from now on."""
        backbone = self.backbone
        cached = getattr(backbone.transformer, "is_cache_enabled", False)
        if cached and not backbone.options.step_cache:
            raise RenderError("a step cache is on, which does not know of scales: call disable_cache() first")
        try:
            with (
                backbone.loras.using(batch[0].loras),
                self._no_grad(),
                ScaleHooks(backbone.transformer, backbone.sites, backbone.device) as hooks,
            ):
                return self._render_batch(batch, hooks, progress)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise RenderError(
                    "not enough memory for one picture: choose a smaller size, fewer members, a smaller "
                    "dtype, or offload"
                ) from error
        torch.cuda.empty_cache()  # after the error, which keeps the tensors of the batch that failed
        self.batch_size = len(batch) // 2
        log.warning("out of memory: batches now hold %d pictures", self.batch_size)
        return None

    def _no_grad(self) -> AbstractContextManager:
        # Offload moves weights during a forward; what inference mode moved could never be changed again.
        return torch.no_grad() if self.backbone.options.offload else torch.inference_mode()

    def _cached(self) -> AbstractContextManager:
        """Where a step cache keeps what it keeps; pipelines that name a place of their own do so within."""
        if not self.backbone.options.step_cache:
            return nullcontext()
        context: AbstractContextManager = self.backbone.transformer.cache_context("calibri")
        return context

    def _autocast(self) -> AbstractContextManager:
        if not self.backbone.mixed:
            return nullcontext()
        return torch.autocast(self.backbone.device.type, dtype=torch.bfloat16)

    def _render_batch(self, batch: list[Job], hooks: ScaleHooks, progress: _Progress) -> list[Rendered]:
        began = time.perf_counter()
        adapter, pipeline = self.backbone.adapter, self.backbone.pipeline
        rows = Rows.of([[term.weight for term in job.terms] for job in batch])
        members = [(batch[i], batch[i].terms[k]) for i, k in rows.order]
        scales = np.stack([term.scales for _, term in members])
        hooks.set(scales)
        loras = self.backbone.loras.reads_text(batch[0].loras)
        seen = [
            self._prompts.get(job.request.prompt, loras=loras)
            if term.positive
            else self._prompts.get(job.request.negative_prompt, negative=True, loras=loras)
            for job, term in members
        ]
        guidance = [job.request.embedded_guidance for job, _ in members]
        positive = [self._prompts.get(job.request.prompt, loras=loras) for job in batch]
        groups = _alike([adapter.alike(each) for each in seen])
        weigh = _weigher(pipeline, [term for _, term in members], batch[0].request.steps)
        if self.backbone.options.step_cache:
            _check_forwards(len(groups), weigh is not None)
        if len(groups) > 1:
            positive = positive[:1] * len(batch)  # of one length; each row is given its own prompt
        plain = (
            adapter.takes_embeddings
            and rows.is_plain
            and weigh is None
            and len(groups) == 1
            and all(term.positive for _, term in members)
            and all(value is None for value in guidance)
        )
        combining: AbstractContextManager = nullcontext()
        if not plain:
            combining = member_rows(
                self.backbone.transformer,
                rows,
                adapter.repeated,
                lambda chosen, call: adapter.rows(
                    [seen[i] for i in chosen], [guidance[i] for i in chosen], call
                ),
                adapter.finish,
                groups,
                lambda chosen: hooks.set(scales[list(chosen)]),
                adapter.picture,
                weigh,
            )
        adapter.prepare(batch[0].height, batch[0].width)
        try:
            with combining, self._autocast(), self._cached():
                pixels = pipeline(
                    **adapter.call(positive, batch[0].guidance),
                    height=batch[0].height,
                    width=batch[0].width,
                    num_inference_steps=int(batch[0].request.steps),
                    generator=[torch.Generator("cpu").manual_seed(int(job.request.seed)) for job in batch],
                    output_type="pt",
                    **_reports(pipeline, progress),
                ).images
        except BaseException:
            pipeline.maybe_free_model_hooks()
            raise
        pictures = _pictures(pixels, batch)
        share = (time.perf_counter() - began) / sum(job.nfe for job in batch)
        return [
            Rendered(picture, job.request, job.nfe, share * job.nfe)
            for picture, job in zip(pictures, batch, strict=True)
        ]


def _groups(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that may share a forward, those with most members first."""
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        alike = (job.request.steps, job.height, job.width, job.guidance, job.loras)
        groups.setdefault(alike, []).append(job)
    return [sorted(group, key=lambda job: -len(job.terms)) for group in groups.values()]


def _check_forwards(groups: int, varies: bool) -> None:
    """Raises RenderError for what a step cache cannot serve: a step reuses what another one left."""
    if groups > 1:
        raise RenderError(
            f"a step cache knows one forward a step, prompts of unlike lengths need {groups}: render "
            "them one by one, or without it"
        )
    if varies:
        raise RenderError(
            "a step cache knows the same forward at every step, and members count in a part of the steps: "
            "render without it"
        )


def _weigher(pipeline: Any, terms: list[Term], steps: int) -> Callable[[], list[float]] | None:
    """What tells the weight of each row at the step under way; None where weights are always the same."""
    if all(term.by_step is None for term in terms):
        return None

    def weigh() -> list[float]:
        step = find_step(pipeline, steps)
        return [term.weight_at(step) for term in terms]

    return weigh


def _alike(answers: list[object]) -> list[list[int]]:
    """Rows of equal answers, in order."""
    groups: dict[object, list[int]] = {}
    for row, answer in enumerate(answers):
        groups.setdefault(answer, []).append(row)
    return list(groups.values())


def _reports(pipeline: Any, progress: _Progress) -> dict[str, Any]:
    """Arguments with which a pipeline tells of each step; PixArt's know the older way alone."""
    if "callback_on_step_end" in inspect.signature(pipeline.__call__).parameters:
        return {"callback_on_step_end": progress.step, "callback_on_step_end_tensor_inputs": []}
    return {"callback": progress.step, "callback_steps": 1}


def _pictures(pixels: torch.Tensor, batch: list[Job]) -> list[Image.Image]:
    """(B, 3, H, W) in [0, 1] → RGB pictures. Raises RenderError where a picture is not finite."""
    finite = torch.isfinite(pixels.float().sum(dim=(1, 2, 3))).tolist()
    for job, good in zip(batch, finite, strict=True):
        if not good:
            raise RenderError(
                f"the picture of {job.request.prompt!r} with seed {job.request.seed} is not finite: "
                "bring the scales nearer to 1, or use float32"
            )
    levels = (pixels.float() * 255).round().to(torch.uint8)
    array = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [Image.fromarray(each) for each in array]


class _Progress:
    """Counts steps over batches, and stops where the caller wants it."""

    def __init__(self, on_step: OnStep | None, cancel: Cancel | None) -> None:
        self._on_step, self._cancel = on_step, cancel
        self._finished = self._steps = self._now = self._left = self._told = 0

    def begin(self, batch: list[Job], rest: list[list[Job]], size: int) -> None:
        """A batch begins; `rest` are the groups after it, in batches of `size`."""
        self._steps, self._now = batch[0].request.steps, 0
        self._left = sum(-(-len(group) // size) * group[0].request.steps for group in rest if group)

    def end(self) -> None:
        self._finished += self._steps

    def step(self, *_: Any) -> dict[str, Any]:
        """The pipeline's callback at the end of each step."""
        self._now += 1
        done = self._finished + self._now
        if self._on_step is not None and done > self._told:  # a batch that was halved begins anew
            self._told = done
            self._on_step(done, self._finished + self._steps + self._left)
        if self._now < self._steps:
            self.ask()
        return {}

    def ask(self) -> None:
        """Raises RenderCancelled once the caller wants no more."""
        if self._cancel is not None and self._cancel():
            raise RenderCancelled("the render was cancelled")
