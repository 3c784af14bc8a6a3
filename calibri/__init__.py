"""Calibri: a few dozen scales on a Diffusion Transformer's branches, found by gradient-free search."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibri.api import fold, import_checkpoint, load_calibration, render, run_search
    from calibri.backbones.catalog import BackboneSpec, known_backbones
    from calibri.backbones.loading import Backbone, load_backbone
    from calibri.backbones.sites import register_family
    from calibri.calibration.artifact import Calibration, Member
    from calibri.calibration.guidance import guide
    from calibri.errors import CalibriError
    from calibri.rewards.base import (
        Reward,
        RewardInfo,
        RewardTerm,
        known_rewards,
        load_reward,
        register_reward,
    )
    from calibri.sampling.guider import CalibriGuidance
    from calibri.sampling.renderer import Renderer
    from calibri.sampling.request import Rendered, RenderRequest
    from calibri.search.config import Budget, SearchConfig

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "BackboneSpec",
    "Budget",
    "Calibration",
    "CalibriError",
    "CalibriGuidance",
    "Member",
    "RenderRequest",
    "Rendered",
    "Renderer",
    "Reward",
    "RewardInfo",
    "RewardTerm",
    "SearchConfig",
    "__version__",
    "fold",
    "guide",
    "import_checkpoint",
    "known_backbones",
    "known_rewards",
    "load_backbone",
    "load_calibration",
    "load_reward",
    "register_family",
    "register_reward",
    "render",
    "run_search",
]

# Public name → the module that holds it, imported when the name is first used: importing `calibri` loads
# neither torch nor numpy.
_HOMES = {
    "Backbone": "calibri.backbones.loading",
    "BackboneSpec": "calibri.backbones.catalog",
    "Budget": "calibri.search.config",
    "Calibration": "calibri.calibration.artifact",
    "CalibriError": "calibri.errors",
    "CalibriGuidance": "calibri.sampling.guider",
    "Member": "calibri.calibration.artifact",
    "RenderRequest": "calibri.sampling.request",
    "Rendered": "calibri.sampling.request",
    "Renderer": "calibri.sampling.renderer",
    "Reward": "calibri.rewards.base",
    "RewardInfo": "calibri.rewards.base",
    "RewardTerm": "calibri.rewards.base",
    "SearchConfig": "calibri.search.config",
    "fold": "calibri.api",
    "guide": "calibri.calibration.guidance",
    "import_checkpoint": "calibri.api",
    "known_backbones": "calibri.backbones.catalog",
    "known_rewards": "calibri.rewards.base",
    "load_backbone": "calibri.backbones.loading",
    "load_calibration": "calibri.api",
    "load_reward": "calibri.rewards.base",
    "register_family": "calibri.backbones.sites",
    "register_reward": "calibri.rewards.base",
    "render": "calibri.api",
    "run_search": "calibri.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
