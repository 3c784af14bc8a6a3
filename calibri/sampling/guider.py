"""A calibration where diffusers' modular pipelines take guiders: v(x,t) = Σ_k w_k · v(x, t, c_k; s_k).

The modular pipeline makes the calls, one for each member, and asks the guider what each sees and how their
predictions are put together. Whatever a family does after that (Qwen-Image rescales to the positive
prediction) is the pipeline's own.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.guiders import BaseGuidance
from diffusers.guiders.guider_utils import GuiderOutput

from calibri.backbones.sites import unwrapped
from calibri.calibration.artifact import Calibration
from calibri.calibration.phases import counting_at
from calibri.calibration.reading import read_calibration
from calibri.calibration.target import fit_calibration
from calibri.errors import ArtifactError, RenderError
from calibri.sampling.attach import is_compiled
from calibri.sampling.hooks import ScaleHooks

if TYPE_CHECKING:
    from diffusers.modular_pipelines.modular_pipeline import BlockState

    from calibri.backbones.layouts import Layout

POSITIVE, NEGATIVE = 0, 1  # places in what a pipeline gives for both prompts


class CalibriGuidance(BaseGuidance):
    """A guider: `pipe.update_components(guider=calibri.CalibriGuidance("file.json"))`.

    `calibration`: a Calibration, its file, `owner/name` of the hub, or its content as a dictionary. Negative
    members see the pipeline's `negative_prompt` and are its guidance: strength g is the ensemble of weights g
    and 1 − g. `start`, `stop`: between which shares of the steps it works; outside of them, and disabled, the
    model is the base without guidance. All scales 1 and one member of weight 1 give the bits of the base.

    Scales are in the transformer during one forward and are gone after it, also when it fails. Raises
    ArtifactError for what is no calibration. While it runs: LayoutError for a calibration of another
    backbone, RenderError for negative members without a negative prompt, and for a compiled transformer.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]

    def __init__(self, calibration: Any, start: float = 0.0, stop: float = 1.0, enabled: bool = True) -> None:
        super().__init__(start, stop, enabled)
        self.calibration = _read(calibration)
        content = self.calibration.model_dump(mode="json")
        self.register_to_config(calibration=content, start=start, stop=stop, enabled=enabled)
        # The first positive one comes first: what a pipeline rescales to.
        members = sorted(self.calibration.members, key=lambda member: member.condition != "positive")
        phased = self.calibration.has_phases  # one of weight 0 may pay for a balanced one
        self._members = tuple(member for member in members if member.weight != 0 or phased)
        self._within: ExitStack | None = None
        self._fitted: tuple[weakref.ref[torch.nn.Module], Layout, list[np.ndarray]] | None = None

    # what a pipeline asks

    @property
    def is_conditional(self) -> bool:
        """Whether the forward under way sees the prompt."""
        if not self._works():
            return True
        at, counting = max(self._count_prepared, 1) - 1, self._counting()
        return self._members[counting[min(at, len(counting) - 1)][0]].condition == "positive"

    @property
    def num_conditions(self) -> int:
        """Forwards of a step at which it works; at least two where a member needs the negative prompt, which
        pipelines encode, before the first step, for more than one."""
        if not self._enabled:
            return 1
        needs_both = any(member.condition == "negative" for member in self._members)
        return max(len(self._members), 2 if needs_both else 1)

    def _works(self) -> bool:
        if not self._enabled:
            return False
        if self._num_inference_steps is None or self._step is None:
            return True
        first, end = (int(share * self._num_inference_steps) for share in (self._start, self._stop))
        return bool(first <= self._step < end)

    def prepare_inputs(self, data: dict[str, Any]) -> list[BlockState]:
        """What each member's forward sees, from tensors or pairs of them for both prompts."""
        if self._needs_negatives() and not any(
            isinstance(value, tuple) and value[NEGATIVE] is not None for value in data.values()
        ):
            raise RenderError(_NO_NEGATIVES)
        return [self._prepare_batch(data, place, name) for name, place in self._batches()]

    def prepare_inputs_from_block_state(
        self, data: BlockState, input_fields: dict[str, str | tuple[str, str]]
    ) -> list[BlockState]:
        """The same, from the names of fields of a block's state."""
        pairs = [names for names in input_fields.values() if isinstance(names, tuple)]
        if self._needs_negatives() and not any(
            getattr(data, names[NEGATIVE], None) is not None for names in pairs
        ):
            raise RenderError(_NO_NEGATIVES)
        return [
            self._prepare_batch_from_block_state(input_fields, data, place, name)
            for name, place in self._batches()
        ]

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Scales of the next member into the transformer, for one forward."""
        super().prepare_models(denoiser)
        self.release()
        if not self._works():
            return
        if is_compiled(denoiser):
            raise RenderError(
                "a compiled transformer does not see the scales of a guider: compile it after this, or use "
                "calibri.load_calibration"
            )
        inner = unwrapped(denoiser)
        layout, scales = self._fit(inner)
        weights = next(inner.parameters()).device
        with ExitStack() as stack:
            device = torch.device("cpu") if weights.type == "meta" else weights
            hooks = stack.enter_context(ScaleHooks(inner, layout.sites, device))
            hooks.set(scales[self._counting()[self._count_prepared - 1][0]])
            # A forward that fails ends it, too: pipelines do not clean up then.
            ended = inner.register_forward_hook(lambda *_: self.release(), always_call=True)
            stack.callback(ended.remove)
            self._within = stack.pop_all()

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        """The transformer as it was."""
        self.release()

    def release(self) -> None:
        """Take scales out of the transformer that are there."""
        within, self._within = self._within, None
        if within is not None:
            within.close()

    def __call__(self, data: list[BlockState]) -> GuiderOutput:
        """The weighted sum of the members' predictions."""
        return self.forward(*(each.noise_pred for each in data))

    def forward(self, *predictions: torch.Tensor) -> GuiderOutput:
        """(B, …) predictions in the order of the forwards → their sum, computed in float32 at least."""
        negative = None
        if not self._works():
            return GuiderOutput(pred=predictions[0], pred_cond=predictions[0], pred_uncond=None)
        counting = self._counting()
        if len(predictions) != len(counting):
            raise RenderError(f"expected {len(counting)} predictions, got {len(predictions)}")
        first = predictions[0]
        if len(predictions) == 1 and counting[0][1] == 1:
            return GuiderOutput(pred=first, pred_cond=first, pred_uncond=None)
        wide = torch.promote_types(first.dtype, torch.float32)
        total = first.to(wide) * counting[0][1]
        for (place, weight), prediction in zip(counting[1:], predictions[1:], strict=True):
            total = total + prediction.to(wide) * weight
            if negative is None and self._members[place].condition == "negative":
                negative = prediction
        return GuiderOutput(pred=total.to(first.dtype), pred_cond=first, pred_uncond=negative)

    # helpers

    def _counting(self) -> list[tuple[int, float]]:
        """Places of the members that count at this step, and their weights there. Raises RenderError for
        none."""
        return counting_at(self._members, self._step or 0, self._num_inference_steps or 1)

    def _needs_negatives(self) -> bool:
        if not self._works():
            return False
        return any(self._members[place].condition == "negative" for place, _ in self._counting())

    def _batches(self) -> list[tuple[str, int]]:
        """Name and prompt of each forward of this step."""
        if not self._works():
            return [("pred_cond", POSITIVE)]
        return [
            (f"member {i + 1}", POSITIVE if self._members[i].condition == "positive" else NEGATIVE)
            for i, _ in self._counting()
        ]

    def _fit(self, transformer: torch.nn.Module) -> tuple[Layout, list[np.ndarray]]:
        """Its layout, and the scales of each forward, (n_sites,)."""
        if self._fitted is None or self._fitted[0]() is not transformer:
            calibration = self.calibration.changed(members=self._members)
            fitted, layout = fit_calibration(calibration, transformer)
            scales = [layout.expand(member.scales).astype(np.float32) for member in fitted.members]
            self._fitted = weakref.ref(transformer), layout, scales
        return self._fitted[1], self._fitted[2]


_NO_NEGATIVES = (
    "this calibration has negative members, and the pipeline encoded no negative prompt: give it a "
    "negative_prompt"
)


def _read(calibration: Any) -> Calibration:
    if isinstance(calibration, Calibration):
        return calibration
    if isinstance(calibration, str | Path):
        return read_calibration(calibration)
    if isinstance(calibration, Mapping):
        return Calibration(**{str(key): _plain(value) for key, value in calibration.items()})
    raise ArtifactError(f"expected a calibration or the path of its file, got {type(calibration).__name__}")


def _plain(value: Any) -> Any:
    """Lists and dictionaries of a configuration, which may be frozen, as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
