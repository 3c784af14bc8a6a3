"""What pages are given: everything that outlives a page, opened and closed in one place."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from calibri.errors import CalibriError
from calibri.memory import keep_freed_memory
from studio.access.limits import Limits
from studio.access.rights import Rights
from studio.access.signin import Signin
from studio.calibrations import CalibrationStore
from studio.diagnose.sweeps import Sweeps
from studio.library.thumbnails import Thumbnails
from studio.machine.host import ModelHost
from studio.machine.rewards import Scorer
from studio.search.jobs import SearchJobs
from studio.settings import ASSETS, Settings
from studio.studies.storage.database import Database
from studio.studies.studies import Studies
from studio.visitors import Visitors


@dataclass
class Services:
    """Passed to every page's `build`. Optional members are None until their room is opened.

    `studies`: everything about human preference studies; `db`: their DuckDB owner. `jobs`: background
    searches. `sweeps`: background sweeps. `thumbnails`: small pictures of the saved calibrations. `limits`:
    what a public studio renders for one visitor; whatever renders for people asks. `signin`: who its
    organisers are. `rights`: what somebody may do; every handler that changes something shared asks.
    """

    settings: Settings
    host: ModelHost
    calibrations: CalibrationStore
    scorer: Scorer = field(default_factory=Scorer)
    visitors: Visitors = field(default_factory=Visitors)
    assets: Path = ASSETS
    studies: Studies | None = None
    jobs: SearchJobs | None = None
    sweeps: Sweeps | None = None
    thumbnails: Thumbnails | None = None
    signin: Signin = field(init=False)
    rights: Rights = field(init=False)
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self.signin = Signin(self.settings)
        self.rights = Rights(self.settings, self.signin)
        self.limits = Limits(self.settings, self.signin.caller)

    @property
    def db(self) -> Database | None:
        """The owner of the votes."""
        return self.studies.db if self.studies is not None else None

    def start(self) -> None:
        """Load the backbone, then the rewards, in the background."""
        keep_freed_memory()
        self.host.load(self.settings.backbone)
        threading.Thread(target=self.warm, name="load-rewards", daemon=True).start()

    def warm(self) -> None:
        """Load the rewards of the backbone, once it is there."""
        try:
            backbone = self.host.wait_ready()
        except CalibriError:
            return  # the model bar says why
        self.scorer.warm(backbone.spec.name)

    def close(self) -> None:
        """Close what was opened, in reverse order. Safe to call twice."""
        for member in (self.thumbnails, self.sweeps, self.jobs, self.studies):
            close = getattr(member, "close", None)
            if close is not None:
                close()
