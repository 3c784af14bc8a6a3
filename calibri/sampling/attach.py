"""A calibration on a pipeline or transformer that somebody else calls, as they always call it.

v(x,t) = Σ_k w_k · v(x, t, c_k; s_k), one forward for each member, because the arguments of a foreign call are
not known: ControlNet residuals, image prompts, attention masks. The Renderer, which makes the call itself,
runs all members in one forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibri.backbones.adapter import adapter_of
from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.sites import family_of, unwrapped
from calibri.calibration.phases import counting_at, weights_at
from calibri.calibration.target import fit_calibration, pipeline_of, transformer_of
from calibri.errors import RenderError
from calibri.sampling.ensemble import call_of, prediction_of
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.request import Term
from calibri.sampling.trajectory import count_steps, find_step

if TYPE_CHECKING:
    from calibri.backbones.adapter import Adapter, Embeddings
    from calibri.calibration.artifact import Calibration


class AttachedCalibration(AbstractContextManager["Calibration"]):
    """Context manager: inside it every call of the transformer is calibrated, outside it is as it was.

    `with` gives the calibration in the order of the transformer's layout. May be entered again, but not
    twice at once.
    """

    def __init__(self, target: Any, calibration: Calibration, negative_prompt: str = "") -> None:
        """`target`: a pipeline, a Backbone or a transformer. `negative_prompt`: what negative members see on
        a pipeline. Raises BackboneError, LayoutError or RenderError for what does not fit.
        """
        self._transformer = transformer_of(target)
        self._pipeline = pipeline_of(target)
        self._calibration, layout = fit_calibration(calibration, self._transformer)
        self._sites = layout.sites
        # As the Renderer sorts them: a family may rescale to the first positive one.
        members = sorted(self._calibration.members, key=lambda each: each.condition != "positive")
        self._phased = tuple(members) if any(each.has_phase for each in members) else ()
        if self._phased and self._pipeline is None:
            raise RenderError(
                "this calibration has members that count in a part of the steps, and a bare transformer does "
                "not tell its step: put it on the pipeline"
            )
        terms = [
            Term(layout.expand(each.scales).astype(np.float32), weight, each.condition == "positive")
            for each, weight in zip(members, weights_at(members, 0, 1), strict=True)
            if weight != 0 or self._phased
        ]
        self._terms = tuple(terms)  # those that count at this step, where there are phases
        self._every = self._terms
        self._negatives: _Negatives | None = None
        self._adapter: Adapter | None = None
        has_negatives = not all(term.positive for term in terms)
        if self._pipeline is not None and (len(terms) > 1 or has_negatives):
            self._adapter = _adapter(self._pipeline, self._transformer)
            if has_negatives:
                if self._adapter.guides_itself:
                    raise RenderError(
                        f"{type(self._pipeline).__name__} guides with a transformer of its own: expected "
                        "positive members, got a negative one"
                    )
                _refuse_without_negatives(self._pipeline)
                self._negatives = _Negatives(self._pipeline, self._adapter, negative_prompt)
        self._hooks: ScaleHooks | None = None
        self._stack = ExitStack()
        self._call: Mapping[str, Any] = {}  # keyword arguments of the call under way
        self._within = False  # one of the forwards that this object asks for itself

    def __enter__(self) -> Calibration:
        first = self._terms[0]
        compiled = is_compiled(self._transformer)
        is_plain = len(self._terms) == 1 and first.weight == 1 and self._negatives is None
        is_plain = is_plain and not self._phased
        with ExitStack() as stack:
            hooks = stack.enter_context(ScaleHooks(self._transformer, self._sites, self._device()))
            hooks.set(first.scales)
            if not is_plain:
                before, after = self._before, self._after
                if compiled:
                    before, after = _eager(before), _eager(after)
                for handle in (
                    self._transformer.register_forward_pre_hook(before, with_kwargs=True),
                    self._transformer.register_forward_hook(after, with_kwargs=True),
                ):
                    stack.callback(handle.remove)
            if compiled:
                # Code that was compiled without hooks does not look for any: it must be compiled anew.
                torch._dynamo.reset()
                stack.callback(torch._dynamo.reset)
            self._hooks = hooks
            self._stack = stack.pop_all()
        return self._calibration

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._stack.close()
        self._hooks, self._call, self._within, self._terms = None, {}, False, self._every
        if self._negatives is not None:
            self._negatives.forget()

    def _device(self) -> torch.device:
        """Where scales wait: where the transformer runs, which with offload is not where its weights are."""
        found = getattr(self._pipeline, "_execution_device", None)
        if isinstance(found, torch.device):
            return found
        weights = next(unwrapped(self._transformer).parameters()).device
        return torch.device("cpu") if weights.type == "meta" else weights

    def _before(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The call becomes that of the first member."""
        if self._within or self._hooks is None:
            return None
        if len(self._every) > 1 and getattr(unwrapped(self._transformer), "is_cache_enabled", False):
            raise RenderError("a step cache is on, which mixes up the members: call disable_cache() first")
        if self._phased:
            self._choose_terms()
        self._call = call_of(module, args, kwargs)
        if self._negatives is not None:
            self._negatives.refuse_guidance(self._call)
        if len(self._every) > 1:
            self._hooks.set(self._terms[0].scales)
        return (), self._seen(self._terms[0])

    def _choose_terms(self) -> None:
        """The members that count at the step under way, with their weights there. Raises RenderError for
        none."""
        step, steps = find_step(self._pipeline), count_steps(self._pipeline)
        counting = counting_at(self._phased, step, steps)
        self._terms = tuple(replace(self._every[place], weight=weight) for place, weight in counting)

    def _after(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Runs the other members, and puts the weighted sum in the place of the first one's prediction."""
        if self._within or self._hooks is None:
            return None
        first, is_list = prediction_of(output)
        first = self._picture(first)
        total = _weighted(first, self._terms[0].weight)
        self._within = True
        try:
            for term in self._terms[1:]:
                self._hooks.set(term.scales)
                other, _ = prediction_of(module(**self._seen(term)))
                total = total + _weighted(self._picture(other), term.weight)
        finally:
            self._within, self._call = False, {}
        combined = total.to(first.dtype)
        if self._adapter is not None and len(self._terms) > 1:
            combined = self._adapter.finish(combined, first)
        told = list(combined.unbind()) if is_list else combined
        return (told, *output[1:]) if isinstance(output, tuple) else type(output)(sample=told)

    def _picture(self, prediction: torch.Tensor) -> torch.Tensor:
        """What of a prediction is of the picture: those for prompts of unlike lengths differ in the rest."""
        return prediction if self._adapter is None else self._adapter.picture(prediction, self._call)

    def _seen(self, term: Term) -> dict[str, Any]:
        """Keyword arguments for one member. Dictionaries are copied: a forward takes things out of them."""
        seen = {name: dict(each) if isinstance(each, dict) else each for name, each in self._call.items()}
        if len(self._every) > 1 and seen.get("kv_cache_mode") is not None:
            # What one member left in the cache is not what another would: each computes that part anew.
            if seen.get("num_ref_tokens") or getattr(seen.get("kv_cache"), "num_ref_tokens", 0):
                raise RenderError("an ensemble cannot use a key-value cache of reference pictures")
            seen |= {"kv_cache": None, "kv_cache_mode": None}
        if term.positive or self._negatives is None:
            return seen
        return {**seen, **self._negatives.arguments(self._call)}


class _Negatives:
    """What negative members see on a pipeline: the embeddings of one prompt, as the pipeline encodes it."""

    def __init__(self, pipeline: Any, adapter: Adapter, prompt: str) -> None:
        self._pipeline, self._adapter, self._prompt = pipeline, adapter, prompt
        self._encoded: dict[int, Embeddings] = {}  # by number of text tokens
        self._last: tuple[Any, Any, Any] = (None, None, None)  # latents, prompt and timestep of the last call

    def forget(self) -> None:
        """Frees what only calls inside the context need."""
        self._encoded, self._last = {}, (None, None, None)

    def arguments(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments that replace those of this call. Each row sees the negative prompt."""
        prompts = call[self._adapter.words]
        tokens = self._adapter.tokens_of(prompts)
        if tokens not in self._encoded:
            self._adapter.tokens = tokens
            try:
                with torch.no_grad():
                    self._encoded[tokens] = self._adapter.encode(self._prompt, negative=True)
            except (TypeError, ValueError, AttributeError) as error:
                raise RenderError(
                    f"this {type(self._pipeline).__name__} cannot encode the negative prompt "
                    f"{self._prompt!r}: {error}"
                ) from error
        rows = len(prompts)
        found = self._adapter.rows([self._encoded[tokens]] * rows, [None] * rows, call)
        found.pop("guidance", None)  # embedded guidance stays that of the call
        like = prompts
        while not isinstance(like, torch.Tensor):
            like = like[0]
        return {name: _moved(each, like) for name, each in found.items()}

    def refuse_guidance(self, call: Mapping[str, Any]) -> None:
        """Raises RenderError where the pipeline guides by itself: guidance would count twice.

        Pipelines guide by one call with both prompts, and say so in `do_classifier_free_guidance` (SD3), or
        by two calls in a row with the same latents (FLUX and Qwen-Image with `true_cfg_scale`).
        """
        words = self._adapter.words
        prompts = call.get(words)
        if prompts is None:
            raise RenderError(f"the transformer was called without the keyword argument {words}")
        latents = call.get("hidden_states")
        now = (latents, prompts, getattr(self._pipeline, "_current_timestep", None))
        is_second = (
            now[0] is not None
            and now[0] is self._last[0]
            and now[1] is not self._last[1]
            and now[2] is self._last[2]
        )
        in_batch = bool(getattr(self._pipeline, "do_classifier_free_guidance", False))
        if self._adapter.in_batch and isinstance(latents, torch.Tensor):
            in_batch = _is_doubled(latents) and not _is_doubled(prompts)
        self._last = now
        if in_batch or is_second:
            self._last = (None, None, None)
            raise RenderError(
                "this calibration has negative members, which are its guidance, and the pipeline guides "
                f"too: call it with {self._adapter.off} and give the "
                "negative prompt to load_calibration, or render with calibri.Renderer"
            )


def _adapter(pipeline: Any, transformer: torch.nn.Module) -> Adapter:
    """What the family knows of a pipeline. Raises RenderError where this one lacks what it needs."""
    family = family_of(type(unwrapped(transformer)).__name__)
    try:
        found = adapter_of(family, pipeline, BackboneSpec(name=type(pipeline).__name__, source="memory"))
    except AttributeError as error:
        raise RenderError(
            f"an ensemble cannot run on {type(pipeline).__name__} ({error}): use calibri.Renderer"
        ) from error
    return found


def _refuse_without_negatives(pipeline: Any) -> None:
    """Negative members need a pipeline that encodes a prompt alone, without pictures."""
    encode = getattr(pipeline, "encode_prompt", None)
    takes = inspect.signature(encode).parameters if callable(encode) else {}
    own = family_of(type(unwrapped(pipeline.transformer)).__name__).PIPELINES
    if "prompt" not in takes or ("image" in takes and type(pipeline).__name__ not in own):
        raise RenderError(
            f"this calibration has negative members, and {type(pipeline).__name__} cannot encode a negative "
            "prompt by itself: use a text-to-image pipeline, or calibri.Renderer"
        )


def _moved(value: Any, like: torch.Tensor) -> Any:
    """A tensor, or a list of them, on the device of another, and of its dtype where it holds fractions."""
    if isinstance(value, list):
        return [_moved(each, like) for each in value]
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(like.device, like.dtype if value.is_floating_point() else None)


def _is_doubled(rows: torch.Tensor) -> bool:
    """Whether the first half of a batch is the second one."""
    half = rows.shape[0] // 2
    return rows.shape[0] == 2 * half > 0 and torch.equal(rows[:half], rows[half:])


def _weighted(prediction: torch.Tensor, weight: float) -> torch.Tensor:
    """In float32 at least, as the Renderer sums."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32)) * weight


def is_compiled(transformer: torch.nn.Module) -> bool:
    """Whether any of it runs as compiled code, which does not look for hooks that are added later."""
    return any(
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
        for module in transformer.modules()
    )


def _eager(hook: Callable[..., Any]) -> Callable[..., Any]:
    """`hook`, left as it is by a compiler that takes the transformer's hooks along."""
    disabled: Callable[..., Any] = torch.compiler.disable(hook, recursive=False)
    return disabled
