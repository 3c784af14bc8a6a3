"""A calibration on a pipeline or transformer that somebody else calls, as they always call it.

v(x,t) = Σ_k w_k · v(x, t, c_k; s_k), one forward for each member, because the arguments of a foreign call are
not known: ControlNet residuals, image prompts, attention masks. The Renderer, which makes the call itself,
runs all members in one forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.sites import family_of, unwrapped
from calibri.calibration.target import fit_calibration, pipeline_of, transformer_of
from calibri.errors import CalibriError, RenderError
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.request import Term

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
        terms = [
            Term(layout.expand(each.scales).astype(np.float32), each.weight, each.condition == "positive")
            for each in self._calibration.members
            if each.weight != 0
        ]
        # As the Renderer sorts them: a family may rescale to the first positive one.
        self._terms = tuple(sorted(terms, key=lambda term: not term.positive))
        self._negatives: _Negatives | None = None
        self._adapter: Adapter | None = None
        has_negatives = not all(term.positive for term in terms)
        if self._pipeline is not None and (len(terms) > 1 or has_negatives):
            self._adapter = _adapter(self._pipeline, self._transformer)
            if has_negatives:
                _refuse_without_negatives(self._pipeline)
                self._negatives = _Negatives(self._pipeline, self._adapter, negative_prompt)
        self._hooks: ScaleHooks | None = None
        self._stack = ExitStack()
        self._call: Mapping[str, Any] = {}  # keyword arguments of the call under way
        self._within = False  # one of the forwards that this object asks for itself

    def __enter__(self) -> Calibration:
        first = self._terms[0]
        is_compiled = _is_compiled(self._transformer)
        is_plain = len(self._terms) == 1 and first.weight == 1 and self._negatives is None
        with ExitStack() as stack:
            hooks = stack.enter_context(ScaleHooks(self._transformer, self._sites, self._device()))
            hooks.set(first.scales)
            if not is_plain:
                before, after = self._before, self._after
                if is_compiled:
                    before, after = _eager(before), _eager(after)
                for handle in (
                    self._transformer.register_forward_pre_hook(before, with_kwargs=True),
                    self._transformer.register_forward_hook(after, with_kwargs=True),
                ):
                    stack.callback(handle.remove)
            if is_compiled:
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
        self._hooks, self._call, self._within = None, {}, False
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
        if len(self._terms) > 1 and getattr(unwrapped(self._transformer), "is_cache_enabled", False):
            raise RenderError("a step cache is on, which mixes up the members: call disable_cache() first")
        if self._negatives is not None:
            self._negatives.refuse_guidance(kwargs)
        self._call = kwargs
        if len(self._terms) > 1:
            self._hooks.set(self._terms[0].scales)
        return args, self._seen(self._terms[0])

    def _after(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Runs the other members, and puts the weighted sum in the place of the first one's prediction."""
        if self._within or self._hooks is None:
            return None
        first = _prediction(output)
        total = _weighted(first, self._terms[0].weight)
        self._within = True
        try:
            for term in self._terms[1:]:
                self._hooks.set(term.scales)
                other = _prediction(module(*args, **self._seen(term)))
                total = total + _weighted(other, term.weight)
        finally:
            self._within, self._call = False, {}
        combined = total.to(first.dtype)
        if self._adapter is not None and len(self._terms) > 1:
            combined = self._adapter.finish(combined, first)
        return (combined, *output[1:]) if isinstance(output, tuple) else type(output)(sample=combined)

    def _seen(self, term: Term) -> dict[str, Any]:
        """Keyword arguments for one member. Dictionaries are copied: a forward takes things out of them."""
        seen = {name: dict(each) if isinstance(each, dict) else each for name, each in self._call.items()}
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
        prompts = call["encoder_hidden_states"]
        tokens = self._adapter.tokens_of(prompts)
        if tokens not in self._encoded:
            self._adapter.tokens = tokens
            try:
                with torch.no_grad():
                    self._encoded[tokens] = self._adapter.encode(self._prompt)
            except (TypeError, ValueError, AttributeError) as error:
                raise RenderError(
                    f"this {type(self._pipeline).__name__} cannot encode the negative prompt "
                    f"{self._prompt!r}: {error}"
                ) from error
        rows = prompts.shape[0]
        found = self._adapter.rows([self._encoded[tokens]] * rows, [None] * rows)
        found.pop("guidance", None)  # embedded guidance stays that of the call
        return {
            name: each.to(prompts.device, prompts.dtype if each.is_floating_point() else None)
            if isinstance(each, torch.Tensor)
            else each
            for name, each in found.items()
        }

    def refuse_guidance(self, call: Mapping[str, Any]) -> None:
        """Raises RenderError where the pipeline guides by itself: guidance would count twice.

        Pipelines guide by one call with both prompts, and say so in `do_classifier_free_guidance` (SD3), or
        by two calls in a row with the same latents (FLUX and Qwen-Image with `true_cfg_scale`).
        """
        prompts = call.get("encoder_hidden_states")
        if prompts is None:
            raise RenderError("the transformer was called without the keyword argument encoder_hidden_states")
        now = (call.get("hidden_states"), prompts, getattr(self._pipeline, "_current_timestep", None))
        is_second = (
            now[0] is not None
            and now[0] is self._last[0]
            and now[1] is not self._last[1]
            and now[2] is self._last[2]
        )
        in_batch = bool(getattr(self._pipeline, "do_classifier_free_guidance", False))
        self._last = now
        if in_batch or is_second:
            self._last = (None, None, None)
            raise RenderError(
                "this calibration has negative members, which are its guidance, and the pipeline guides "
                f"too: call it with {'guidance_scale=1' if in_batch else 'true_cfg_scale=1'} and give the "
                "negative prompt to load_calibration, or render with calibri.Renderer"
            )


def _adapter(pipeline: Any, transformer: torch.nn.Module) -> Adapter:
    """What the family knows of a pipeline. Raises RenderError where this one lacks what it needs."""
    family = family_of(type(unwrapped(transformer)).__name__)
    try:
        found: Adapter = family.adapter(pipeline, BackboneSpec(name=type(pipeline).__name__, source="memory"))
    except AttributeError as error:
        raise RenderError(
            f"an ensemble cannot run on {type(pipeline).__name__} ({error}): use calibri.Renderer"
        ) from error
    return found


def _refuse_without_negatives(pipeline: Any) -> None:
    """Negative members need a pipeline that encodes a prompt alone, without pictures."""
    encode = getattr(pipeline, "encode_prompt", None)
    takes = inspect.signature(encode).parameters if callable(encode) else {}
    if "prompt" not in takes or "image" in takes:
        raise RenderError(
            f"this calibration has negative members, and {type(pipeline).__name__} cannot encode a negative "
            "prompt by itself: use a text-to-image pipeline, or calibri.Renderer"
        )


def _prediction(output: Any) -> torch.Tensor:
    found = output[0] if isinstance(output, tuple) else getattr(output, "sample", None)
    if not isinstance(found, torch.Tensor):
        raise CalibriError(f"expected a prediction from the transformer, got {type(output).__name__}")
    return found


def _weighted(prediction: torch.Tensor, weight: float) -> torch.Tensor:
    """In float32 at least, as the Renderer sums."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32)) * weight


def _is_compiled(transformer: torch.nn.Module) -> bool:
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
