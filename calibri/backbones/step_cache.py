"""Step caches of diffusers: what attention gave at one step serves the next ones too.

Only caches that skip by the number of the step: a picture then does not depend on those it is rendered with.
They move pictures by more than rounding, so no search and no sweep renders with one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from calibri.errors import BackboneError, SearchError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from calibri.backbones.options import LoadOptions

CACHES = ("taylorseer", "pab")
USUAL_EVERY, MOST_EVERY = 2, 100
WARM_UP = 3  # steps that TaylorSeer computes before it predicts one

#: Caches of diffusers that are refused, and why.
REFUSED = {
    "first-block": "it decides by the whole batch, so that a picture would depend on those beside it",
    "sea": "it decides by the whole batch, so that a picture would depend on those beside it",
    "mag": "its ratios are measured for the base, and scales change them",
    "faster": "it predicts the pipeline's own guidance, which is off: guidance is an ensemble here",
}


class StepCache(NamedTuple):
    """`every`: one step of so many is computed in full."""

    name: str
    every: int


def read_step_cache(text: str) -> StepCache:
    """`taylorseer` or `taylorseer:3`. Raises BackboneError, with the reason for a cache that is refused."""
    name, colon, number = text.partition(":")
    if name in REFUSED:
        raise BackboneError(f"step-cache {name}: {REFUSED[name]}. Expected {' or '.join(CACHES)}")
    if name not in CACHES:
        raise BackboneError(f"step-cache {name!r}: expected {' or '.join(CACHES)}, or such as pab:3")
    if not colon:
        return StepCache(name, USUAL_EVERY)
    if not number.isdecimal() or not 2 <= int(number) <= MOST_EVERY:
        raise BackboneError(f"step-cache {text!r}: expected a whole number from 2 to {MOST_EVERY} behind it")
    return StepCache(name, int(number))


def refuse_step_cache(options: LoadOptions, what: str) -> None:
    """Raises SearchError where pictures would be measured that a cache has changed."""
    if options.step_cache:
        raise SearchError(
            f"{what} renders without a step cache, got {options.step_cache}: its scores would measure the "
            "cache too, which changes pictures as much as scales do"
        )


def enable_step_cache(pipeline: DiffusionPipeline, text: str) -> None:
    """Puts the cache on the transformer. Raises BackboneError where it finds nothing there."""
    import diffusers
    from diffusers.hooks.pyramid_attention_broadcast import _PYRAMID_ATTENTION_BROADCAST_HOOK
    from diffusers.hooks.taylorseer_cache import _TAYLORSEER_CACHE_HOOK

    cache, transformer = read_step_cache(text), pipeline.transformer
    hook = _TAYLORSEER_CACHE_HOOK if cache.name == "taylorseer" else _PYRAMID_ATTENTION_BROADCAST_HOOK
    if not hasattr(transformer, "enable_cache"):
        raise BackboneError(f"step-cache: {type(transformer).__name__} takes none")
    config: Any
    if cache.name == "taylorseer":
        # In the dtype of what is computed: bfloat16, which is usual, would move a float32 picture twice.
        config = diffusers.TaylorSeerCacheConfig(
            cache_interval=cache.every,
            disable_cache_before_step=WARM_UP,
            taylor_factors_dtype=transformer.dtype,
        )
    else:
        config = diffusers.PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=cache.every,
            current_timestep_callback=lambda: int(pipeline.current_timestep),
        )
        if not hasattr(type(pipeline), "current_timestep"):
            raise BackboneError(f"step-cache pab: {type(pipeline).__name__} does not tell its timestep")
    transformer.enable_cache(config)
    registries = [getattr(module, "_diffusers_hook", None) for module in transformer.modules()]
    if not any(registry is not None and registry.get_hook(hook) is not None for registry in registries):
        transformer.disable_cache()
        raise BackboneError(f"step-cache {cache.name} finds no attention in {type(transformer).__name__}")
