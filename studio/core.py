"""Core: what every page needs, whatever else it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from calibri.assets import ASSETS
from calibri.backbones.catalog import BackboneSpec, resolve
from calibri.errors import BackboneError, CalibriError
from calibri.memory import keep_freed_memory
from studio.access.callers import Caller, Callers
from studio.access.limits import Limits
from studio.access.rights import Rights
from studio.access.signin import Signin
from studio.access.traffic import Traffic
from studio.calibrations import CalibrationStore, Entry
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.rewards import RewardModels
from studio.settings import HubApp, Settings
from studio.visitors import Visitors


@dataclass(frozen=True, eq=False)
class Core:
    """Passed to every page's `build`, before the page's own service.

    `limits`: what a public studio renders for one visitor; whatever renders for people asks. `signin`: who
    its organisers are. `rights`: what somebody may do; every handler that changes something shared asks.
    `callers`: who sends a request; `traffic`: how much of it. All follow from `settings`, and from
    `hub_app`, the sign-in that the hub offers a Space.
    """

    settings: Settings
    host: ModelHost
    calibrations: CalibrationStore
    rewards: RewardModels = field(default_factory=RewardModels)
    visitors: Visitors = field(default_factory=Visitors)
    assets: Path = ASSETS
    hub_app: HubApp | None = None
    signin: Signin = field(init=False)
    rights: Rights = field(init=False)
    limits: Limits = field(init=False)
    callers: Callers = field(init=False)
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        signin = Signin(self.settings, self.hub_app)
        object.__setattr__(self, "signin", signin)
        object.__setattr__(self, "rights", Rights(self.settings, signin))
        object.__setattr__(self, "callers", Callers(self.settings, signin))
        limits = Limits(self.settings, self.find_limited, where=self.find_address)
        object.__setattr__(self, "limits", limits)

    @property
    def backbone_name(self) -> str:
        """The backbone that is loaded or loading; empty for none."""
        return self.host.status.backbone

    @property
    def spec(self) -> BackboneSpec | None:
        """How the loaded backbone is used, else the one that the studio opens with; None where that is not
        known."""
        loaded = self.host.backbone
        try:
            return resolve(self.settings.backbone) if loaded is None else loaded.spec
        except BackboneError:
            return None

    def find_caller(self) -> Caller | None:
        """Who sent the event that this thread handles; None outside of an event."""
        from gradio.context import LocalContext  # seconds

        request = LocalContext.request.get(None)
        if request is None:
            return None
        return self.callers.know(request.cookies, request.client.host if request.client else "")

    def find_limited(self) -> str | None:
        """The key of the visitor whose event this thread handles; None for what is not limited."""
        caller = self.find_caller()
        return self.signin.caller() if caller is not None and not caller.organiser else None

    def find_address(self) -> str:
        """The address that this thread's event came from; empty outside of an event."""
        caller = self.find_caller()
        return caller.address if caller is not None else ""

    def fitting_calibrations(self) -> list[Entry]:
        """The saved calibrations of the loaded backbone; all where none is loaded or loading."""
        loaded = self.host.backbone
        return self.calibrations.entries(self.backbone_name or None, loaded.fingerprint if loaded else "")

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
