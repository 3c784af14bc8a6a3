"""What the node puts on a model: a wrapper around its forward, and for negative members their guidance.

    v(x,t) = Σ_k w_k · v(x, t, c_k; s_k)      over the members k: scales s, weight w, condition c

One member is one forward. Positive members see the sampler's positive prompt, negative ones its negative one:
a batch that holds both gives each row the scales of its side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .reading import Member
from .scaling import Scales
from .table import CalibrationError, Site

Executor = Callable[..., torch.Tensor]


class Calibrated:
    """Members on the sites of one model; called as a wrapper of ComfyUI's `apply_model`."""

    def __init__(self, sites: Sequence[Site], members: Sequence[Member], renormalised: bool = False) -> None:
        """`renormalised`: whether each token of a combined prediction gets the norm of the first positive
        one, as QwenImagePipeline does it.
        """
        self._sites = tuple(sites)
        self.members = tuple(sorted(members, key=lambda member: not member.positive))
        self._renormalised = renormalised and len(self.members) > 1
        self._scales = Scales(sites, [member.values for member in self.members])
        positive = [i for i, member in enumerate(self.members) if member.positive]
        negative = [i for i, member in enumerate(self.members) if not member.positive]
        # Without negative members there is no guidance here: then both prompts see the positive ones.
        self._sides = (positive, negative or positive)
        self.guides = bool(negative)
        if self.guides and not positive:
            raise CalibrationError("expected a positive member beside the negative ones")
        if self.guides and self._renormalised and len(positive) > 1:
            raise CalibrationError(
                f"expected one positive member beside negative ones for Qwen-Image, got {len(positive)}"
            )

    def times(self, other: Calibrated) -> Calibrated:
        """Both in a row: scales and weights multiply. Raises CalibrationError for two ensembles."""
        if len(self.members) > 1 and len(other.members) > 1:
            raise CalibrationError(
                f"expected at most one ensemble in a row of nodes, got two, of {len(self.members)} and "
                f"{len(other.members)} members: choose “replace”"
            )
        members = [
            Member(
                tuple(x * y for x, y in zip(a.values, b.values, strict=True)),
                a.weight * b.weight,
                a.positive and b.positive,
            )
            for a in self.members
            for b in other.members
        ]
        return Calibrated(self._sites, members, other._renormalised or self._renormalised)

    def totals(self) -> tuple[float, float]:
        """What the positive and the negative prediction count in guidance."""
        return self._total(0), self._total(1)

    def _total(self, side: int) -> float:
        """The sum of a side's weights, by which its predictions are divided, so that they stay predictions.
        1 where there is no guidance, or where that sum is next to nothing."""
        total = sum(self.members[i].weight for i in self._sides[side])
        return total if self.guides and abs(total) > 1e-3 else 1.0

    def __call__(self, executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`x`: (B, C, …) latents with noise; the result is the denoised ones, as `apply_model` gives them."""
        model = executor.class_obj.diffusion_model
        model = getattr(model, "_orig_mod", model)  # compiled
        sides = self._sides_of_rows(x, args, kwargs)
        members = [self._sides[side] for side in sides]  # of each row
        if len(self.members) == 1 and self.members[0].weight == 1:
            with self._scales.on(model, [0], x.device):
                return executor(x, *args, **kwargs)
        noise = first = torch.zeros_like(x, dtype=torch.float32)
        denoised = x
        for turn in range(max(map(len, members))):
            chosen = [each[min(turn, len(each) - 1)] for each in members]
            weights = [
                self.members[i].weight / self._total(side) if turn < len(each) else 0.0
                for i, each, side in zip(chosen, members, sides, strict=True)
            ]
            with self._scales.on(model, chosen, x.device):
                denoised = executor(x, *args, **_copied(kwargs))
            # Flow models: x − x₀ is the prediction times the noise's level, so it may be weighted and summed.
            part = x.float() - denoised.float()
            first = part if turn == 0 else first
            noise = noise + part * torch.tensor(weights, device=x.device).view(-1, *(1,) * (x.ndim - 1))
        if self._renormalised and not self.guides:
            noise = renormalise(noise, first)
        return (x.float() - noise).to(denoised.dtype)

    def _sides_of_rows(self, x: torch.Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
        """0 for each row with the positive prompt, 1 for one with the negative."""
        options = kwargs.get("transformer_options")
        if options is None and len(args) > 4:  # (t, c_concat, c_crossattn, control, transformer_options)
            options = args[4]
        parts = (options or {}).get("cond_or_uncond") or [0]
        if x.shape[0] % len(parts):
            raise CalibrationError(f"expected a batch of {len(parts)} equal parts, got {x.shape[0]} rows")
        if self.guides and max(parts) > 1:
            raise CalibrationError(
                "this calibration has negative members, which are its guidance: expected a sampler with one "
                f"positive and one negative prompt, got {max(parts) + 1} prompts"
            )
        return [int(part == 1) for part in parts for _ in range(x.shape[0] // len(parts))]

    def guide(self, args: Mapping[str, Any]) -> torch.Tensor:
        """In the place of the sampler's guidance: the weighted sum of both prompts' predictions. Its `cfg` is
        not used. Raises CalibrationError for a sampler without a negative prompt."""
        if args.get("input_uncond") is None:
            raise CalibrationError(
                "this calibration has negative members, which are its guidance: expected a sampler with a "
                "negative prompt (KSampler or CFGGuider)"
            )
        positive, negative = self.totals()
        noise: torch.Tensor = positive * args["cond"] + negative * args["uncond"]
        return renormalise(noise, args["cond"]) if self._renormalised else noise


def renormalise(combined: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, …, H, W) in which each token, 2×2 of them, has the norm that it has in `like`."""
    return combined * (_token_norms(like) / _token_norms(combined))


def _token_norms(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, …, H, W) → (B, 1, …, H, W)"""
    height, width = latents.shape[-2:]
    squares = latents.float().square().sum(1, keepdim=True)
    squares = torch.nn.functional.pad(squares, (0, width % 2, 0, height % 2))
    tokens = squares.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).sum((-1, -3))
    norms = tokens.sqrt().repeat_interleave(2, -1).repeat_interleave(2, -2)
    return norms[..., :height, :width]


def _copied(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Some models take things out of what a ControlNet gives them: each forward gets lists of its own."""
    control = kwargs.get("control")
    if not isinstance(control, dict):
        return dict(kwargs)
    fresh = {name: list(each) if isinstance(each, list) else each for name, each in control.items()}
    return {**kwargs, "control": fresh}
