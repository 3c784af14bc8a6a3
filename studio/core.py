"""What pages are given: everything that outlives a page, opened and closed in one place."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from calibri.memory import keep_freed_memory
from studio.access.limits import Limits
from studio.access.signin import Signin
from studio.calibrations import CalibrationStore
from studio.diagnose.sweeps import Sweeps
from studio.library.thumbnails import Thumbnails
from studio.machine.host import ModelHost
from studio.machine.render_cache import RenderCache
from studio.machine.rewards import Scorer
from studio.search.jobs import SearchJobs
from studio.settings import ASSETS, Settings
from studio.studies.storage.database import Database
from studio.studies.studies import Studies, open_studies
from studio.visitors import Visitors

if TYPE_CHECKING:
    from gradio import Request

log = logging.getLogger(__name__)


@dataclass
class Services:
    """Passed to every page's `build`. Optional members are None until their room is opened.

    `studies`: everything about human preference studies; `db`: their DuckDB owner. `jobs`: background
    searches. `sweeps`: background sweeps. `thumbnails`: small pictures of the saved calibrations. `limits`:
    what a public studio renders for one visitor; whatever renders for people asks. `signin`: who its
    organisers are.
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
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self.signin = Signin(self.settings)
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

    def username(self, request: Request | None) -> str | None:
        """Who signed in, or None. Every handler that asks for rights asks here: a public studio does not use
        Gradio's own sign-in, which knows no visitors without an account."""
        if request is None:
            return None
        if self.settings.demo:
            return self.signin.organiser(request.cookies)
        return request.username

    def organisers_only(self, username: str | None) -> None:
        """Refuse what only an organiser may do in demo mode. Every handler that changes something shared
        asks."""
        if self.settings.demo and not username:
            raise CalibriError(
                "On this public studio only its organisers can do that, after signing in at /signin. "
                "Your own copy can do everything."
            )

    def may_organise(self, username: str | None) -> bool:
        """Whether this visitor may make studies and see results: whoever signed in, or anybody at a studio
        that no other machine can reach.
        """
        settings = self.settings
        local = settings.host in ("127.0.0.1", "localhost", "::1") and not settings.root_path
        outside = settings.demo or settings.share or not local  # root_path: a proxy lets others in
        return bool(username) or not outside

    def study_organisers_only(self, username: str | None) -> None:
        """Every handler that makes, changes or tells of studies asks: raters may reach the same server."""
        if not self.may_organise(username):
            raise CalibriError(
                "Only the organisers of this studio can do that, after signing in. Other machines can reach "
                "this studio: start it with --auth NAME:PASSWORD; raters vote at /ballot without an account."
            )

    def close(self) -> None:
        """Close what was opened, in reverse order. Safe to call twice."""
        for member in (self.thumbnails, self.sweeps, self.jobs, self.studies):
            close = getattr(member, "close", None)
            if close is not None:
                close()


def open_services(settings: Settings) -> Services:
    """The services of a running studio. Loads no model yet: `start()` does."""
    host = ModelHost(device=settings.device, dtype=settings.dtype, batch_size=settings.batch_size)
    calibrations = CalibrationStore(ASSETS / "calibrations", settings.data / "calibrations")
    jobs = None if settings.no_search else SearchJobs(host, settings.data / "runs", ASSETS)
    sweeps = thumbnails = None
    if jobs is not None:
        sweeps = Sweeps(settings.data / "sweeps", host, pace=jobs.pace, load=jobs.reward)
        renders = RenderCache(settings.data / "renders")
        thumbnails = Thumbnails(host, calibrations, settings.data / "thumbnails", renders)
    return Services(
        settings=settings,
        host=host,
        calibrations=calibrations,
        studies=open_studies(settings.data, host),
        jobs=jobs,
        sweeps=sweeps,
        thumbnails=thumbnails,
    )
