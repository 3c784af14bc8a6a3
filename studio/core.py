"""Core: what every page needs, whatever else it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from calibri.assets import ASSETS
from calibri.errors import CalibriError
from calibri.memory import keep_freed_memory
from studio.access.limits import Limits
from studio.access.rights import Rights
from studio.access.signin import Signin
from studio.calibrations import CalibrationStore
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.rewards import RewardModels
from studio.settings import Settings
from studio.visitors import Visitors


@dataclass(frozen=True, eq=False)
class Core:
    """Passed to every page's `build`, before the page's own service.

    `limits`: what a public studio renders for one visitor; whatever renders for people asks. `signin`: who
    its organisers are. `rights`: what somebody may do; every handler that changes something shared asks. The
    three follow from `settings`.
    """

    settings: Settings
    host: ModelHost
    calibrations: CalibrationStore
    rewards: RewardModels = field(default_factory=RewardModels)
    visitors: Visitors = field(default_factory=Visitors)
    assets: Path = ASSETS
    signin: Signin = field(init=False)
    rights: Rights = field(init=False)
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        signin = Signin(self.settings)
        object.__setattr__(self, "signin", signin)
        object.__setattr__(self, "rights", Rights(self.settings, signin))
        object.__setattr__(self, "limits", Limits(self.settings, signin.caller))

    @property
    def backbone_name(self) -> str:
        """The backbone that is loaded or loading; empty for none."""
        return self.host.status.backbone

    def start(self) -> None:
        """Load the backbone, then the rewards, in the background."""
        keep_freed_memory()
        self.host.load(self.settings.backbone)
        Background("load-rewards").start(self.warm)

    def warm(self) -> None:
        """Load the rewards of the backbone, once it is there."""
        try:
            backbone = self.host.wait_ready()
        except CalibriError:
            return  # the model bar says why
        self.rewards.warm(backbone)
