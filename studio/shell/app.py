"""The services of a studio and all its pages in one app. A new page is one module and one line in `pages`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gradio as gr
from gradio.utils import get_upload_folder

from calibri.assets import ASSETS
from calibri.rewards.own import admit_addresses
from studio.access import doors, gate, guard, hub
from studio.calibrations import CalibrationStore
from studio.compare import page as compare
from studio.core import Core
from studio.diagnose import page as diagnose
from studio.diagnose.sweeps import Sweeps
from studio.library import page as library
from studio.library.folding import FOLDER, Folding
from studio.library.thumbnails import Thumbnails
from studio.machine.host import ModelHost
from studio.machine.leftovers import Leftovers, Shelf
from studio.machine.render_cache import RenderCache
from studio.machine.rewards import RewardModels
from studio.machine.speed import Pace
from studio.machine.zero_gpu import Lend, ZeroGpu
from studio.quick_vote import page as quick_vote
from studio.rendering.shots import RENDERS
from studio.scales import page as scales
from studio.scales.keeping import find_bounds
from studio.scales.store import FOLDER as DRAFTS
from studio.search import hub_page, two_minutes
from studio.search import page as search
from studio.search.jobs import Searches
from studio.settings import Settings, on_space, read_hub_app
from studio.shell import api
from studio.shell.lanes import MOST_THREADS
from studio.shell.model_bar import model_bar
from studio.shell.tab_bar import draw_tabs
from studio.studies.example import open_example
from studio.studies.http import routes
from studio.studies.pages import manage, results, vote
from studio.studies.studies import Studies, open_studies
from studio.ui.blocks import MOST_SESSIONS, StudioBlocks
from studio.ui.elements import plotly_path
from studio.ui.theme import css, head, theme

MOST_SENT = 2 * 2**30  # bytes of files that browsers sent or were sent
MOST_RENDERS = 8 * 2**30


@dataclass(frozen=True)
class Studio:
    """Everything that outlives a page, opened and closed in one place. `searches`, `sweeps`, `thumbnails`,
    `folding`: None where nothing can run in the background; then there is no page Diagnose. `starts`: on a
    Space, where searches run as jobs of their visitors then, the sweeps that they may start from.
    `leftovers`: what keeps the disk from filling up."""

    core: Core
    studies: Studies
    searches: Searches | None = None
    sweeps: Sweeps | None = None
    thumbnails: Thumbnails | None = None
    starts: Sweeps | None = None
    leftovers: Leftovers | None = None
    folding: Folding | None = None

    def close(self) -> None:
        """Close what was opened, in reverse order. Safe to call twice."""
        services = (self.leftovers, self.folding, self.thumbnails, self.sweeps, self.searches, self.studies)
        for service in services:
            if service is not None:
                service.close()
        self.core.rewards.close()


class Page(NamedTuple):
    """A module with TITLE and PATH, and what lays it out inside the current Blocks."""

    module: ModuleType
    build: Callable[[], None]


def pages(studio: Studio) -> list[Page]:
    """The pages of this studio in the order of the navigation; the first is the one a newcomer sees."""
    core, studies, searches, sweeps = studio.core, studio.studies, studio.searches, studio.sweeps
    shown = [Page(compare, partial(compare.build, core)), Page(scales, partial(scales.build, core))]
    if sweeps is not None:
        if searches is not None:
            shown.append(Page(search, partial(search.build, core, searches, sweeps)))
            shown.append(Page(two_minutes, partial(two_minutes.build, core, searches, sweeps)))
        shown.append(Page(diagnose, partial(diagnose.build, core, sweeps)))
    elif studio.starts is not None:
        shown.append(Page(hub_page, partial(hub_page.build, core, studio.starts)))
    return [
        *shown,
        Page(library, partial(library.build, core, studio.thumbnails, studio.folding)),
        Page(quick_vote, partial(quick_vote.build, core, studies)),
        Page(manage, partial(manage.build, core, studies)),
        Page(vote, vote.build),
        Page(results, partial(results.build, core, studies)),
    ]


def build_app(studio: Studio) -> gr.Blocks:
    """The whole studio as one multi-page Blocks; nothing is loaded or started."""
    gr.set_static_paths([plotly_path()])
    core, searches = studio.core, studio.searches
    first, *others = shown = pages(studio)
    listed = [page.module for page in shown if getattr(page.module, "IN_NAVBAR", True)]
    app = StudioBlocks(title="Calibri Studio", analytics_enabled=False, fill_width=True)
    with app:
        _lay_out_navigation(listed, first.module)
        model_bar(core, searches)
        first.build()
        api.endpoints(core, searches)
    for module, build in others:
        with app.route(module.TITLE, module.PATH, show_in_navbar=getattr(module, "IN_NAVBAR", True)):
            _lay_out_navigation(listed, module)
            if getattr(module, "MODEL_BAR", True):
                model_bar(core, searches)
            build()
    return app


def _lay_out_navigation(listed: list[ModuleType], here: ModuleType) -> None:
    """The bar of pages above and, on a phone, below. A page for raters has none: what else there is is no
    business of theirs."""
    shown = getattr(here, "NAVIGATION", True)
    gr.Navbar(visible=shown, main_page_name=listed[0].TITLE)
    if shown:
        gr.HTML(draw_tabs(listed, here), elem_id="tab-bar")


def launch_options(studio: Studio) -> dict[str, Any]:
    """Arguments of `Blocks.launch` for these settings: look, limits, and nothing sent anywhere."""
    settings, door = studio.core.settings, studio.core.signin
    options: dict[str, Any] = {
        "server_name": settings.host,
        "share": settings.share,
        "theme": theme(),
        "css": css(),
        "head": head(),
        "footer_links": ["api", "settings"],
        "show_error": True,
        "quiet": True,
        # Gradio asks its own page, through a proxy where one is set, and starts only if it answers within
        # 3 seconds: a busy machine is slower, and a proxy does not know this address.
        "_frontend": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "pwa": False,
        "max_file_size": "2mb",
        "blocked_paths": [str(settings.data.resolve())],
        "allowed_paths": [],
        "state_session_capacity": MOST_SESSIONS,
        "max_threads": MOST_THREADS,
    }
    own = routes(studio.studies, signin=hub.BEGIN if door.hub is not None else "")
    if door.has_door:
        own += doors.routes(door)
    leftovers = studio.leftovers
    note = leftovers.note if leftovers is not None else (lambda size: None)
    # The guard comes first: whom it refuses costs nothing, and what it adds is on every answer.
    own_gate = gate.middleware(studio.core.callers, studio.core.traffic, note)
    options["app_kwargs"] = {"routes": own, "middleware": [*guard.middleware(door), *own_gate]}
    if settings.root_path:
        options["root_path"] = settings.root_path
    return options


def open_studio(settings: Settings, lend: Lend | None = None) -> Studio:
    """A studio with everything that these settings allow. Loads no model yet: `core.start()` does. `lend`:
    of ZeroGPU (`zero_gpu.find_lend`), None elsewhere."""
    gpu = ZeroGpu(lend) if lend is not None else None  # a Space on ZeroGPU must have such a function
    lent = gpu if settings.device != "cpu" else None
    host = ModelHost(options=settings.load_options, batch_size=settings.batch_size, lent=lent)
    calibrations = CalibrationStore(ASSETS / "calibrations", settings.data / "calibrations")
    # Outside of the calls that borrow the GPU there is none.
    shown_on = "cpu" if lent is not None else None
    admit_addresses(settings.reward_loading.sources.values())  # named at the start, by no page
    rewards = RewardModels(
        loading=settings.reward_loading, scores=settings.data / "scores.db", shown_on=shown_on
    )
    core = Core(settings, host, calibrations, rewards, hub_app=read_hub_app())
    studies = open_studies(settings.data, host, archive=settings.archive, key_text=settings.studies_key)
    studies.example = open_example(ASSETS)
    leftovers = open_leftovers(settings)
    if settings.no_search:
        starts = Sweeps(settings.data / "sweeps", host, pace=Pace(host), load=core.rewards.load)
        return Studio(core, studies, starts=starts if on_space() else None, leftovers=leftovers)
    searches = Searches(host, settings.data / "runs", ASSETS, core.rewards)
    sweeps = Sweeps(
        settings.data / "sweeps",
        host,
        pace=searches.pace,
        rewards=core.rewards,
        examples=ASSETS / "sweeps",
    )
    renders = RenderCache(settings.data / "renders")
    thumbnails = Thumbnails(host, core.calibrations, settings.data / "thumbnails", renders)
    folding = Folding(host, settings.data / FOLDER)
    return Studio(core, studies, searches, sweeps, thumbnails, leftovers=leftovers, folding=folding)


def open_leftovers(settings: Settings) -> Leftovers:
    """What sweeps the files that browsers sent and were sent, and pictures that can be rendered again."""
    sent = Shelf(Path(get_upload_folder()), kept=24 * 3600.0, most=MOST_SENT)
    bounds = find_bounds(settings.demo)
    drafts = Shelf(settings.data / DRAFTS, kept=bounds.kept, most=bounds.total)
    return Leftovers([sent, Shelf(settings.data / RENDERS, kept=None, most=MOST_RENDERS), drafts])
