"""What a search would cost, what its rewards need, how its prompts were read: the lines below the form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibri.errors import CalibriError
from calibri.search.config import SearchConfig
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.offers import describe_needs
from studio.rendering.prompt_files import describe_prompts
from studio.search.form import cost_of, read_page
from studio.search.jobs import Searches
from studio.search.view import cost_html
from studio.ui.elements import aside, hint, show_remark

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone


def estimate(
    core: Core, searches: Searches, sweeps: Sweeps, visitor: object, typed: Mapping[str, Any]
) -> str:
    """What the form would cost, or the field that does not fit, as HTML."""
    backbone = core.host.backbone
    if backbone is None:
        return show_remark("The cost is known when the backbone is loaded.")
    try:
        order = read_page(core, sweeps, visitor, typed)
        words = hint(cost_html(cost_of(searches.pace, order, backbone)))
        return words + "".join(aside(remark) for remark in remarks(core, backbone, order.config, typed))
    except CalibriError as error:
        return show_remark(str(error))


def remarks(core: Core, backbone: Backbone, config: SearchConfig, typed: Mapping[str, Any]) -> list[str]:
    """What the rewards of a search need, and what is said of its prompts."""
    ready = {state.name for state in core.rewards.states() if state.phase == "ready"}
    needing = [name for name in config.reward_names if name not in ready]
    needs = describe_needs(needing, config.reward_loading, backbone.device.type == "cuda")
    used = [*config.prompts, *config.validation_prompts, *config.held_out_prompts]
    return [*needs, *describe_prompts(backbone, typed.get("prompts"), used)]
